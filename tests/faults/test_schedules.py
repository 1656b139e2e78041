"""A short, fixed part of what `make faults` runs: schedules without a violation, and each oracle seen to fail."""

import pytest

from tests.faults.oracles import ORACLES
from tests.faults.planted import PLANTED
from tests.faults.schedules import first_failing, run, smallest

SEEDS = range(150)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 50))
def test_no_schedule_violates_a_promise(first):
    for seed in SEEDS[first : first + 50]:
        assert run(seed).violations == {}, f"make faults SEED={seed}"


def test_a_seed_gives_the_same_trace_each_time():
    assert run(7, traced=True).trace == run(7, traced=True).trace


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_seen(name):
    found = first_failing(name, most=400)

    assert found, PLANTED[name].sentence
    assert PLANTED[name].seen_by & found[1].violations.keys()


def test_each_oracle_is_seen_to_fail_by_a_planted_bug():
    assert ORACLES.keys() | {"durable"} <= {oracle for bug in PLANTED.values() for oracle in bug.seen_by}


def test_the_smallest_trace_still_shows_the_violation():
    whole = first_failing("unparks_first", most=400)
    assert whole

    found = smallest(whole[1].seed, "unparks_first")

    assert whole[1].violations.keys() & found.violations.keys()
    assert found.calls <= whole[1].calls
