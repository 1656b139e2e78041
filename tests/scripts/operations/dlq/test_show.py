"""`ops dlq show`: what dead letters tell about themselves."""

import json
import time
from datetime import datetime, timedelta, timezone

import boto3
import pytest

from archiver.handler import lambda_handler
from tests.archiver.conftest import stage, staged_key
from tests.conftest import sqs_event
from tests.scripts.operations.conftest import write_log
from tests.scripts.operations.dlq.conftest import (
    CALLER,
    POISON,
    UNKNOWN,
    announcement,
    bodies,
    call,
    envelope,
    put_dead_letter,
)


def failed(conversation_id: str, exception: str, **fields: str) -> dict[str, str]:
    """What a function logs about a message that will be retried."""
    said = {"level": "WARNING", "message": "Record processing exception; skipping this record"}
    return said | {"conversation_id": conversation_id, "exception": f"Traceback\n{exception}"} | fields


def test_a_message_that_a_function_set_aside_has_its_call_and_its_step(stack, run_ops_json):
    check = stage(stack, call("conv_1"))
    put_dead_letter(stack, check, step="audio", error="full_audio is missing, empty or not base64.")

    code, found = run_ops_json("dlq", "show", "archive")

    (row,) = found["rows"]
    assert (code, "./scripts/ops dlq drop archive" in found["next"]) == (0, True)
    assert (row["delivery"], row["calls"]) == (json.loads(check)["delivery_id"], ["conv_1"])
    assert (row["step"], row["error"]) == ("audio", "full_audio is missing, empty or not base64.")
    assert datetime.now(timezone.utc) - datetime.fromisoformat(row["oldest"]) < timedelta(minutes=1)


@pytest.mark.parametrize("wrap", [str, envelope], ids=["raw", "in its envelope"])
def test_what_sns_could_not_deliver_is_explained_and_redriven_as_announced(stack, run_ops_json, wrap):
    message = wrap(announcement("conv_1"))
    put_dead_letter(stack, message, "memory", ErrorCode="403", ErrorMessage="The queue's policy forbids it")

    _, found = run_ops_json("dlq", "show", "memory")
    run_ops_json("dlq", "redrive", "memory", "--yes")

    (row,) = found["rows"]
    assert (row["delivery"], row["calls"], row["step"]) == ("conv_1", ["conv_1"], "delivery by SNS")
    assert row["error"] == "The queue's policy forbids it"
    assert bodies(stack, "MemoryQueueUrl") == [announcement("conv_1")]


def test_the_reason_of_what_failed_at_every_attempt_is_in_the_archivers_log(
    stack, run_ops_json, context, logs, monkeypatch
):
    check = stage(stack, call("conv_1"))
    boto3.client("sns").delete_topic(TopicArn=stack.outputs["CallArchivedTopicArn"])
    lambda_handler(sqs_event(check), context)
    write_log("archive", *logs.getvalue().splitlines())
    put_dead_letter(stack, check)

    _, found = run_ops_json("dlq", "show", "archive")

    (row,) = found["rows"]
    assert (row["calls"], row["step"]) == (["conv_1"], "all attempts failed")
    assert row["error"].startswith("botocore.errorfactory.NotFoundException: An error occurred (NotFound)")


def test_the_last_failure_of_the_message_itself_is_its_reason(stack, run_ops_json):
    now = datetime.now(timezone.utc)
    put_dead_letter(stack, announcement("conv_1"), "memory")
    write_log("memory", failed("conv_1", "shared.errors.PendingError: still working"), at=now, stream="one")
    write_log("memory", failed("conv_1", "Error: first"), at=now - timedelta(seconds=9), stream="two")
    write_log("memory", failed("conv_2", "Error: another's"), at=now + timedelta(seconds=9), stream="two")
    write_log("memory", failed("conv_1", "Error: none", level="INFO"), at=now + timedelta(seconds=9), stream="two")
    write_log("archive", failed("conv_1", "Error: of another function"), at=now + timedelta(seconds=9))

    _, found = run_ops_json("dlq", "show", "memory")

    assert [row["error"] for row in found["rows"]] == ["PendingError: still working"]


