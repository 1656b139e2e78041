"""Woken at night: each part is broken in turn, seen in `ops status`, and healed with the tool alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import RUNS_COMMANDS, Ops, Pipeline, wait_until
from tests.pipeline.test_faults import body, forbid

PARAMETERS = {
    "BucketName": "agentic-memory-operations", "Mem0ApiKey": "m0-test", "MemoryInference": "true",
    "ArchiveTimeoutSeconds": "6", "ArchiveVisibilitySeconds": "6", "ArchiveMaxReceives": "2",
    "MemoryTimeoutSeconds": "20", "MemoryVisibilitySeconds": "20", "MemoryMaxReceives": "2",
    "MemoryUnknownSeconds": "1",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, mem0: HostedMem0) -> Pipeline:
    return Pipeline(emulator, "operations", PARAMETERS | {"Mem0Host": mem0.url})


def conversation(number: str) -> str:
    return f"conv_{number}"


@contextmanager
def without_policy(pipeline: Pipeline, role: str, policy: str) -> Iterator[None]:
    """A role without its policy, as after a mistaken change."""
    iam = pipeline._client("iam")
    name = next(each["RoleName"] for each in iam.list_roles()["Roles"] if f"operations-{role}" in each["RoleName"])
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    kept = [each for each in document["Statement"] if "dynamodb:UpdateItem" not in each["Action"]]
    iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document | {"Statement": kept}))
    yield
    iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))


def dead(pipeline: Pipeline, ops: Ops, queue: str) -> list[dict[str, Any]]:
    """What `status` and `dlq show` say of a queue's dead letters, once it has some."""
    wait_until(lambda: pipeline.depth(f"{queue.title()}DlqUrl") > 0)  # a command takes much longer than this
    alarm = f"{queue.capitalize()}DlqAlarm"
    wait_until(lambda: alarm in [trouble["alarm"] for trouble in ops("status")[1]["next"]])
    return ops("dlq", "show", queue)[1]["rows"]


def assert_whole(pipeline: Pipeline, ops: Ops, mem0: HostedMem0, number: str) -> None:
    """The call is archived and remembered once, and the stack is well."""
    pipeline.settle()
    assert ops("verify", conversation(number))[0] == 0
    assert len(pipeline.versions(f"{number}/")) == 1
    assert mem0.adds(conversation(number), "semantic") == 1
    assert ops("status")[1]["next"] == []


def test_a_mem0_that_refused_its_key(pipeline, ops, mem0):
    number = "12025550131"
    mem0.plan("unauthorised")
    pipeline.post(body(number))

    (row,) = dead(pipeline, ops, "memory")
    assert (row["calls"], row["step"]) == ([conversation(number)], "mem0")
    assert row["error"].startswith("Mem0 refused the key (401).")

    assert ops("dlq", "redrive", "memory", "--yes")[0] == 0
    assert_whole(pipeline, ops, mem0, number)


def test_a_table_that_the_archiver_may_not_write(pipeline, ops, mem0):
    number = "12025550132"
    with without_policy(pipeline, "ArchiverRole", "archiver"):
        pipeline.post(body(number))

        (row,) = dead(pipeline, ops, "archive")
        assert row["calls"] == [conversation(number)]
        assert "AccessDenied" in row["error"]

    assert ops("dlq", "redrive", "archive", "--conversation", conversation(number), "--yes")[0] == 0
    assert_whole(pipeline, ops, mem0, number)


def test_a_bucket_policy_that_refuses_a_caller(pipeline, ops, mem0):
    number = "12025550133"
    forbid(pipeline, number)
    pipeline.post(body(number))

    (row,) = dead(pipeline, ops, "archive")
    assert (row["calls"], row["error"]) == ([conversation(number)], "StorageError: PutObject: AccessDenied")
    code, found = ops("verify", conversation(number))
    assert (code, found["rows"][0]["problems"][0]) == (1, "the record has a transcript, but the archive has no JSON")

    pipeline.s3.delete_bucket_policy(Bucket=pipeline.bucket)
    assert ops("dlq", "redrive", "archive", "--error", "AccessDenied", "--yes")[0] == 0
    assert_whole(pipeline, ops, mem0, number)


def test_a_payload_that_can_never_be_archived(pipeline, ops, mem0, tmp_path):
    pipeline.post(b"not json")

    (row,) = dead(pipeline, ops, "archive")
    assert (row["step"], row["error"]) == ("webhook", "The body is not JSON.")

    assert ops("dlq", "drop", "archive", "--error", "not JSON", "--save", "dropped.jsonl", "--yes")[0] == 0
    (saved,) = (tmp_path / "dropped.jsonl").read_text().splitlines()
    assert json.loads(json.loads(saved)["Body"])["delivery_id"] == row["delivery"]
    assert ops("status")[0] == 0


def test_a_call_that_was_lost_from_the_archive(pipeline, ops, mem0):
    number = "12025550134"
    pipeline.post(body(number))
    assert_whole(pipeline, ops, mem0, number)
    for key, version in pipeline.versions(f"{number}/"):
        pipeline.s3.delete_object(Bucket=pipeline.bucket, Key=key, VersionId=version)
    assert ops("verify", conversation(number))[0] == 1

    assert ops("replay", "--conversation", conversation(number), "--yes")[0] == 0
    assert_whole(pipeline, ops, mem0, number)


def test_memories_that_mem0_lost(pipeline, ops, mem0):
    number = "12025550135"
    pipeline.post(body(number))
    assert_whole(pipeline, ops, mem0, number)
    mem0._events.clear()
    code, found = ops("verify", conversation(number))
    assert (code, found["rows"][0]["problems"]) == (
        1,
        ["semantic memories that Mem0 accepted and does not have: 1 of 1"],
    )

    assert ops("replay", "--conversation", conversation(number), "--only", "memory", "--force", "--yes")[0] == 0
    assert_whole(pipeline, ops, mem0, number)
