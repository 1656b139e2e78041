"""A short load; and the limit of messages in flight, on paper."""

import sys

import pytest

from tests.faults.processes.in_flight import DUPLICATES, LIMIT, default_concurrency, most_in_flight, visibility_seconds
from tests.faults.processes.load import Sample, first_and_last, run, show


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_short_load_is_taken_whole_and_described():
    result = run(number=12, per_second=6, seed=1, say=lambda line: None, warm_up=1)

    assert (result.acknowledged, result.remembered, result.left) == (12, 12, 0)
    assert result.samples[-1].acknowledged == 12
    assert max(sample.memory_mb for sample in result.samples) > 50
    assert any(line.startswith("calls 12, acknowledged 12, remembered 12") for line in show(result))


def test_the_last_hundred_calls_are_compared_with_the_first():
    samples = [Sample(n, 50 * n, 0, 0, 0, 100, emulator_cpu=1.0 * n, workers_cpu=0.1 * n * n) for n in range(11)]

    first, last = first_and_last(samples)

    assert (first.emulator, last.emulator) == (20, 20)
    assert last.workers / first.workers == pytest.approx(9)


def test_20000_duplicates_do_not_reach_the_limit_of_messages_in_flight_even_if_all_fail_at_once():
    for concurrency in (default_concurrency(), 50, 1000):
        assert most_in_flight(DUPLICATES, concurrency, 0.001, visibility_seconds()) <= DUPLICATES < LIMIT


def test_a_message_that_fails_is_in_flight_for_its_visibility_timeout():
    assert most_in_flight(1_000_000, concurrency=2, fails_in=0.1, visibility=720) == 2 + 20 * 720
    assert most_in_flight(10, concurrency=2, fails_in=0.1, visibility=720) == 10
