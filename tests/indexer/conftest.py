"""Announced calls, the indexer's handler, and the rows under text/."""

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from indexer.handler import lambda_handler
from shared.record import Records
from shared.texts import CALL, Row, read_rows
from tests.conftest import Stack, forget, sqs_event
from tests.memory_writer.conftest import announce

DAY = "2026-11-22"
STARTED = 1795341600  # 10:00 on DAY
LONG = 600_000  # milliseconds


@pytest.fixture(autouse=True)
def settings(aws: Stack, context: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DLQ_URL", aws.outputs["TextDlqUrl"])
    forget()
    context.get_remaining_time_in_millis = lambda: LONG
    yield
    forget()


@pytest.fixture
def records(aws: Stack) -> Records:
    return Records(boto3.Session().resource("dynamodb").Table(aws.outputs["ConversationTableName"]))


@pytest.fixture
def index(context: Any) -> Callable[..., list[str]]:
    """Call the indexer with one batch of announcements; returns the failed ones, as `message-1`."""

    def run(*bodies: str) -> list[str]:
        response = lambda_handler(sqs_event(*bodies), context)
        assert response is not None
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    return run


@pytest.fixture
def merge(context: Any) -> Callable[[], None]:
    """The hourly pass."""
    return lambda: lambda_handler({"source": "aws.events"}, context)  # type: ignore[return-value]


@pytest.fixture
def archived(aws: Stack, records: Records) -> Callable[..., str]:
    """Archive a call with its record; returns its announcement."""

    def make(conversation_id: str = "conv_1", *messages: str, order: str = "1-1", started: int = STARTED) -> str:
        turns = [{"role": "user", "message": each, "time_in_call_secs": 3} for each in messages or ("My boat.",)]
        data = {
            "conversation_id": conversation_id, "agent_id": "agent_1", "transcript": turns,
            "metadata": {"start_time_unix_secs": started, "call_duration_secs": 60},
        }  # fmt: skip
        return announced(aws, records, data, order)

    return make


def announced(aws: Stack, records: Records, data: dict[str, Any], order: str = "1-1") -> str:
    records.save_transcript(
        data["conversation_id"], {"audio": "pending"}, {"listed_at": f"{DAY}T10:00:00Z"}, order, None, (), "now"
    )
    message = announce(aws, data, order=order)
    key = f"12025550123/{data['conversation_id']}.json"
    head = aws.head(key)
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=aws.body(key), Metadata=head["Metadata"] | {"order": order})
    return message


def rows(aws: Stack) -> list[Row]:
    """All rows, in the order of their files' keys."""
    files = sorted(aws.object_keys("text/"))
    return [row for key in files for row in read_rows(gzip.decompress(aws.body(key)))]


def said(aws: Stack) -> list[tuple[str, str, str | None]]:
    """Call, version and words of each row that is a turn."""
    return sorted((row.conversation_id, row.version, row.message) for row in rows(aws) if row.turn != CALL)
