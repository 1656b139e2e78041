"""A test call on the whole way, by the operator and by schedule: it passes, or names the step that failed."""

import json
from pathlib import Path
from typing import Any

import pytest

from canary.canary import AGENT, USER
from scripts.embedded.aws import EmbeddedAws
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline
from tests.pipeline.test_faults import forbid

PARAMETERS = {
    "BucketName": "agentic-memory-canary", "Mem0ApiKey": "m0-test", "CanaryMinutes": "15",
    "MemoryVisibilitySeconds": "120", "ArchiveVisibilitySeconds": "120",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, mem0: HostedMem0) -> Pipeline:
    return Pipeline(emulator, "canary", PARAMETERS | {"Mem0Host": mem0.url})


def kept(pipeline: Pipeline, mem0: HostedMem0) -> tuple[Any, ...]:
    """All objects and memories, and of the records what is more than a tombstone."""
    pages = pipeline.s3.get_paginator("list_object_versions").paginate(Bucket=pipeline.bucket)
    versions = [each for page in pages for each in page.get("Versions", []) + page.get("DeleteMarkers", [])]
    records = [
        item for item in pipeline.items().values() if item.keys() - {"conversation_id", "item", "erased_at", "expires"}
    ]
    return versions, records, mem0.memories(f"user:{USER}")


def test_a_call_comes_through_and_leaves_nothing(pipeline, ops, mem0):
    code, found = ops("canary")

    assert (code, [row["step"] for row in found["rows"]]) == (0, ["received", "archived", "remembered", "deleted"])
    assert [pipeline.depth(queue) for queue in ("ArchiveDlqUrl", "MemoryDlqUrl")] == [0, 0]
    assert kept(pipeline, mem0) == ([], [], [])
    assert {message["agent_id"] for message in pipeline.announcements()} == {AGENT}
    (conversation_id,) = (each for each, _ in pipeline.items() if each.startswith("canary_"))
    assert mem0.adds(conversation_id, "factual") == 1


def test_the_schedules_flight_comes_through_under_its_own_role(pipeline, mem0):
    client = pipeline._client("lambda")
    (name,) = (
        each["FunctionName"] for each in client.list_functions()["Functions"] if "canary-Canary" in each["FunctionName"]
    )

    answer = client.invoke(FunctionName=name, Payload=b"{}")

    assert "FunctionError" not in answer
    assert list(json.loads(answer["Payload"].read())) == ["received", "archived", "remembered", "deleted"]
    assert kept(pipeline, mem0) == ([], [], [])


def test_a_call_that_gets_stuck_says_where_and_is_taken_away(pipeline, ops, mem0):
    forbid(pipeline, "no-phone")

    code, found = ops("canary", "--patience", "4")

    assert (code, found["title"]) == (1, "The canary failed: archived: not within 4 s")
    assert [row["step"] for row in found["rows"]] == ["received"]
    pipeline.s3.delete_bucket_policy(Bucket=pipeline.bucket)
    assert kept(pipeline, mem0)[1] == []


def test_what_a_flight_left_behind_that_was_killed_is_taken_away_by_the_next(pipeline, ops, mem0):
    for name in ("canary_20260101T000000Z_00000000", "conv_1"):
        pipeline.s3.put_object(Bucket=pipeline.bucket, Key=f"no-phone/{name}.json", Body=b"{}")

    assert ops("canary")[0] == 0

    assert pipeline.object_keys() == {"no-phone/conv_1.json"}


def test_an_endpoint_that_is_gone_is_seen_at_the_first_step(ops):
    outputs = json.loads(Path("outputs.json").read_text())
    Path("outputs.json").write_text(json.dumps(outputs | {"PostCallUrl": outputs["PostCallUrl"] + "-gone"}))

    code, found = ops("canary")

    assert code == 1
    assert found["title"].startswith("The canary failed: received: ")
