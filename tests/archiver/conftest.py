"""Staged bodies, and the archiver's handler called as SQS would."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from archiver.handler import lambda_handler
from shared import keys
from shared.messages import ClaimCheck
from tests.conftest import Stack, sqs_event

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)


def stage(aws: Stack, body: Any, *, origin: str = "webhook", force: bool = False, now: datetime = NOW) -> str:
    """Put a body (bytes, or what JSON is made of) into staging as ingest does, and return its claim check."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    delivery_id = hashlib.sha256(raw).hexdigest()
    key = keys.staged(now, delivery_id)
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=raw, Metadata={"origin": origin})
    return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "webhook", force).to_json()


def stage_recording(aws: Stack, conversation_id: str | None, content: bytes, now: datetime = NOW) -> str:
    """Put audio into staging as the reconciler does, and return its claim check."""
    delivery_id = hashlib.sha256(f"audio:{conversation_id}".encode()).hexdigest()
    key = keys.staged(now, delivery_id, "mp3")
    named = {"conversation_id": conversation_id} if conversation_id else {}
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=content, Metadata={"origin": "api", **named})
    return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "reconciler").to_json()


def staged_key(check: str) -> str:
    return str(json.loads(check)["staged_key"])


@pytest.fixture
def archive(aws: Stack, context: Any) -> Callable[..., list[str]]:
    """Hand claim checks to the archiver, and what it hands on itself; returns those that failed, as `message-1`."""

    def run(*checks: str) -> list[str]:
        response = lambda_handler(sqs_event(*checks), context)
        failed = [failure["itemIdentifier"] for failure in response["batchItemFailures"]]
        for message in aws.take("ArchiveQueueUrl"):
            failed += run(message["Body"])
        return failed

    return run
