"""After crashes, lost answers and faults of Mem0, a memory is still written once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import memory_writer.handler
from memory_writer.handler import memory_backend
from memory_writer.memories import build_memories
from memory_writer.oss import open_memory
from tests.conftest import Stack, forget
from tests.memory_writer.conftest import CALLER, announce, conversation, json_announcement, ledger, small_call


def interrupted(aws: Stack, minutes_ago: float) -> None:
    """Leave the ledger like a worker that crashed while it sent the semantic memory."""
    started = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    item = {
        "conversation_id": "conv_1", "item": "memory#semantic", "state": "sending", "owner": "request-0",
        "started": started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "lease_until": (started + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }  # fmt: skip
    aws.dynamodb.put_item(TableName="conversations", Item={name: {"S": text} for name, text in item.items()})


def write_without_ledger(aws: Stack) -> None:
    message = json_announcement(announce(aws, small_call()))
    _, semantic = build_memories(message, conversation(**small_call()), CALLER, False)
    memory_backend().add(semantic, again=False)


@pytest.mark.parametrize("minutes_ago", [4, 61])
def test_a_memory_that_mem0_got_before_a_crash_is_found_and_not_sent_again(aws, mem0, remember, minutes_ago):
    write_without_ledger(aws)
    interrupted(aws, minutes_ago)

    assert remember(announce(aws, small_call())) == []

    (memory,) = mem0(CALLER)
    assert ledger(aws)["memory_ids"] == [memory["id"]]


def test_a_memory_that_mem0_does_not_have_is_sent_again_only_after_an_hour(aws, mem0, remember):
    interrupted(aws, minutes_ago=4)
    assert remember(announce(aws, small_call())) == ["message-1"]
    assert mem0(CALLER) == []
    assert ledger(aws)["state"] == "sending"

    interrupted(aws, minutes_ago=61)
    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def test_a_memory_that_another_worker_has_leased_is_not_written(aws, mem0, remember):
    interrupted(aws, minutes_ago=1)
    before = ledger(aws)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws) == before
    assert mem0(CALLER) == []


@contextmanager
def configured(**changes: Any) -> Iterator[None]:
    """Change Mem0's configuration inside the block."""
    secrets_manager = boto3.client("secretsmanager")
    before = secrets_manager.get_secret_value(SecretId="memory-config")["SecretString"]
    secrets_manager.put_secret_value(SecretId="memory-config", SecretString=json.dumps(json.loads(before) | changes))
    forget()
    yield
    secrets_manager.put_secret_value(SecretId="memory-config", SecretString=before)
    forget()


def test_a_configuration_that_mem0_does_not_accept_is_reported_and_the_line_is_idle(aws, mem0, remember):
    with configured(vector_store={"provider": "no such store", "config": {}}):
        assert remember(announce(aws, small_call())) == []
    assert ledger(aws)["state"] == "idle"
    assert aws.reasons("MemoryDlqUrl") == [
        ("mem0", "mem0 does not accept the configuration in the stack's parameter MemoryConfig.")
    ]

    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def test_a_memory_that_a_crash_left_in_parts_is_completed_once(aws, mem0, remember):
    write_without_ledger(aws)
    interrupted(aws, minutes_ago=61)
    more = [{"role": "user", "message": "Please move my boat."}, {"role": "agent", "message": "To which berth?"}]

    assert remember(announce(aws, small_call(transcript=more))) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["Please move my boat.", "To which berth?"]


def test_if_mem0_cannot_be_searched_the_memory_stays_undecided(aws, mem0, remember):
    interrupted(aws, minutes_ago=61)

    with configured(vector_store={"provider": "no such store", "config": {}}):
        assert remember(announce(aws, small_call())) == []

    assert ledger(aws)["state"] == "sending"
    assert "owner" not in ledger(aws)


def test_a_configuration_that_is_not_json_is_reported(aws, remember, monkeypatch):
    secret = boto3.client("secretsmanager").create_secret(Name="memory-config", SecretString="{provider: qdrant}")
    monkeypatch.setenv("MEMORY_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("DLQ_URL", aws.outputs["MemoryDlqUrl"])
    forget()

    assert remember(announce(aws, small_call())) == []

    assert aws.reasons("MemoryDlqUrl") == [("configuration", "The stack's parameter MemoryConfig is not JSON.")]


def test_a_failure_inside_the_library_is_retried_and_not_quoted(aws, mem0, remember, logs, monkeypatch):
    monkeypatch.setenv("MEMORY_INFERENCE", "true")
    nobody = {"openai_base_url": "http://127.0.0.1:9", "api_key": "sk-hidden", "model": "m"}

    with configured(llm={"provider": "openai", "config": nobody}):
        assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws)["state"] == "idle"
    assert "owner" not in ledger(aws)
    assert "mem0 failed: LLMError" in logs.getvalue()
    for private in ("sk-hidden", "boat"):
        assert private not in logs.getvalue()


def test_after_a_crash_behind_mem0s_answer_the_memory_is_found(aws, mem0, remember):
    """Mem0's answer is lost before the ledger has it, because DynamoDB fails at the last update."""
    client = memory_writer.handler.aws().table.meta.client
    calls = count()

    def refuse(params: dict, **_: Any) -> None:
        if b"memory#semantic" in params["body"] and next(calls) == 1:  # the lease is taken and given back
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "UpdateItem")

    client.meta.events.register("before-call.dynamodb.UpdateItem", refuse, unique_id="refuse")
    transcript = [{"role": "user", "message": "Please move my boat."}]
    call = small_call(analysis={"transcript_summary": "A boat is moved."}, transcript=transcript)
    assert remember(announce(aws, call)) == ["message-1"]
    client.meta.events.unregister("before-call.dynamodb.UpdateItem", unique_id="refuse")
    assert ledger(aws)["state"] == "sending"

    let_the_lease_run_out(aws)
    assert remember(announce(aws, call)) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["A boat is moved.", "Please move my boat."]


def let_the_lease_run_out(aws: Stack) -> None:
    aws.dynamodb.update_item(
        TableName="conversations",
        Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "memory#semantic"}},
        UpdateExpression="SET lease_until = :past",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00.000000Z"}},
    )


def test_if_a_folder_stays_locked_the_line_is_idle(aws, mem0, remember, monkeypatch):
    config = json.loads(memory_writer.handler.aws().read_secret(memory_writer.handler.settings().memory_secret_arn))
    monkeypatch.setattr("memory_writer.oss.LOCK_SECONDS", 0.1)

    with open_memory(config):
        assert remember(announce(aws, small_call())) == ["message-1"]
    assert ledger(aws)["state"] == "idle"

    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def started(aws: Stack) -> datetime:
    return datetime.fromisoformat(ledger(aws)["started"])


def test_the_hour_is_counted_from_the_first_sending_and_not_from_a_search(aws, mem0, remember):
    interrupted(aws, minutes_ago=4)
    before = started(aws)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert started(aws) == before


def test_a_memory_that_another_worker_leases_first_is_not_written(aws, mem0, remember):
    calls = count()

    def take(params: dict, **_: Any) -> None:
        if b"memory#semantic" in params["body"] and next(calls) == 0:  # the lease is about to be taken
            interrupted(aws, minutes_ago=0)

    memory_writer.handler.aws().table.meta.client.meta.events.register("before-call.dynamodb.UpdateItem", take)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws)["owner"] == "request-0"
    assert mem0(CALLER) == []
