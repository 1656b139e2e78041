"""Staged bodies, and calls of the archiver's handler with SQS events."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

import archiver.handler
from archiver.handler import lambda_handler
from shared import keys
from shared.messages import ClaimCheck
from tests.conftest import Stack, sqs_event

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)


def stage(aws: Stack, body: Any, *, origin: str = "webhook", force: bool = False, now: datetime = NOW) -> str:
    """Stage a body (bytes, or a value for JSON) like ingest; returns its claim check."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    delivery_id = hashlib.sha256(raw).hexdigest()
    key = keys.staged(now, delivery_id)
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=raw, Metadata={"origin": origin})
    return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "webhook", force).to_json()


def stage_recording(aws: Stack, conversation_id: str | None, content: bytes, now: datetime = NOW) -> str:
    """Stage a recording like the reconciler; returns its claim check."""
    delivery_id = hashlib.sha256(f"audio:{conversation_id}".encode()).hexdigest()
    key = keys.staged(now, delivery_id, "mp3")
    named = {"conversation_id": conversation_id} if conversation_id else {}
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=content, Metadata={"origin": "api", **named})
    return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "reconciler").to_json()


def staged_key(check: str) -> str:
    return str(json.loads(check)["staged_key"])


@pytest.fixture
def archive(aws: Stack, context: Any) -> Callable[..., list[str]]:
    """Call the archiver with claim checks, and with those that it queues; returns the failed ones, as `message-1`."""

    def run(*checks: str) -> list[str]:
        response = lambda_handler(sqs_event(*checks), context)
        failed = [failure["itemIdentifier"] for failure in response["batchItemFailures"]]
        for message in aws.take("ArchiveQueueUrl"):
            failed += run(message["Body"])
        return failed

    return run


FULL, FULL_ID = "12025550123", "conv_fixture00000000000000000full"


def envelope(data: dict, event: str = "post_call_transcription", at: object = 1772550278) -> dict:
    return {"type": event, "event_timestamp": at, "data": data}


def transcript(conversation_id: str = "conv_1", at: object = 1772550278, **fields) -> dict:
    phone_call = {"external_number": "+12025550123", "direction": "inbound"}
    return envelope({"conversation_id": conversation_id, "metadata": {"phone_call": phone_call}} | fields, at=at)


def audio(conversation_id: str = "conv_1", content: bytes = b"ID3 sound", at: object = 1772550281) -> dict:
    full_audio = base64.b64encode(content).decode()
    return envelope({"conversation_id": conversation_id, "full_audio": full_audio}, "post_call_audio", at)


def refuse(operation: str, on: str) -> None:
    """Make S3 refuse `operation` for keys that end in `on`, like a wrong policy."""

    def refused(params: dict, model: object, **_: object) -> None:
        if str(params["url_path"]).endswith(on):
            raise ClientError(
                {"Error": {"Code": "AccessDenied", "Message": f"not yours: {params['url_path']}"}}, operation
            )

    archiver.handler.aws().bucket._s3.meta.events.register(f"before-call.s3.{operation}", refused, unique_id="refuse")


def allow(operation: str) -> None:
    archiver.handler.aws().bucket._s3.meta.events.unregister(f"before-call.s3.{operation}", unique_id="refuse")


def erase(aws: Stack, conversation_id: str = "conv_1") -> None:
    archiver.handler.aws().records.erase(conversation_id, "2026-11-22T10:00:00Z")
