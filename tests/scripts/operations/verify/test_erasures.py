"""`ops verify` after an erasure that was interrupted, and after one that is complete."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, AwsCalls, note, receive_at, transcript
from tests.scripts.operations.verify.conftest import delete, json_key

RANGE = ("--since", "2026-11-21", "--no-mem0")
OF_THE_CALLER = "The erasure of +120…123 was interrupted: ./scripts/ops erase NUMBER --yes --stack calls"


@pytest.fixture
def more_outputs() -> dict[str, str]:
    timeouts = {f"{name}TimeoutSeconds": "-1" for name in ("Archive", "Memory", "Text")}
    return timeouts | {"MemoryUnknownSeconds": "3600"}


def interrupt(run_ops: Any, aws_calls: AwsCalls, tmp_path: Path, *words: str) -> None:
    """Start an erasure that cannot delete objects."""
    aws_calls.refuse("DeleteObject", "InternalError")
    code, _, _ = run_ops("erase", *words, "--yes", "--certificate", f"{tmp_path}/erasure.json")
    aws_calls.reset()
    assert (code, list(tmp_path.glob("erasure.*"))) == (1, [])


def test_objects_that_an_interrupted_erasure_left_are_shown(stack, run_ops, run_ops_json, whole, aws_calls, tmp_path):
    whole("conv_1")
    interrupt(run_ops, aws_calls, tmp_path, CALLER)

    code, found = run_ops_json("verify", "conv_1")

    (row,) = found["rows"]
    assert (code, row["json"], row["mp3"]) == (1, "still there", "still there")
    assert row["problems"] == ["erasure not finished"]


def test_an_object_that_is_gone_is_shown_as_erased(stack, run_ops, run_ops_json, whole, aws_calls, tmp_path):
    whole("conv_1")
    interrupt(run_ops, aws_calls, tmp_path, CALLER)
    delete(stack, json_key("conv_1"))

    _, found = run_ops_json("verify", "conv_1")

    assert (found["rows"][0]["json"], found["rows"][0]["mp3"]) == ("erased", "still there")


def test_the_cure_for_all_calls_of_a_caller_is_the_interrupted_command_once(
    stack, run_ops, run_ops_json, whole, aws_calls, tmp_path
):
    whole("conv_1")
    whole("conv_2")
    interrupt(run_ops, aws_calls, tmp_path, CALLER)

    _, found = run_ops_json("verify", *RANGE)

    assert (len(found["rows"]), found["next"]) == (2, OF_THE_CALLER)


def test_the_cure_for_the_erasure_of_one_call_names_the_call(stack, run_ops, run_ops_json, whole, aws_calls, tmp_path):
    whole("conv_1")
    interrupt(run_ops, aws_calls, tmp_path, "--conversation", "conv_1")

    _, found = run_ops_json("verify", *RANGE)

    assert (
        found["next"] == "This erasure was interrupted: ./scripts/ops erase --conversation conv_1 --yes --stack calls"
    )


def test_several_calls_without_an_interrupted_erasure_have_one_cure(stack, run_ops_json):
    for name in ("conv_1", "conv_2"):
        note(stack, name, erased_at="2026-11-21T12:00:00Z", audio="none", archived_at="2026-11-21T12:00:00Z")

    code, found = run_ops_json("verify", *RANGE)

    assert (code, len(found["rows"])) == (1, 2)
    assert found["next"] == "Erase the caller of these calls: ./scripts/ops erase NUMBER --yes --stack calls"


def late(stack: Stack) -> None:
    """A body of conv_1 that no message is about, and that has been waiting for hours."""
    at = datetime.now(timezone.utc) - timedelta(hours=5)
    check = stage(stack, transcript("conv_1"), now=at)
    receive_at(stack, staged_key(check), at)


def test_no_replay_is_proposed_for_a_body_of_an_erased_call(stack, run_ops_json):
    note(stack, "conv_1", erased_at="2026-11-21T12:00:00Z")
    late(stack)

    code, found = run_ops_json("verify", "--since", "24h")

    (row,) = found["rows"]
    assert (code, row["json"], row["problems"]) == (1, "still there", ["erasure not finished"])
    assert found["next"] == "Finish this erasure: ./scripts/ops erase --conversation conv_1 --yes --stack calls"


def test_other_calls_with_a_problem_still_have_their_cure(stack, run_ops, run_ops_json, whole, aws_calls, tmp_path):
    whole("conv_1")
    interrupt(run_ops, aws_calls, tmp_path, "--conversation", "conv_1")
    whole("conv_2")
    delete(stack, json_key("conv_2"))

    _, found = run_ops_json("verify", *RANGE)

    first, *_, last = found["next"].splitlines()
    assert "./scripts/ops dlq list" in first
    assert "./scripts/ops erase --conversation conv_1" in last
