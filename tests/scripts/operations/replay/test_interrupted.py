"""An interrupted replay continues and sends nothing twice."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.conftest import Stack
from tests.scripts.operations.conftest import (
    CALLER,
    INTERRUPTED,
    NOON,
    receive_at,
)
from tests.scripts.operations.replay.conftest import FAST, announced, claimed


@pytest.fixture
def six(stack: Stack, archive: Callable[..., str]) -> list[str]:
    """Calls by the time of their arrival, which is the reverse order of their names."""
    return [archive(f"conv_{6 - number}", at=NOON + timedelta(hours=number)) for number in range(6)]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        pytest.param("SendMessage", ["--since", "2026-11-21"], id="since a time"),
        pytest.param("SendMessage", ["--since", "9999d"], id="since so long ago"),
        pytest.param("PutItem", ["--caller", CALLER], id="of a caller, while it is noted"),
        pytest.param("SendMessage", ["--since", "9999d", "--only", "memory"], id="only memories"),
    ],
)
def test_an_interrupted_run_continues_and_sends_nothing_twice(
    stack, six, run_ops, run_ops_json, aws_calls, operation, words
):
    for number, key in enumerate(six):
        receive_at(stack, key, NOON + timedelta(hours=number))
    aws_calls.interrupt(operation, 2)

    code, out, err = run_ops("replay", *words, *FAST, "--yes")
    aws_calls.reset()
    first = len(sent(stack))
    _, preview = run_ops_json("replay", *words)
    again, found = run_ops_json("replay", *words, "--per-second", "500", "--yes")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)
    assert (first, preview["sent_before"]) == (2, 2)
    assert (again, found["sent_before"], found["sent"]) == (0, 2, 4)
    assert len(sent(stack)) == 4


def sent(stack: Stack) -> list[str]:
    return claimed(stack) + announced(stack)


def test_both_parts_of_an_interrupted_run_together_send_everything(stack, six, run_ops, aws_calls):
    aws_calls.interrupt("SendMessage", 3)

    run_ops("replay", "--caller", CALLER, *FAST, "--yes")
    run_ops("replay", "--caller", CALLER, *FAST, "--yes")

    assert claimed(stack) == sorted(six)


def test_a_call_that_arrives_after_the_interruption_is_sent_too(stack, six, run_ops, run_ops_json, aws_calls, archive):
    aws_calls.interrupt("SendMessage", 6)
    run_ops("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")
    announced(stack)
    archive("conv_0", at=NOON + timedelta(hours=7))

    run_ops_json("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")

    assert announced(stack) == ["conv_0"]


def test_other_options_start_a_separate_run(stack, six, run_ops, run_ops_json, aws_calls, subtests):
    aws_calls.interrupt("SendMessage", 2)
    run_ops("replay", "--caller", CALLER, *FAST, "--yes")

    for other in ("--force", "--agent agent_1", "--since 2026-11-21", "--unarchived", "--only memory"):
        with subtests.test(other):
            _, found = run_ops_json("replay", "--caller", CALLER, *other.split())

            assert found["sent_before"] == 0


def test_after_a_finished_run_the_same_command_starts_from_the_beginning(stack, six, run_ops, run_ops_json, aws_calls):
    aws_calls.interrupt("SendMessage", 2)
    run_ops("replay", "--caller", CALLER, *FAST, "--yes")
    run_ops("replay", "--caller", CALLER, *FAST, "--yes")
    claimed(stack)

    _, found = run_ops_json("replay", "--caller", CALLER, *FAST, "--yes")

    assert (found["sent_before"], found["sent"]) == (0, 6)
    assert claimed(stack) == sorted(six)


def test_a_replay_keeps_to_its_rate(stack, six, run_ops_json):
    begun = time.monotonic()

    run_ops_json("replay", "--caller", CALLER, "--per-second", "12", "--yes")

    assert 0.5 <= time.monotonic() - begun < 10
