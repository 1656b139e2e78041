"""The canary's handler, called like its schedule does."""

import json
import time

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

import archiver.handler
import canary.handler
from tests.alarms import emitted
from tests.canary.conftest import endpoint
from tests.conftest import forget


def versions(aws) -> list[str]:
    found = aws.s3.list_object_versions(Bucket=aws.bucket)
    return [each["Key"] for each in found.get("Versions", []) + found.get("DeleteMarkers", [])]


@pytest.fixture
def run_canary(aws, context, monkeypatch):
    def run(url: str) -> dict[str, float]:
        monkeypatch.setenv("POST_CALL_URL", url)
        forget()
        return canary.handler.lambda_handler({}, context)

    return run


def counted(output: str) -> dict[str, float]:
    found = emitted(output)
    return {name: sum(values) for (_, name, dimensions), values in found.items() if len(dimensions) == 1}


def test_a_run_leaves_nothing_but_a_tombstone(aws, context, run_canary, capsys):
    with endpoint(aws, context) as url:
        steps = run_canary(url)

    assert list(steps) == ["received", "archived", "deleted"]
    found = counted(capsys.readouterr().out)
    assert (found["CanaryPassed"], found["TestWebhookStaged"]) == (1, 2)
    assert "WebhookStaged" not in found  # this metric is for ElevenLabs' webhooks only
    assert versions(aws) == []
    calls = [item for (_, kind), item in aws.items().items() if kind == "call"]
    assert [set(item) for item in calls] == [{"conversation_id", "item", "erased_at", "expires"}]
    days_left = (float(calls[0]["expires"]) - time.time()) / 86400
    assert 29 < days_left <= 30
    assert aws.reasons() == []


def test_the_test_call_is_not_left_out_by_the_stacks_parameters(aws, context, run_canary, monkeypatch):
    chosen = {"AGENT_IDS": "agent_1, agent_2", "MINIMUM_CALL_SECONDS": "30", "KEEP_AUDIO": "false"}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    with endpoint(aws, context) as url:
        steps = run_canary(url)

    assert list(steps) == ["received", "archived", "deleted"]
    assert {each["agent_id"] for each in aws.announcements()} == {"agent_1"}
    assert versions(aws) == []


def test_a_failed_run_names_its_step_and_deletes_the_call(aws, context, run_canary, monkeypatch, capsys, logs):
    monkeypatch.setenv("CANARY_STEP_SECONDS", "0")
    monkeypatch.setattr(archiver.handler, "lambda_handler", lambda *_: None)  # like an archiver that is down
    with endpoint(aws, context) as url:
        steps = run_canary(url)

    assert list(steps) == ["received"]
    found = counted(capsys.readouterr().out)
    assert (found["CanaryPassed"], found["CanaryFailed"]) == (0, 1)
    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "The canary failed" in line)
    assert entry["step"] == "archived"


def test_a_failed_memory_step_is_named_and_the_next_run_passes(aws, context, run_canary, monkeypatch, logs):
    queue = aws.sqs.create_queue(QueueName="memory")["QueueUrl"]
    monkeypatch.setenv("MEMORY_QUEUE_URL", queue)
    monkeypatch.setenv("CANARY_STEP_SECONDS", "1")
    records = archiver.handler.aws().records

    def half_remember() -> None:
        for conversation_id in {each for each, _ in aws.items() if each.startswith("canary_")}:
            for item, state in (("memory#factual", "done"), ("memory#semantic", "idle")):
                key = {"conversation_id": conversation_id, "item": item}
                records._table.put_item(Item=key | {"state": state})

    with endpoint(aws, context, half_remember) as url:
        assert list(run_canary(url)) == ["received", "archived"]

    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "The canary failed" in line)
    assert entry["step"] == "remembered"
    assert versions(aws) == []
    monkeypatch.setenv("MEMORY_QUEUE_URL", "")
    with endpoint(aws, context) as url:
        assert list(run_canary(url))[-1] == "deleted"


def test_if_objects_cannot_be_deleted_the_run_fails(aws, context, run_canary, monkeypatch, logs):
    do = BaseClient._make_api_call

    def locked(client, operation, parameters):
        if operation == "DeleteObject":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return do(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", locked)  # as with Object Lock
    with endpoint(aws, context) as url:
        assert list(run_canary(url)) == ["received", "archived"]

    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "The canary failed" in line)
    assert entry["step"] == "deleted"
    assert "could not be deleted yet" in entry["error"]


def test_a_refusal_of_aws_names_the_step(aws, context, run_canary, logs):
    with endpoint(aws, context) as url:
        aws.dynamodb.delete_table(TableName=aws.outputs["ConversationTableName"])
        assert list(run_canary(url)) == ["received"]

    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "The canary failed" in line)
    assert (entry["step"], entry["error"]) == ("archived", "The canary failed: archived: ResourceNotFoundException")


def test_an_unreachable_endpoint_fails_the_first_step(aws, context, run_canary, logs):
    assert run_canary("http://127.0.0.1:9/post-call") == {}

    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "The canary failed" in line)
    assert entry["step"] == "received"


def test_the_call_of_a_killed_run_is_deleted_and_no_other_call(aws, context, run_canary):
    for name in ("canary_20260101T000000Z_00000000", "conv_1"):
        aws.s3.put_object(Bucket=aws.bucket, Key=f"no-phone/{name}.json", Body=b"{}")

    with endpoint(aws, context) as url:
        run_canary(url)

    assert versions(aws) == ["no-phone/conv_1.json"]
