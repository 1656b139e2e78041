"""`ops status` under each trouble: it names what is wrong and the commands that help, and is well again after them."""

from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import RUNS_COMMANDS, Ops, Pipeline, wait_until
from tests.pipeline.test_faults import body, forbid

PARAMETERS = {
    "BucketName": "agentic-memory-status", "Mem0ApiKey": "m0-test", "SignatureBurstAlarm": "20",
    "ArchiveTimeoutSeconds": "6", "ArchiveVisibilitySeconds": "6", "ArchiveMaxReceives": "20",
    "MemoryTimeoutSeconds": "10", "MemoryVisibilitySeconds": "10", "MemoryMaxReceives": "20",
    "MemoryUnknownSeconds": "1",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, mem0: HostedMem0) -> Pipeline:
    return Pipeline(emulator, "status", PARAMETERS | {"Mem0Host": mem0.url})


def troubles(ops: Ops) -> dict[str, dict[str, Any]]:
    """What `ops status` says is wrong, by alarm; asserts that the exit code agrees."""
    code, found = ops("status")
    assert code == (1 if found["next"] else 0)
    return {each["alarm"]: each for each in found["next"]}


def assert_well(pipeline: Pipeline, ops: Ops) -> dict[str, Any]:
    pipeline.settle()
    code, found = ops("status")
    assert (code, found["next"]) == (0, [])
    return found


def test_a_new_stack_is_well(pipeline, ops):
    assert_well(pipeline, ops)


def test_s3_that_refuses_a_call(pipeline, ops):
    number = "12025550141"
    forbid(pipeline, number)
    pipeline.post(body(number))
    wait_until(lambda: "ArchiveQueueAgeAlarm" in troubles(ops))

    _, found = ops("status")
    assert found["retries"][0]["error"] == "StorageError: PutObject: AccessDenied"
    assert found["retries"][0]["next_attempt_by"] > found["retries"][0]["failed_at"]
    assert (found["calls"]["archived_in_the_last_hour"], found["calls"]["json_not_written"]) == (0, 1)

    pipeline.s3.delete_bucket_policy(Bucket=pipeline.bucket)
    found = assert_well(pipeline, ops)
    assert {each["standing"] for each in found["errors_in_the_last_hour"]} == {"past"}
    assert (found["calls"]["archived_in_the_last_hour"], found["calls"]["json_not_written"]) == (1, 0)


def test_a_mem0_that_fails(pipeline, ops, mem0):
    mem0.plan("error_before")
    pipeline.post(body("12025550142"))

    wait_until(lambda: "MemoryQueueAgeAlarm" in troubles(ops))
    assert "Mem0" in troubles(ops)["MemoryQueueAgeAlarm"]["trouble"]

    assert_well(pipeline, ops)


def test_a_mem0_that_refuses_its_key(pipeline, ops, mem0):
    mem0.plan("unauthorised")
    pipeline.post(body("12025550143"))
    wait_until(lambda: "MemoryDlqAlarm" in troubles(ops))

    (show,) = troubles(ops)["MemoryDlqAlarm"]["commands"]
    _, shown = ops(*show.split()[1:])
    cure, redrive = (line.partition(": ")[2] for line in shown["next"].splitlines())
    assert cure == 'PARAMETERS="Mem0ApiKey=ask" make local'
    assert ops(*redrive.split()[1:])[0] == 0

    assert_well(pipeline, ops)


def test_a_burst_of_forged_webhooks(pipeline, ops):
    answers = {pipeline.post(b"{}", secret="wsec_forged").status_code for _ in range(31)}
    assert answers == {401}

    _, found = ops("status")
    trouble = troubles(ops)["SignatureRejectedAlarm"]
    assert found["webhooks_in_the_last_hour"]["refused_by_reason"] == {"signature mismatch": 31}
    assert "./scripts/ops reconcile --local" in trouble["commands"]

    shorten(pipeline, "SignatureRejectedAlarm")
    assert "none was accepted since" in troubles(ops)["SignatureRejectedAlarm"]["trouble"]

    pipeline.post(body("12025550144"))
    assert assert_well(pipeline, ops)["webhooks_in_the_last_hour"]["refused"] == 31


def shorten(pipeline: Pipeline, name: str) -> None:
    """Let the alarm look back for a second only, in place of waiting for the end of its period."""
    cloudwatch = pipeline._client("cloudwatch")
    (alarm,) = cloudwatch.describe_alarms(AlarmNamePrefix=f"status-{name}")["MetricAlarms"]
    fields = ("AlarmName", "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Statistic", "Threshold",
              "EvaluationPeriods", "ComparisonOperator", "TreatMissingData")  # fmt: skip
    cloudwatch.put_metric_alarm(**{field: alarm[field] for field in fields}, Period=1)
