"""`ops verify` looks at staged bodies that are not archived, and whose calls may have no record yet."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from shared.unnamed import Unnamed
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import (
    NOON,
    archive_checks,
    receive_at,
    table,
    tag,
    transcript,
    write_log,
)

RANGE = ("--since", "2026-11-21")
ATTEMPT = timedelta(seconds=30)  # the visibility timeout of a queue in moto


def now() -> datetime:
    return datetime.now(timezone.utc)


def staged(stack: Stack, body: Any, *, at: datetime) -> str:
    """A staged body that arrived at that time, and whose message is not in a queue; returns its claim check."""
    check = stage(stack, body, now=at)
    receive_at(stack, staged_key(check), at)
    return check


def send(stack: Stack, output: str, check: str, **attributes: str) -> None:
    values: Any = {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
    stack.sqs.send_message(QueueUrl=stack.outputs[output], MessageBody=check, MessageAttributes=values)


def fail(check: str, error: str) -> None:
    """As the archiver logs a failed attempt."""
    delivery_id = json.loads(check)["delivery_id"]
    entry = {"level": "WARNING", "message": "Record processing exception; skipping this record"}
    write_log("archive", entry | {"delivery_id": delivery_id, "exception": f"Traceback\n{error}"})


def row(run_ops_json: Any, *words: str) -> tuple[int, dict[str, Any]]:
    code, found = run_ops_json("verify", *words)
    (row,) = found["rows"]
    return code, row | {"next": found.get("next", "")}


def test_a_call_that_has_just_been_staged_is_no_problem(stack, run_ops_json):
    send(stack, "ArchiveQueueUrl", staged(stack, transcript("conv_1"), at=now()))

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["call"], found["json"], found["problems"]) == (0, "conv_1", "staged", [])


def test_a_call_whose_attempts_fail_is_being_retried_and_says_why(stack, run_ops_json):
    check = staged(stack, transcript("conv_1"), at=now())
    send(stack, "ArchiveQueueUrl", check)
    fail(check, "shared.errors.StorageError: PutObject: AccessDenied")

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["json"]) == (1, "staged, being retried")
    assert found["problems"] == ["not archived. The last attempt failed: StorageError: PutObject: AccessDenied"]
    assert found["next"] == "./scripts/ops status --stack calls"


def test_a_call_that_waits_longer_than_one_attempt_is_a_problem(stack, run_ops_json):
    check = staged(stack, transcript("conv_1"), at=now() - ATTEMPT - timedelta(minutes=1))
    send(stack, "ArchiveQueueUrl", check)

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["json"]) == (1, "staged, waiting")
    assert found["problems"] == ["not archived after more than one attempt (30 s)"]
    assert found["next"] == "./scripts/ops status --stack calls"


def test_a_body_without_any_message_is_sent_again_by_a_replay(stack, run_ops_json):
    check = staged(stack, transcript("conv_1"), at=now() - ATTEMPT - timedelta(minutes=1))

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["json"]) == (1, "staged, without a message")
    assert found["problems"] == ["not archived, and ArchiveQueue has no message. The hourly run will send one"]
    assert found["next"] == f"./scripts/ops replay --key {staged_key(check)} --yes --stack calls"


def test_a_call_in_the_dead_letter_queue_is_named_with_its_reason_and_its_cure(stack, run_ops_json):
    poison, failed = (staged(stack, transcript(f"conv_{number}"), at=NOON) for number in (1, 2))
    send(stack, "ArchiveDlqUrl", poison, step="record", error="The record is full.")
    send(stack, "ArchiveDlqUrl", failed)
    fail(failed, "shared.errors.StorageError: PutObject: AccessDenied")

    code, found = run_ops_json("verify", *RANGE)

    assert code == 1
    assert {each["call"]: (each["json"], each["problems"]) for each in found["rows"]} == {
        "conv_1": ("in ArchiveDlq", ["record: The record is full."]),
        "conv_2": (
            "in ArchiveDlq",
            ["all attempts failed: StorageError: PutObject: AccessDenied"],
        ),
    }  # fmt: skip
    assert found["next"].splitlines() == [
        "Fix the cause, then run: ./scripts/ops dlq redrive archive --yes --stack calls",
        "./scripts/ops dlq show archive --stack calls",
    ]  # fmt: skip
    assert len(stack.take("ArchiveDlqUrl")) == 2


def test_a_dead_letter_is_found_by_its_call_however_old_it_is(stack, run_ops_json):
    send(stack, "ArchiveDlqUrl", staged(stack, transcript("conv_1"), at=NOON), step="record", error="It is full.")

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["json"]) == (1, "in ArchiveDlq")


def test_an_old_body_that_the_sweep_noted_is_found_by_its_call(stack, run_ops_json):
    check = staged(stack, transcript("conv_1"), at=NOON)
    Unnamed(table(stack)).note(staged_key(check))

    code, found = row(run_ops_json, "conv_1")

    assert (code, found["json"]) == (1, "staged, without a message")


def test_a_dropped_body_is_no_problem(stack, run_ops_json):
    check = staged(stack, transcript("conv_1"), at=NOON)
    Unnamed(table(stack)).note_dropped(staged_key(check), now())

    for words in (("conv_1",), RANGE):
        code, found = row(run_ops_json, *words)

        assert (code, found["json"], found["problems"]) == (0, "dropped", [])


def test_bodies_without_a_record_are_counted_in_a_time_range(stack, run_ops_json, archive, run_ops):
    archive("conv_1")
    note_remembered(stack, "conv_1")
    receive_at(stack, next(iter(stack.call("conv_1")["staged_keys"])), NOON)
    tag(stack, next(iter(stack.call("conv_1")["staged_keys"])))
    for number in range(2, 5):
        staged(stack, transcript(f"conv_{number}"), at=NOON)

    code, found = run_ops_json("verify", *RANGE, "--no-mem0")
    _, out, _ = run_ops("verify", *RANGE, "--no-mem0", "--problems")

    assert (code, found["title"]) == (1, "1 call and 3 unfinished payloads, 3 with a problem")
    assert found["next"] == "./scripts/ops replay --since TIME --unarchived --yes --stack calls"
    assert sorted(each["call"] for each in found["rows"] if each["problems"]) == ["conv_2", "conv_3", "conv_4"]
    assert "conv_4" in out


def note_remembered(stack: Stack, conversation_id: str) -> None:
    for kind in ("factual", "semantic"):
        table(stack).put_item(Item={"conversation_id": conversation_id, "item": f"memory#{kind}", "state": "done"})


def test_a_body_that_nobody_can_read_is_named_by_its_delivery(stack, run_ops_json):
    check = staged(stack, b"not json", at=NOON)

    _, found = row(run_ops_json, *RANGE)

    assert found["call"] == f"(delivery {json.loads(check)['delivery_id'][:12]})"


def test_audio_that_waits_for_its_transcript_is_named_as_such(stack, run_ops_json, context):
    check = stage_recording(stack, "conv_1", b"mp3", now=NOON)
    receive_at(stack, staged_key(check), NOON)
    archive_checks(context, check)

    code, found = row(run_ops_json, *RANGE)

    assert (code, found["json"]) == (1, "parked")
    assert found["problems"] == ["its audio is parked, and no transcript came"]
    assert found["next"] == "./scripts/ops reconcile --stack calls"


@pytest.mark.parametrize("words", [("--caller", "+12025550123"), ("--since", "2026-11-21", "--agent", "agent_1")])
def test_bodies_are_not_looked_at_for_a_caller_or_an_agent(stack, run_ops_json, words):
    staged(stack, transcript("conv_1"), at=NOON)

    code, found = run_ops_json("verify", *words)

    assert (code, found["rows"]) == (0, [])


def test_a_call_without_record_and_body_is_unknown(stack, run_ops):
    staged(stack, transcript("conv_2"), at=now())

    code, _, err = run_ops("verify", "conv_1")

    assert code == 1
    assert err.splitlines()[-1] == (
        "Nothing is known of conv_1: there is no record, no unfinished payload, and no message in ArchiveDlq."
    )


def test_no_tags_are_asked_for_that_a_time_range_leaves_out(stack, run_ops_json, aws_calls):
    staged(stack, transcript("conv_1"), at=NOON)

    run_ops_json("verify", "--since", "2026-11-22")

    assert aws_calls.seen["GetObjectTagging"] == 0


def test_a_queue_that_may_not_be_read_is_an_error(stack, run_ops, aws_calls):
    staged(stack, transcript("conv_1"), at=now())
    aws_calls.refuse("ReceiveMessage")

    code, out, err = run_ops("verify", "conv_1")

    assert (code, out) == (2, "")
    assert "ReceiveMessage" in err
