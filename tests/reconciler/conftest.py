"""The reconciler with a stand-in of ElevenLabs' API, and calls like those of its schedule and queue."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

import archiver.handler
import reconciler.handler
from archiver.handler import lambda_handler
from reconciler.handler import handle_record, reconcile
from scripts.embedded.elevenlabs import ElevenLabs
from tests.archiver.conftest import stage
from tests.conftest import Stack, client, close_clients, fixture_body, forget, sqs_event

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
KEY = "xi-test"
CALLER = "+12025550123"


@pytest.fixture
def elevenlabs(aws: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[ElevenLabs]:
    """The stand-in; the functions have its address and key."""
    secret = client("secretsmanager").create_secret(Name="elevenlabs", SecretString=f"{KEY}\n")
    with ElevenLabs(KEY) as stand_in:
        monkeypatch.setenv("ELEVENLABS_SECRET_ARN", secret["ARN"])
        monkeypatch.setenv("ELEVENLABS_HOST", stand_in.url)
        monkeypatch.setenv("DLQ_URL", aws.outputs["AudioDlqUrl"])
        monkeypatch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
        monkeypatch.setattr("reconciler.elevenlabs.PER_SECOND", 10_000)
        forget()
        yield stand_in
        close_clients()
    forget()


def conversation(conversation_id: str = "conv_1", *, ended: timedelta = timedelta(hours=3), **fields: Any) -> Any:
    """A call in the API's form that ended this long before NOW."""
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id} | fields
    start = int((NOW - ended).timestamp()) - 60
    return data | {"metadata": data["metadata"] | {"start_time_unix_secs": start, "call_duration_secs": 60}}


@pytest.fixture
def lost_answers(elevenlabs: ElevenLabs) -> None:
    """The answer to each update of a record is lost, and botocore repeats the update."""
    client = reconciler.handler.aws().records._table.meta.client
    client.meta.events.register_first(
        "needs-retry.dynamodb.UpdateItem", lambda attempts, **_: 0 if attempts == 1 else None
    )


def run(now: datetime = NOW) -> dict[str, Any]:
    """One scheduled pass."""
    return reconcile(now, lambda: True)


def handle_announcement(announcement: str, now: datetime = NOW) -> None:
    """One message of AudioQueue."""
    handle_record(SimpleNamespace(body=announcement), now, seconds_left=300)  # type: ignore[arg-type]


@pytest.fixture
def archive_all(aws: Stack, context: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Let the archiver process all messages of ArchiveQueue; returns the claim checks."""

    def work() -> list[dict[str, Any]]:
        checks = aws.take("ArchiveQueueUrl")
        for check in checks:
            assert lambda_handler(sqs_event(check["Body"]), context) == {"batchItemFailures": []}
        return [json.loads(check["Body"]) for check in checks]

    return work


HOUR = timedelta(hours=1)
START = NOW - 3 * HOUR - timedelta(minutes=1)  # the start of `conversation`


def lists(elevenlabs) -> list[str]:
    """The end of each requested list."""
    asked = [request.query for request in elevenlabs.requests if request.route == "list"]
    return [each["call_start_before_unix"] for each in asked]


MP3 = b"ID3\x04" + b"sound" * 1000
LONGER = b"ID3\x04" + b"longer" * 1000
FOLDER = "12025550123"


@pytest.fixture
def announced(aws: Stack, elevenlabs: ElevenLabs, context: Any) -> str:
    """The announcement of a call whose webhook came an hour after its end, without audio."""
    data = conversation(has_audio=True)
    elevenlabs.add(data)
    envelope = {"type": "post_call_transcription", "event_timestamp": 1772550278, "data": data}
    archiver.handler.lambda_handler(sqs_event(stage(aws, envelope)), context)
    return json.dumps(aws.announcements()[0])
