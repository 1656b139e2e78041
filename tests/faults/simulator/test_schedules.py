"""A short, fixed part of what `make faults` runs: schedules without a violation, and each oracle seen to fail.

The schedules run in processes of their own: a seed gives the same schedule only if sets have a fixed order.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.simulator.oracles import SENTENCES
from tests.faults.simulator.planted import PLANTED

RARE = {"erases_at_once"}  # needs thousands of schedules


def run(*arguments: str, hashes: str = "random") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.simulator.run", *arguments],
        env=os.environ | {"PYTHONHASHSEED": hashes, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_no_schedule_violates_a_promise(tmp_path):
    code, printed = run("--schedules", "200", "--json", str(tmp_path / "found.json"))

    found = json.loads((tmp_path / "found.json").read_text())
    assert (code, found["violations"], found["schedules"]) == (0, 0, 200), printed
    assert found["outward_calls"] > 30_000


def test_a_seed_gives_the_same_trace_each_time():
    assert run("--seed", "0", hashes="1") == run("--seed", "0", hashes="2")


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("plants") / "seen.json"
    run("--plants", *(PLANTED.keys() - RARE), "--most", "200", "--json", str(file))
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", sorted(PLANTED.keys() - RARE))
def test_a_planted_bug_is_seen(name, seen):
    assert seen[name]["is_seen"], seen[name]


def test_each_oracle_is_seen_to_fail_by_a_planted_bug(seen):
    assert SENTENCES.keys() <= {oracle for each in seen.values() for oracle in each["seen_by"]}


def test_the_trace_of_a_planted_bug_is_printed_as_small_as_it_gets(seen):
    seed = seen["accepts_unqueued"]["schedules"] - 1

    code, printed = run("--seed", str(seed), "--plant", "accepts_unqueued")

    assert code == 1
    assert "sqs.send_message" in printed
    assert "durable: " in printed
    assert "No webhook is answered with 200 before" in printed
    assert len(printed.splitlines()) < 100


def test_a_seed_without_a_violation_says_so():
    code, printed = run("--seed", "0")

    assert (code, printed.splitlines()[-1][:21]) == (0, "Seed 0: no violation ")
