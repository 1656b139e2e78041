"""Bodies that try to cost more than they weigh: each function has memory enough for them."""

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.hostile import BODIES, MOST_MB, Bench
from tests.mem0_stand_in import HostedMem0

SET_ASIDE = {
    "[{},{},…": "The body is an array of more than 1,000 events.",
    "[[[[…": "The body is not JSON.",
}
ARCHIVED = (
    "transcript: [{},{},…",
    "transcript: [0,0,…",
    "500,000 names, with audio",
    "half an emoji, \\n\\n\\n…",
    "traces: [{},{},…",
)


@pytest.fixture(scope="module")
def bench(emulator: EmbeddedAws, mem0: HostedMem0) -> Bench:
    return Bench(emulator, mem0)


@pytest.mark.parametrize("name", ARCHIVED)
def test_a_call_that_is_costly_to_read_is_archived_and_remembered_in_little_memory(bench, name):
    archived, remembered = bench.archive(name, f"conv_{[*BODIES].index(name)}"), bench.remember()

    assert (archived["answer"], archived["reasons"]) == ({"batchItemFailures": []}, [])
    assert remembered["answer"] == {"batchItemFailures": []}
    assert max(archived["peak_mb"], remembered["peak_mb"]) <= MOST_MB


@pytest.mark.parametrize("name", SET_ASIDE)
def test_what_is_no_call_and_costly_to_read_is_set_aside_in_little_memory(bench, name):
    archived = bench.archive(name, "conv_none")

    assert (archived["answer"], archived["reasons"]) == ({"batchItemFailures": []}, [SET_ASIDE[name]])
    assert archived["peak_mb"] <= MOST_MB
