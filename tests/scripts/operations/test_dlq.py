"""`ops dlq`: what dead letters say of themselves, and that none is lost on its way."""

import json
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from itertools import count
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from archiver.handler import lambda_handler
from scripts.operations.logs import log_group
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack, sqs_event
from tests.scripts.operations.conftest import INTERRUPTED, deploy_outputs, modes, write_log

CALLER = "+12025550123"
POISON = {"step": "webhook", "error": "The body is not JSON."}
UNKNOWN = "The function's log does not say why: it was killed, or the log is gone."
DEAD = {"archive": "ArchiveDlqUrl", "memory": "MemoryDlqUrl", "audio": "AudioDlqUrl"}
SOURCE = {"archive": "ArchiveQueueUrl", "memory": "MemoryQueueUrl", "audio": "AudioQueueUrl"}


def bury(stack: Stack, body: str, queue: str = "archive", **attributes: str) -> None:
    """Put a message into a dead-letter queue: with attributes as a function or SNS does, without as SQS does."""
    stack.sqs.send_message(
        QueueUrl=stack.outputs[DEAD[queue]], MessageBody=body,
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()},
    )  # fmt: skip


def call(conversation_id: str) -> dict[str, Any]:
    number = {"phone_call": {"external_number": CALLER}}
    return {"type": "post_call_transcription", "data": {"conversation_id": conversation_id, "metadata": number}}


def announcement(conversation_id: str) -> str:
    key = f"{CALLER[1:]}/{conversation_id}.json"
    return json.dumps({"conversation_id": conversation_id, "external_number": CALLER, "source_key": key})


def envelope(message: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "Message": message})


def bodies(stack: Stack, output: str) -> list[str]:
    return [message["Body"] for message in stack.take(output)]


def failed(conversation_id: str, exception: str, **fields: str) -> dict[str, str]:
    """What a function logs of a message that will be tried again."""
    said = {"level": "WARNING", "message": "Record processing exception; skipping this record"}
    return said | {"conversation_id": conversation_id, "exception": f"Traceback\n{exception}"} | fields


# ---------------------------------------------------------------- list


def test_each_queue_is_listed_with_its_reasons(stack, ask):
    for body in ("a", "b", "c"):
        bury(stack, body, **POISON)
    bury(stack, stage(stack, call("conv_1")))
    bury(stack, announcement("conv_2"), "memory", ErrorCode="403", ErrorMessage="SNS may not send")

    code, found = ask("dlq", "list")

    assert (code, found["next"]) == (1, "ops dlq show QUEUE")
    assert [(row["queue"], row["messages"], row["step"], row["error"]) for row in found["rows"]] == [
        ("archive", 3, "webhook", "The body is not JSON."),
        ("archive", 1, "retried in vain", UNKNOWN),
        ("memory", 1, "delivery by SNS", "SNS may not send"),
    ]


def test_empty_queues_are_well(say):
    code, out, _ = say("dlq", "list")

    assert (code, out) == (0, "All of them are empty.\n")


def test_a_stack_that_fetches_nothing_has_no_queue_for_it(stack, say):
    without = {name: value for name, value in stack.outputs.items() if not name.startswith("Audio")}
    deploy_outputs(without)

    listed, _, _ = say("dlq", "list")
    code, _, err = say("dlq", "show", "audio")

    assert listed == 0
    assert (code, err) == (2, "The stack has no audio queue: deploy it with the parameter ElevenLabsApiKey.\n")


# ---------------------------------------------------------------- show


def test_what_a_function_set_aside_names_its_call_and_its_step(stack, ask):
    check = stage(stack, call("conv_1"))
    bury(stack, check, step="audio", error="full_audio is missing, empty or not base64.")

    code, found = ask("dlq", "show", "archive")

    (row,) = found["rows"]
    assert (code, found["next"]) == (0, "heal the cause, then: ops dlq redrive archive --yes")
    assert (row["delivery"], row["calls"]) == (json.loads(check)["delivery_id"], ["conv_1"])
    assert (row["step"], row["error"]) == ("audio", "full_audio is missing, empty or not base64.")
    assert datetime.now(timezone.utc) - datetime.fromisoformat(row["oldest"]) < timedelta(minutes=1)


