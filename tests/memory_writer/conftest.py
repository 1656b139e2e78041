"""Calls of the memory writer's handler with SQS events, and announced calls."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest

from memory_writer.embedded import embedded_config
from memory_writer.handler import lambda_handler
from memory_writer.memory import Memory, Message
from memory_writer.oss import OssBackend, open_memory
from shared.conversation import Conversation, read_conversation
from shared.messages import Announcement
from shared.parts import read_json
from tests.conftest import Stack, fixture_body, forget, sqs_event


@pytest.fixture
def remember(context: Any) -> Callable[..., list[str]]:
    """Call the memory writer with one batch of announcements; returns the failed ones, as `message-1`."""

    def run(*bodies: str) -> list[str]:
        response = lambda_handler(sqs_event(*bodies), context)
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    return run


FULL_ID = "conv_fixture00000000000000000full"
CALLER = "+12025550123"


@pytest.fixture
def mem0(aws: Stack, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict]]:
    """Give the handler an empty embedded Mem0; returns a function that lists a user's memories."""
    config = embedded_config(str(tmp_path / "mem0"))
    secret = boto3.client("secretsmanager").create_secret(Name="memory-config", SecretString=json.dumps(config))
    monkeypatch.setenv("MEMORY_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("DLQ_URL", aws.outputs["MemoryDlqUrl"])
    forget()

    def remembered(user_id: str) -> list[dict]:
        with open_memory(config) as store:
            return store.get_all(filters={"user_id": user_id}, top_k=1000, show_expired=True)["results"]

    return remembered


def put_call(aws: Stack, data: dict, number: str | None = CALLER, order: str = "1-1") -> str:
    """Write a call's JSON into the archive like the archiver; returns its key."""
    key = f"{(number or 'no-phone').lstrip('+')}/{data['conversation_id']}.json"
    named = {"external_number": number, "agent_id": data.get("agent_id"), "order": order}
    aws.s3.put_object(
        Bucket=aws.bucket, Key=key, Body=json.dumps(data).encode(),
        Metadata={name: value for name, value in named.items() if value},
    )  # fmt: skip
    return key


def announce(aws: Stack, data: dict, number: str | None = CALLER, **changes: Any) -> str:
    """Write a call's JSON into the archive; returns its announcement."""
    key = put_call(aws, data, number)
    fields = {
        "event": "transcript_archived", "conversation_id": data["conversation_id"], "agent_id": data.get("agent_id"),
        "external_number": number, "order": "1-1", "source_key": key, "json_key": key, "mp3_key": None,
        "audio": "pending",
    }  # fmt: skip
    return Announcement(**(fields | changes)).to_json()


def full_call() -> dict:
    return json.loads(fixture_body("02"))["data"]


def small_call(**fields: Any) -> dict:
    turn = {"role": "user", "message": "Please move my boat."}
    return {"conversation_id": "conv_1", "agent_id": "agent_1", "transcript": [turn]} | fields


def conversation(**data: Any) -> Conversation:
    return read_conversation(read_json(json.dumps(data).encode()))


def ledger(aws: Stack, conversation_id: str = "conv_1", kind: str = "semantic") -> dict:
    return aws.items().get((conversation_id, f"memory#{kind}"), {})


def json_announcement(message: str) -> Announcement:
    return Announcement(**json.loads(message))


STAGED = "staging/2026/11/22/10/" + "0" * 64 + ".json"


def announce_staged(aws: Stack, data: dict) -> str:
    """Stage a call of CALLER; returns its announcement from when the final JSON could not be written."""
    body = {"type": "post_call_transcription", "data": data}
    aws.s3.put_object(Bucket=aws.bucket, Key=STAGED, Body=json.dumps(body).encode())
    return announce(aws, data, json_key=None, source_key=STAGED)


ALICE, BOB = "+12025550123", "+12025550188"


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return embedded_config(str(tmp_path / "memories"))


@pytest.fixture
def backend(config: dict[str, Any]) -> OssBackend:
    return OssBackend(config)


def remembered(config: dict[str, Any], user_id: str) -> list[dict[str, Any]]:
    """All memories of `user_id` in mem0, oldest first."""
    with open_memory(config) as store:
        found = store.get_all(filters={"user_id": user_id}, top_k=1000)["results"]
    return sorted(found, key=lambda memory: memory["created_at"])


def texts(config: dict[str, Any], user_id: str = ALICE) -> list[str]:
    return [memory["memory"] for memory in remembered(config, user_id)]


def call(
    *turns: str,
    user_id: str = ALICE,
    conversation_id: str = "conv_1",
    kind: Literal["factual", "semantic"] = "semantic",
    infer: bool = False,
) -> Memory:
    messages: list[Message] = [
        {"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)
    ]
    metadata: dict[str, str | int | None] = {
        "type": kind,
        "agent_id": "agent_7",
        "conversation_id": conversation_id,
        "call_duration": 93,
        "timestamp": "2026-11-22T10:00:00Z",
    }
    return Memory(user_id, kind, messages, metadata, infer)


S3_VECTORS = {"provider": "s3_vectors", "config": {"vector_bucket_name": "calls-memory", "collection_name": "memories",
              "embedding_model_dims": 256, "region_name": "us-east-1"}}  # fmt: skip
