"""`ops dlq redrive`: no message is lost on its way back."""

import time
from collections import Counter
from itertools import count
from types import SimpleNamespace

import pytest

from tests.archiver.conftest import stage
from tests.scripts.operations.conftest import INTERRUPTED
from tests.scripts.operations.dlq.conftest import DEAD, POISON, bodies, call, put_dead_letter

SOURCE = {"archive": "ArchiveQueueUrl", "memory": "MemoryQueueUrl", "audio": "AudioQueueUrl"}


def test_a_redrive_is_previewed(stack, run_ops_json):
    put_dead_letter(stack, stage(stack, call("conv_1")))

    code, found = run_ops_json("dlq", "redrive", "archive")

    assert (code, found["title"], found["next"]) == (
        0, "1 of 1 message would be redriven", "Run the same command with --yes.",
    )  # fmt: skip
    assert bodies(stack, "ArchiveQueueUrl") == []


@pytest.mark.parametrize("queue", SOURCE)
def test_redriven_messages_are_back_in_the_queue_that_they_came_from(stack, run_ops_json, aws_calls, queue):
    sent = sorted(f"message {number}" for number in range(12))
    for body in sent:
        put_dead_letter(stack, body, queue, **POISON)

    code, found = run_ops_json("dlq", "redrive", queue, "--per-second", "1000", "--yes")

    assert (code, found["title"], found["next"]) == (
        0,
        "12 of 12 messages redriven",
        "./scripts/ops status --stack calls",
    )
    assert aws_calls.seen["ChangeMessageVisibilityBatch"] == 0
    assert sorted(bodies(stack, SOURCE[queue])) == sent
    assert bodies(stack, DEAD[queue]) == []


def test_a_redriven_recording_is_not_delayed_again(stack, run_ops_json):
    stack.sqs.set_queue_attributes(QueueUrl=stack.outputs["AudioQueueUrl"], Attributes={"DelaySeconds": "900"})
    put_dead_letter(stack, "a", "audio", **POISON)

    run_ops_json("dlq", "redrive", "audio", "--yes")

    assert bodies(stack, "AudioQueueUrl") == ["a"]


def test_a_redrive_keeps_to_its_rate(stack, run_ops_json):
    for number in range(4):
        put_dead_letter(stack, str(number), **POISON)
    begun = time.monotonic()

    run_ops_json("dlq", "redrive", "archive", "--per-second", "8", "--yes")

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
def test_an_interrupted_redrive_loses_and_doubles_nothing(stack, run_ops, aws_calls, operation, number, moved):
    sent = [f"message {each}" for each in range(25)]
    for each, body in enumerate(sent):
        put_dead_letter(stack, body, step="webhook", error="chosen" if each < 12 else "other")
    aws_calls.interrupt(operation, number)

    code, out, err = run_ops("dlq", "redrive", "archive", "--error", "chosen", "--per-second", "1000", "--yes")

    aws_calls.reset()
    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)
    redriven, left = bodies(stack, "ArchiveQueueUrl"), bodies(stack, "ArchiveDlqUrl")
    assert len(redriven) == moved
    assert Counter(redriven + left) == Counter(sent)


@pytest.mark.parametrize("operation", ["SendMessage", "DeleteMessage"])
def test_a_redrive_that_fails_leaves_every_message_in_sight(stack, run_ops, aws_calls, operation):
    for body in ("a", "b", "c"):
        put_dead_letter(stack, body, **POISON)
    aws_calls.refuse(operation)

    code, _, err = run_ops("dlq", "redrive", "archive", "--yes")
    aws_calls.reset()
    assert code == 2
    assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."
    assert sorted(bodies(stack, "ArchiveDlqUrl")) == ["a", "b", "c"]


def test_messages_that_are_no_longer_hidden_are_no_error(stack, run_ops_json, monkeypatch):
    monkeypatch.setattr("scripts.operations.dead_letters.HIDDEN_SECONDS", 1)
    for number in range(3):
        put_dead_letter(stack, f"chosen {number}", step="webhook", error="chosen")
    put_dead_letter(stack, "other", **POISON)

    code, _ = run_ops_json("dlq", "redrive", "archive", "--error", "chosen", "--per-second", "2.5", "--yes")

    assert code == 0
    assert sorted(bodies(stack, "ArchiveQueueUrl")) == ["chosen 0", "chosen 1", "chosen 2"]
    assert bodies(stack, "ArchiveDlqUrl") == ["other"]


def test_a_queue_that_keeps_filling_is_not_read_for_ever(stack, run_ops, aws_calls, monkeypatch):
    monkeypatch.setattr(
        "scripts.operations.dead_letters.time", SimpleNamespace(monotonic=count(0, 100).__next__)
    )  # 900 s are held
    put_dead_letter(stack, "first", **POISON)

    def another() -> None:
        assert aws_calls.seen["ReceiveMessage"] < 10
        put_dead_letter(stack, "another", **POISON)

    aws_calls.after("ReceiveMessage", another)

    code, out, _ = run_ops("dlq", "redrive", "archive")

    assert (code, out.splitlines()[0].strip()) == (0, "4 of 4 messages would be redriven")


def test_a_queue_that_answers_once_that_it_is_empty_is_asked_again(stack, run_ops_json, aws_calls):
    put_dead_letter(stack, "a", **POISON)
    aws_calls.answer("ReceiveMessage", {})

    _, found = run_ops_json("dlq", "show", "archive")

    assert len(found["rows"]) == 1