@pytest.mark.parametrize("wrap", [str, envelope], ids=["raw", "in its envelope"])
def test_what_sns_could_not_deliver_is_explained_and_goes_on_as_announced(stack, ask, wrap):
    bury(stack, wrap(announcement("conv_1")), "memory", ErrorCode="403", ErrorMessage="The queue's policy forbids it")

    _, found = ask("dlq", "show", "memory")
    ask("dlq", "redrive", "memory", "--yes")

    (row,) = found["rows"]
    assert (row["delivery"], row["calls"], row["step"]) == ("conv_1", ["conv_1"], "delivery by SNS")
    assert row["error"] == "The queue's policy forbids it"
    assert bodies(stack, "MemoryQueueUrl") == [announcement("conv_1")]


def test_the_reason_of_what_was_retried_in_vain_is_in_the_archivers_log(stack, ask, context, logs, monkeypatch):
    check = stage(stack, call("conv_1"))
    boto3.client("sns").delete_topic(TopicArn=stack.outputs["CallArchivedTopicArn"])
    lambda_handler(sqs_event(check), context)
    write_log("archive", *logs.getvalue().splitlines())
    bury(stack, check)

    _, found = ask("dlq", "show", "archive")

    (row,) = found["rows"]
    assert (row["calls"], row["step"]) == (["conv_1"], "retried in vain")
    assert row["error"].startswith("botocore.errorfactory.NotFoundException: An error occurred (NotFound)")


def test_the_last_failure_of_the_message_itself_is_its_reason(stack, ask):
    now = datetime.now(timezone.utc)
    bury(stack, announcement("conv_1"), "memory")
    write_log("memory", failed("conv_1", "shared.errors.PendingError: still working"), at=now, stream="one")
    write_log("memory", failed("conv_1", "Error: first"), at=now - timedelta(seconds=9), stream="two")
    write_log("memory", failed("conv_2", "Error: another's"), at=now + timedelta(seconds=9), stream="two")
    write_log("memory", failed("conv_1", "Error: none", level="INFO"), at=now + timedelta(seconds=9), stream="two")
    write_log("archive", failed("conv_1", "Error: of another function"), at=now + timedelta(seconds=9))

    _, found = ask("dlq", "show", "memory")

    assert [row["error"] for row in found["rows"]] == ["PendingError: still working"]


def test_a_log_is_read_once_for_all_messages(stack, ask, wire):
    for number in range(12):
        bury(stack, announcement(f"conv_{number}"), "memory")
        write_log("memory", failed(f"conv_{number}", f"Error: {number}"))

    _, found = ask("dlq", "list")

    assert sorted(row["error"] for row in found["rows"]) == sorted(f"Error: {number}" for number in range(12))
    assert wire.seen["FilterLogEvents"] == 1


def test_what_is_done_meanwhile_is_told_from_what_nobody_explains(stack, ask):
    done, open_ = stage(stack, call("conv_1")), stage(stack, call("conv_2"))
    stack.s3.put_object_tagging(
        Bucket=stack.bucket, Key=staged_key(done), Tagging={"TagSet": [{"Key": "archived", "Value": "true"}]}
    )
    bury(stack, done)
    bury(stack, open_)

    _, found = ask("dlq", "show", "archive")

    steps = {row["calls"][0]: (row["step"], row["error"]) for row in found["rows"]}
    assert steps["conv_1"][0] == "done meanwhile"
    assert steps["conv_2"] == ("retried in vain", UNKNOWN)


def test_no_number_is_shown(stack, say):
    bury(stack, announcement("conv_1"), "memory")
    bury(stack, announcement("conv_2"), "memory", ErrorCode="403")
    write_log("memory", failed("conv_1", f"KeyError: '{CALLER[1:]}/conv_1.json' of {CALLER}"))

    for words in (("show", "memory"), ("show", "memory", "--json"), ("list", "--json"), ("redrive", "memory")):
        _, out, err = say("dlq", *words)

        assert "conv_1" in out or "120…123/conv" in out
        assert CALLER[1:] not in out + err


