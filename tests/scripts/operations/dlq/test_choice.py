"""Which messages a `dlq` command is about."""

import json
import time
from datetime import datetime, timezone
from hashlib import sha256

import pytest

from tests.archiver.conftest import stage, stage_recording
from tests.conftest import Stack
from tests.scripts.operations.dlq.conftest import (
    CALLER,
    POISON,
    announcement,
    bodies,
    call,
    put_dead_letter,
)


def put_all_kinds(stack: Stack) -> None:
    """Put dead letters about a call, an array with two calls, a recording, and no call into the archive's queue."""
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
        put_dead_letter(stack, check, **POISON)


@pytest.mark.parametrize(
    ("conversation", "calls"),
    [
        pytest.param("conv_1", ["conv_1"], id="staged alone"),
        pytest.param("conv_3", ["conv_2", "conv_3"], id="staged in an array"),
        pytest.param("conv_4", ["conv_4"], id="a recording"),
    ],
)
def test_a_claim_check_is_found_by_the_call_in_its_staged_body(stack, run_ops_json, aws_calls, conversation, calls):
    put_all_kinds(stack)

    _, found = run_ops_json("dlq", "show", "archive", "--conversation", conversation)

    assert [row["calls"] for row in found["rows"]] == [calls]


def test_a_recording_is_not_downloaded_to_learn_its_call(stack, run_ops_json, aws_calls):
    put_dead_letter(stack, stage_recording(stack, "conv_4", b"mp3"), **POISON)

    run_ops_json("dlq", "show", "archive")

    assert aws_calls.seen["GetObject"] == 0


def test_messages_without_a_call_are_shown_all_the_same(stack, run_ops_json):
    put_all_kinds(stack)

    _, found = run_ops_json("dlq", "show", "archive")

    assert len(found["rows"]) == 8
    assert [row["calls"] for row in found["rows"]].count([]) == 5


def test_messages_are_chosen_by_error_age_and_call(stack, run_ops_json, subtests):
    put_dead_letter(stack, announcement("conv_a"), "memory", **POISON)
    put_dead_letter(stack, announcement("conv_b"), "memory", step="mem0", error="Mem0 refused the key (401).")

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
            _, found = run_ops_json("dlq", "show", "memory", *choice)

            assert sorted(row["delivery"] for row in found["rows"]) == chosen


def test_the_age_is_that_of_the_message(stack, run_ops_json):
    put_dead_letter(stack, "old", **POISON)
    time.sleep(0.01)
    between = datetime.now(timezone.utc).isoformat()
    time.sleep(0.01)
    put_dead_letter(stack, "new", **POISON)

    _, since = run_ops_json("dlq", "redrive", "archive", "--since", between, "--yes")
    assert bodies(stack, "ArchiveQueueUrl") == ["new"]

    put_dead_letter(stack, "new", **POISON)
    _, until = run_ops_json("dlq", "redrive", "archive", "--until", between, "--yes")

    assert bodies(stack, "ArchiveQueueUrl") == ["old"]
    assert (since["title"], until["title"]) == ("1 of 2 messages redriven", "1 of 2 messages redriven")
