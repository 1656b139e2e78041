"""What an operator dropped, or the archiver cannot process, stays out of a replay unless it is asked for."""

import json
from datetime import datetime, timezone
from typing import Any

from shared.unnamed import Unnamed
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, NOON, note, table, tag
from tests.scripts.operations.replay.conftest import FAST, claimed, staged

RANGE = ("--since", "2026-11-21", *FAST)


def drop(stack: Stack, key: str) -> None:
    Unnamed(table(stack)).note_dropped(key, datetime.now(timezone.utc))


def set_aside(stack: Stack, key: str, **attributes: str) -> None:
    """As the archiver sends a poison message to its dead-letter queue, or SQS one that failed at every attempt."""
    values: Any = {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
    body = json.dumps({"delivery_id": key[-69:-5], "staged_key": key})
    stack.sqs.send_message(QueueUrl=stack.outputs["ArchiveDlqUrl"], MessageBody=body, MessageAttributes=values)


def test_a_dropped_body_stays_out_of_a_replay(stack, run_ops_json):
    dropped, other = staged(stack, "conv_1", NOON), staged(stack, "conv_2", NOON)
    drop(stack, dropped)

    for choice in ((), ("--unarchived",)):
        _, found = run_ops_json("replay", *RANGE, *choice, "--yes")

        assert (found["sent"], found["dropped"], claimed(stack)) == (1, 1, [other])


def test_a_dropped_body_is_replayed_if_it_is_asked_for(stack, run_ops_json):
    dropped, other = staged(stack, "conv_1", NOON), staged(stack, "conv_2", NOON)
    drop(stack, dropped)

    run_ops_json("replay", *RANGE, "--unarchived", "--dropped", "--yes")
    assert claimed(stack) == sorted([dropped, other])

    run_ops_json("replay", "--key", dropped, "--yes")
    assert claimed(stack) == [dropped]


def test_a_body_that_was_archived_after_its_drop_is_replayed_as_any_other(stack, run_ops_json):
    key = staged(stack, "conv_1", NOON)
    drop(stack, key)
    tag(stack, key)

    _, found = run_ops_json("replay", *RANGE, "--yes")

    assert (found["dropped"], claimed(stack)) == (0, [key])


def test_a_poison_body_whose_message_waits_in_the_dead_letter_queue_stays_out(stack, run_ops_json):
    poison, failed = staged(stack, "conv_1", NOON), staged(stack, "conv_2", NOON)
    set_aside(stack, poison, step="webhook", error="The body is not JSON.")
    set_aside(stack, failed)

    _, found = run_ops_json("replay", *RANGE, "--unarchived", "--yes")

    assert (found["poison"], claimed(stack)) == (1, [failed])
    assert len(stack.take("ArchiveDlqUrl")) == 2


def test_left_out_bodies_are_reported_with_the_command_that_shows_or_sends_them(stack, run_ops_json):
    dropped, poison = staged(stack, "conv_1", NOON), staged(stack, "conv_2", NOON)
    drop(stack, dropped)
    set_aside(stack, poison, step="webhook", error="The body is not JSON.")

    _, found = run_ops_json("replay", *RANGE, "--unarchived")

    assert found["payloads"] == 0
    assert found["next"].splitlines() == [
        "There is nothing to do",
        "Left out: 1 that an operator dropped. To send them too, add --dropped",
        "Left out: 1 that the archiver cannot process: ./scripts/ops dlq show archive --stack calls",
    ]


def test_a_replay_of_memories_alone_does_not_read_the_dead_letters(stack, run_ops_json, archive, aws_calls):
    archive("conv_1")

    _, found = run_ops_json("replay", "--caller", CALLER, "--only", "memory")

    assert found["calls"] == 1
    assert "dropped" not in found
    assert aws_calls.seen["ReceiveMessage"] == 0


def test_the_record_of_a_call_names_a_dropped_body_too(stack, run_ops_json, archive):
    key = archive("conv_1")
    newer = staged(stack, "conv_2", NOON)
    note(stack, "conv_1", staged_keys={key, newer})
    drop(stack, newer)

    run_ops_json("replay", "--conversation", "conv_1", "--yes")

    assert claimed(stack) == [key]