def test_the_messages_of_a_delivery_are_one_row_that_tells_the_last_error(stack, ask):
    check = stage(stack, call("conv_1"))
    bury(stack, stage(stack, call("conv_2")), **POISON)
    for error in ("first", "second", "third"):
        bury(stack, check, step="webhook", error=error)
        time.sleep(0.002)

    _, found = ask("dlq", "show", "archive")

    assert [(row["calls"], row["messages"]) for row in found["rows"]] == [(["conv_1"], 3), (["conv_2"], 1)]
    assert found["rows"][0]["error"] == "third"


def test_how_often_a_message_was_received_is_shown(stack, ask):
    bury(stack, "a", **POISON)

    ask("dlq", "show", "archive")
    _, found = ask("dlq", "show", "archive")

    assert found["rows"][0]["receives"] == 2


def test_whatever_is_looked_at_is_back_at_once(stack, ask):
    sent = [f"message {number}" for number in range(25)]
    for body in sent:
        bury(stack, body, **POISON)

    _, shown = ask("dlq", "show", "archive")
    ask("dlq", "list")
    ask("dlq", "redrive", "archive")
    ask("dlq", "drop", "archive")

    assert len(shown["rows"]) == 25
    assert sorted(bodies(stack, "ArchiveDlqUrl")) == sorted(sent)
    assert bodies(stack, "ArchiveQueueUrl") == []


def test_people_get_a_table_and_what_to_do_next(stack, say):
    bury(stack, stage(stack, call("conv_1")), step="webhook", error="It holds [brackets].")

    _, out, _ = say("dlq", "show", "archive")

    assert out.startswith("Dead letters of the archive queue")
    assert "conv_1" in out.replace("\n", "")
    assert "[brackets]" in out
    assert out.endswith("Next: heal the cause, then: ops dlq redrive archive --yes\n")


# ---------------------------------------------------------------- choosing


def buried_kinds(stack: Stack) -> None:
    """In the archive's queue: a call, an array with two more, a recording, and what names none."""
    stack.s3.put_object(Bucket=stack.bucket, Key=f"{CALLER[1:]}/conv_1.json", Body=json.dumps(call("conv_1")))
    checks = [
        stage(stack, call("conv_1")),
        stage(stack, [call("no id!"), call("conv_2"), {"type": "other", "data": {}}, call("conv_3")]),
        stage_recording(stack, "conv_4", b"mp3"),
        stage_recording(stack, None, b"mp3"),
        stage(stack, b"not json"),
        "no claim check",
        json.dumps({"staged_key": f"{CALLER[1:]}/conv_1.json"}),
        json.dumps({"staged_key": f"staging/2026/11/22/10/{sha256().hexdigest()}.json"}),
    ]
    for check in checks:
        bury(stack, check, **POISON)


@pytest.mark.parametrize(
    ("conversation", "calls"),
    [
        pytest.param("conv_1", ["conv_1"], id="staged alone"),
        pytest.param("conv_3", ["conv_2", "conv_3"], id="staged in an array"),
        pytest.param("conv_4", ["conv_4"], id="a recording"),
    ],
)
def test_a_claim_check_is_found_by_the_call_in_its_staged_body(stack, ask, wire, conversation, calls):
    buried_kinds(stack)

    _, found = ask("dlq", "show", "archive", "--conversation", conversation)

    assert [row["calls"] for row in found["rows"]] == [calls]


def test_a_recording_is_not_downloaded_to_learn_its_call(stack, ask, wire):
    bury(stack, stage_recording(stack, "conv_4", b"mp3"), **POISON)

    ask("dlq", "show", "archive")

    assert wire.seen["GetObject"] == 0


def test_messages_without_a_call_are_shown_all_the_same(stack, ask):
    buried_kinds(stack)

    _, found = ask("dlq", "show", "archive")

    assert len(found["rows"]) == 8
    assert [row["calls"] for row in found["rows"]].count([]) == 5