def test_a_log_is_read_once_for_all_messages(stack, run_ops_json, aws_calls):
    for number in range(12):
        put_dead_letter(stack, announcement(f"conv_{number}"), "memory")
        write_log("memory", failed(f"conv_{number}", f"Error: {number}"))

    _, found = run_ops_json("dlq", "list")

    assert sorted(row["error"] for row in found["rows"]) == sorted(f"Error: {number}" for number in range(12))
    assert aws_calls.seen["FilterLogEvents"] == 1


def test_a_message_whose_work_is_done_differs_from_an_unexplained_one(stack, run_ops_json):
    done, open_ = stage(stack, call("conv_1")), stage(stack, call("conv_2"))
    stack.s3.put_object_tagging(
        Bucket=stack.bucket, Key=staged_key(done), Tagging={"TagSet": [{"Key": "archived", "Value": "true"}]}
    )
    put_dead_letter(stack, done)
    put_dead_letter(stack, open_)

    _, found = run_ops_json("dlq", "show", "archive")

    steps = {row["calls"][0]: (row["step"], row["error"]) for row in found["rows"]}
    assert steps["conv_1"][0] == "already done"
    assert steps["conv_2"] == ("all attempts failed", UNKNOWN)


def test_no_number_is_shown(stack, run_ops):
    put_dead_letter(stack, announcement("conv_1"), "memory")
    put_dead_letter(stack, announcement("conv_2"), "memory", ErrorCode="403")
    write_log("memory", failed("conv_1", f"KeyError: '{CALLER[1:]}/conv_1.json' of {CALLER}"))

    for words in (("show", "memory"), ("show", "memory", "--json"), ("list", "--json"), ("redrive", "memory")):
        _, out, err = run_ops("dlq", *words)

        assert "conv_1" in out or "120…123/conv" in out
        assert CALLER[1:] not in out + err


def test_the_messages_of_a_delivery_are_one_row_with_the_last_error(stack, run_ops_json):
    check = stage(stack, call("conv_1"))
    put_dead_letter(stack, stage(stack, call("conv_2")), **POISON)
    for error in ("first", "second", "third"):
        put_dead_letter(stack, check, step="webhook", error=error)
        time.sleep(0.002)

    _, found = run_ops_json("dlq", "show", "archive")

    assert [(row["calls"], row["messages"]) for row in found["rows"]] == [(["conv_1"], 3), (["conv_2"], 1)]
    assert found["rows"][0]["error"] == "third"


def test_how_often_a_message_was_received_is_shown(stack, run_ops_json):
    put_dead_letter(stack, "a", **POISON)

    run_ops_json("dlq", "show", "archive")
    _, found = run_ops_json("dlq", "show", "archive")

    assert found["rows"][0]["receives"] == 2


def test_messages_that_were_shown_are_back_in_the_queue_at_once(stack, run_ops_json):
    sent = [f"message {number}" for number in range(25)]
    for body in sent:
        put_dead_letter(stack, body, **POISON)

    _, shown = run_ops_json("dlq", "show", "archive")
    run_ops_json("dlq", "list")
    run_ops_json("dlq", "redrive", "archive")
    run_ops_json("dlq", "drop", "archive")

    assert len(shown["rows"]) == 25
    assert sorted(bodies(stack, "ArchiveDlqUrl")) == sorted(sent)
    assert bodies(stack, "ArchiveQueueUrl") == []


def test_people_get_a_table_and_what_to_do_next(stack, run_ops):
    put_dead_letter(stack, stage(stack, call("conv_1")), step="webhook", error="It holds [brackets].")

    _, out, _ = run_ops("dlq", "show", "archive")

    assert out.startswith("Messages in the dead-letter queue archive")
    assert "conv_1" in out.replace("\n", "")
    assert "[brackets]" in out
    assert out.splitlines()[-1].startswith("      ./scripts/ops dlq drop")


@pytest.mark.parametrize(("queue", "is_shown"), [("archive", True), ("memory", False)])
def test_a_queue_whose_messages_name_no_payload_has_no_column_for_it(stack, run_ops, queue, is_shown):
    put_dead_letter(stack, stage(stack, call("conv_1")) if is_shown else announcement("conv_1"), queue, **POISON)

    _, out, _ = run_ops("dlq", "show", queue)

    assert ("  Payload" in out) == is_shown
