"""The whole way to the hosted Mem0: the embedded AWS with a key, and the address of a host that speaks its API."""

import json

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.conftest import fixture_body
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import Pipeline

CALL, CALLER = "conv_fixture00000000000000000full", "+12025550123"


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, mem0: HostedMem0) -> Pipeline:
    parameters = {
        "BucketName": "agentic-memory-hosted",
        "Mem0ApiKey": "m0-test",
        "Mem0Host": mem0.url,
        "MemoryVisibilitySeconds": "60",
        "MemoryTimeoutSeconds": "60",
    }
    return Pipeline(emulator, "hosted", parameters)


def receipts(pipeline: Pipeline) -> dict[str, dict]:
    return {item: row for (call, item), row in pipeline.items().items() if call == CALL and item != "call"}


def test_a_call_is_remembered_once_whatever_is_sent_again(pipeline, mem0):
    for _ in range(2):
        assert pipeline.post(fixture_body("02")).status_code == 200
        pipeline.settle()

    assert [mem0.adds(CALL, kind) for kind in ("factual", "semantic")] == [1, 1]
    kept = receipts(pipeline)
    assert {entry["state"] for entry in kept.values()} == {"done"}
    assert {id_ for entry in kept.values() for id_ in entry["memory_ids"]} == {
        each["id"] for each in mem0.memories(CALLER)
    }
    assert all(entry["event_id"] for entry in kept.values())


def test_a_refused_key_is_said_in_the_dead_letter_queue(pipeline, mem0):
    body = json.loads(fixture_body("12"))
    mem0.plan("unauthorised", "unauthorised")

    assert pipeline.post(json.dumps(body).encode()).status_code == 200
    pipeline.settle()

    ((step, error),) = pipeline.reasons("MemoryDlqUrl")
    assert step == "mem0"
    assert error.startswith("Mem0 refused the key (401).")