def test_messages_are_chosen_by_error_age_and_call(stack, ask, subtests):
    bury(stack, announcement("conv_a"), "memory", **POISON)
    bury(stack, announcement("conv_b"), "memory", step="mem0", error="Mem0 refused the key (401).")

    for choice, chosen in (
        (["--error", "NOT json"], ["conv_a"]),
        (["--error", "WebHook: the body"], ["conv_a"]),
        (["--error", "mem0"], ["conv_b"]),
        (["--error", "nothing like it"], []),
        (["--conversation", "conv_b"], ["conv_b"]),
        (["--conversation", "conv_"], []),
        (["--since", "1m"], ["conv_a", "conv_b"]),
        (["--until", "1m"], []),
        (["--since", "1m", "--error", "mem0"], ["conv_b"]),
    ):
        with subtests.test(" ".join(choice)):
            _, found = ask("dlq", "show", "memory", *choice)

            assert sorted(row["delivery"] for row in found["rows"]) == chosen


def test_the_age_is_that_of_the_message(stack, ask):
    bury(stack, "old", **POISON)
    time.sleep(0.01)
    between = datetime.now(timezone.utc).isoformat()
    time.sleep(0.01)
    bury(stack, "new", **POISON)

    _, since = ask("dlq", "redrive", "archive", "--since", between, "--yes")
    assert bodies(stack, "ArchiveQueueUrl") == ["new"]

    bury(stack, "new", **POISON)
    _, until = ask("dlq", "redrive", "archive", "--until", between, "--yes")

    assert bodies(stack, "ArchiveQueueUrl") == ["old"]
    assert (since["title"], until["title"]) == ("1 of 2 messages redriven", "1 of 2 messages redriven")


# ---------------------------------------------------------------- redrive


def test_a_redrive_is_previewed(stack, ask):
    bury(stack, "a", **POISON)

    code, found = ask("dlq", "redrive", "archive")

    assert (code, found["title"], found["next"]) == (
        0, "1 of 1 messages would be redriven", "the same command with --yes",
    )  # fmt: skip
    assert bodies(stack, "ArchiveQueueUrl") == []


@pytest.mark.parametrize("queue", SOURCE)
def test_redriven_messages_are_back_in_the_queue_that_they_came_from(stack, ask, wire, queue):
    sent = sorted(f"message {number}" for number in range(12))
    for body in sent:
        bury(stack, body, queue, **POISON)

    code, found = ask("dlq", "redrive", queue, "--per-second", "1000", "--yes")

    assert (code, found["title"], found["next"]) == (0, "12 of 12 messages redriven", "ops status")
    assert wire.seen["ChangeMessageVisibilityBatch"] == 0
    assert sorted(bodies(stack, SOURCE[queue])) == sent
    assert bodies(stack, DEAD[queue]) == []


def test_a_redriven_recording_need_not_wait_once_more(stack, ask):
    stack.sqs.set_queue_attributes(QueueUrl=stack.outputs["AudioQueueUrl"], Attributes={"DelaySeconds": "900"})
    bury(stack, "a", "audio", **POISON)

    ask("dlq", "redrive", "audio", "--yes")

    assert bodies(stack, "AudioQueueUrl") == ["a"]


def test_a_redrive_keeps_to_its_rate(stack, ask):
    for number in range(4):
        bury(stack, str(number), **POISON)
    begun = time.monotonic()

    ask("dlq", "redrive", "archive", "--per-second", "8", "--yes")

    assert 0.5 <= time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("operation", "number", "moved"),
    [
        pytest.param("ReceiveMessage", 1, 0, id="while the first are received"),
        pytest.param("ReceiveMessage", 2, 0, id="while others are received"),
        pytest.param("SendMessage", 1, 1, id="while the first is sent"),
        pytest.param("SendMessage", 7, 7, id="while the seventh is sent"),
        pytest.param("DeleteMessage", 7, 7, id="while the seventh is deleted"),
        pytest.param("ChangeMessageVisibilityBatch", 1, 12, id="while the others are put back"),
    ],
)
def test_an_interrupted_redrive_loses_and_doubles_nothing(stack, say, wire, operation, number, moved):
    sent = [f"message {each}" for each in range(25)]
    for each, body in enumerate(sent):
        bury(stack, body, step="webhook", error="chosen" if each < 12 else "other")
    wire.interrupt(operation, number)

    code, out, err = say("dlq", "redrive", "archive", "--error", "chosen", "--per-second", "1000", "--yes")

    wire.calm()
    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)
    redriven, left = bodies(stack, "ArchiveQueueUrl"), bodies(stack, "ArchiveDlqUrl")
    assert len(redriven) == moved
    assert Counter(redriven + left) == Counter(sent)


@pytest.mark.parametrize("operation", ["SendMessage", "DeleteMessage"])
def test_a_redrive_that_fails_leaves_every_message_in_sight(stack, say, wire, operation):
    for body in ("a", "b", "c"):
        bury(stack, body, **POISON)
    wire.refuse(operation)

    code, _, err = say("dlq", "redrive", "archive", "--yes")
    wire.calm()
    assert code == 2
    assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."
    assert sorted(bodies(stack, "ArchiveDlqUrl")) == ["a", "b", "c"]


def test_a_hold_that_is_over_is_no_error(stack, ask, monkeypatch):
    monkeypatch.setattr("scripts.operations.dlq.HOLD_SECONDS", 1)
    for number in range(3):
        bury(stack, f"chosen {number}", step="webhook", error="chosen")
    bury(stack, "other", **POISON)

    code, _ = ask("dlq", "redrive", "archive", "--error", "chosen", "--per-second", "2.5", "--yes")

    assert code == 0
    assert sorted(bodies(stack, "ArchiveQueueUrl")) == ["chosen 0", "chosen 1", "chosen 2"]
    assert bodies(stack, "ArchiveDlqUrl") == ["other"]


def test_a_queue_that_fills_all_the_time_is_left_at_last(stack, say, wire, monkeypatch):
    monkeypatch.setattr(
        "scripts.operations.dlq.time", SimpleNamespace(monotonic=count(0, 100).__next__)
    )  # 900 s are held
    bury(stack, "first", **POISON)

    def another() -> None:
        assert wire.seen["ReceiveMessage"] < 10
        bury(stack, "another", **POISON)

    wire.after("ReceiveMessage", another)

    code, out, _ = say("dlq", "redrive", "archive")

    assert (code, out.splitlines()[0].strip()) == (0, "4 of 4 messages would be redriven")


def test_a_queue_that_says_once_that_it_is_empty_is_asked_again(stack, ask, wire):
    bury(stack, "a", **POISON)
    wire.answer("ReceiveMessage", {})

    _, found = ask("dlq", "show", "archive")

    assert len(found["rows"]) == 1


# ---------------------------------------------------------------- drop


def test_a_drop_is_previewed(stack, ask, tmp_path):
    bury(stack, "a", **POISON)

    code, found = ask("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"))

    assert (code, found["title"], found["next"]) == (
        0, "1 of 1 messages would be dropped", "the same command with --yes",
    )  # fmt: skip
    assert not (tmp_path / "dropped").exists()
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_what_is_dropped_is_kept_in_a_file_for_its_owner_alone(stack, ask, tmp_path):
    file = tmp_path / "dropped"
    bury(stack, "first", **POISON)
    bury(stack, "second", **POISON)
    bury(stack, "other", step="webhook", error="other")

    code, found = ask("dlq", "drop", "archive", "--error", "not json", "--save", str(file), "--yes")

    saved = [json.loads(line) for line in file.read_text().splitlines()]
    assert (code, found["title"]) == (0, "2 of 3 messages dropped")
    assert "next" not in found
    assert [(each["Queue"], each["Body"]) for each in saved] == [("archive", "first"), ("archive", "second")]
    assert saved[0]["MessageAttributes"]["error"]["StringValue"] == POISON["error"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert bodies(stack, "ArchiveDlqUrl") == ["other"]


def test_only_its_owner_may_read_what_was_dropped_whatever_the_umask(stack, ask, tmp_path, monkeypatch, careless):
    monkeypatch.chdir(tmp_path)
    bury(stack, "a", **POISON)

    ask("dlq", "drop", "archive", "--yes")

    assert [modes(each) for each in tmp_path.glob("*")] == [
        {each.name: "600"} for each in tmp_path.glob("dropped-archive-*")
    ]


def test_a_saved_body_is_what_the_source_queue_takes(stack, ask, tmp_path):
    bury(stack, envelope(announcement("conv_1")), "memory", ErrorCode="403")

    ask("dlq", "drop", "memory", "--save", str(tmp_path / "dropped"), "--yes")

    assert json.loads((tmp_path / "dropped").read_text())["Body"] == announcement("conv_1")


def test_a_file_of_its_own_name_is_in_the_folder_at_hand(stack, say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bury(stack, "a", **POISON)

    _, _, err = say("dlq", "drop", "archive", "--yes")

    (file,) = tmp_path.iterdir()
    assert file.name.startswith("dropped-archive-2")
    assert f"Saved 1 messages to {file.name}\n" in err


@pytest.mark.parametrize(("path", "why"), [("taken", "File exists"), ("nowhere/dropped", "No such file or directory")])
def test_nothing_is_dropped_that_cannot_be_saved(stack, say, tmp_path, path, why):
    (tmp_path / "taken").write_text("kept")
    bury(stack, "a", **POISON)

    code, _, err = say("dlq", "drop", "archive", "--save", str(tmp_path / path), "--yes")

    assert (code, err.splitlines()[-1]) == (2, f"Nothing was dropped: {tmp_path / path} could not be written ({why}).")
    assert (tmp_path / "taken").read_text() == "kept"
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_an_interrupted_drop_has_saved_all_and_leaves_the_rest(stack, say, wire, tmp_path):
    sent = {str(number) for number in range(12)}
    for body in sent:
        bury(stack, body, **POISON)
    wire.interrupt("DeleteMessage", 5)

    code, _, err = say("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"), "--yes")

    wire.calm()
    saved = {json.loads(line)["Body"] for line in (tmp_path / "dropped").read_text().splitlines()}
    left = bodies(stack, "ArchiveDlqUrl")
    assert (code, err.splitlines()[-1]) == (130, INTERRUPTED)
    assert (saved, len(left), set(left) <= sent) == (sent, 7, True)


# ---------------------------------------------------------------- what cannot be done


def test_an_empty_queue_is_said_to_be_empty(say, ask, tmp_path, monkeypatch, subtests):
    monkeypatch.chdir(tmp_path)

    for words, said in (
        (["show", "archive"], "No message.\n"),
        (["redrive", "archive", "--yes"], "No message to redrive.\n"),
        (["drop", "archive", "--yes"], "No message to drop.\n"),
    ):
        with subtests.test(words[0]):
            code, out, _ = say("dlq", *words)
            _, found = ask("dlq", *words)

            assert (code, out) == (0, said)
            assert (found["rows"], "next" in found) == ([], False)
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_there_is_not_is_refused(say):
    code, _, err = say("dlq", "show", "archives")

    assert (code, err) == (2, "There is no queue 'archives': choose one of archive, memory, audio.\n")


def test_a_missing_permission_is_named(stack, say, wire, subtests):
    bury(stack, stage_recording(stack, "conv_4", b"mp3"))
    bury(stack, stage(stack, call("conv_1")))

    for operation, code in (
        ("DescribeStacks", "AccessDenied"),
        ("ReceiveMessage", "AccessDenied"),
        ("GetObject", "AccessDenied"),
        ("HeadObject", "403"),
        ("DescribeStackResource", "AccessDenied"),
        ("FilterLogEvents", "AccessDeniedException"),
        ("GetObjectTagging", "AccessDenied"),
    ):
        with subtests.test(operation):
            wire.calm()
            wire.refuse(operation, code)
            log_group.cache_clear()

            exit_code, out, err = say("dlq", "show", "archive")

            assert (exit_code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} ({code}): your credentials may not do this."
