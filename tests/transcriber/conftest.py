"""Recordings in an archive in moto, and jobs of its Amazon Transcribe that the tests end themselves."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_api import state_manager
from moto.transcribe.models import transcribe_backends

import transcriber.handler
from shared.call import Transcription
from shared.messages import Announcement
from tests.conftest import Stack, sqs_event
from transcriber.handler import lambda_handler

ORDER = "1-1772550281000-" + "a" * 64
SUBTITLES = b"WEBVTT\n\n0\n00:00:00.000 --> 00:00:01.000\nWhere is my refund?\n"


def spoken(*words: tuple[str, str, float]) -> bytes:
    """A result of Amazon Transcribe: speaker, word and second of each word. A word without a letter is a mark."""
    items = [
        {"type": "pronunciation" if word[0].isalnum() else "punctuation", "speaker_label": speaker,
         "alternatives": [{"confidence": "0.9", "content": word}]}
        | ({"start_time": str(second), "end_time": str(second + 0.5)} if word[0].isalnum() else {})
        for speaker, word, second in words
    ]  # fmt: skip
    return json.dumps({"status": "COMPLETED", "results": {"items": items, "transcripts": []}}).encode()


RESULT = spoken(
    ("spk_0", "Hello", 0.2), ("spk_0", ".", 0), ("spk_1", "My", 1.5), ("spk_1", "refund", 2), ("spk_1", "?", 0)
)


def archive(aws: Stack, conversation_id: str = "conv_1", *, words: str = "", order: str = ORDER) -> str:
    """A call with a recording, as the archiver leaves it; returns the announcement of the recording."""
    data = {"conversation_id": conversation_id, "transcript": [{"role": "user", "message": words}] if words else []}
    for name, body in (("json", json.dumps(data).encode()), ("mp3", b"ID3 sound")):
        aws.s3.put_object(
            Bucket=aws.bucket, Key=f"12025550123/{conversation_id}.{name}", Body=body, Metadata={"order": order}
        )
    values = {
        "folder": "12025550123", "t_order": ORDER, "json_key": f"12025550123/{conversation_id}.json",
        "mp3_key": f"12025550123/{conversation_id}.mp3", "audio": "archived", "external_number": "+12025550123",
        "agent_id": "agent_1", "started_at": "2026-11-22T10:00:00Z",
    }  # fmt: skip
    aws.dynamodb.put_item(
        TableName=aws.outputs["ConversationTableName"],
        Item={name: {"S": value} for name, value in values.items()}
        | {"conversation_id": {"S": conversation_id}, "item": {"S": "call"}},
    )
    call = transcriber.handler.aws().records.get(conversation_id)
    assert call
    return Announcement.of(call, "audio_archived").to_json()


class Amazon:
    """Amazon Transcribe: its jobs by name, and how they end."""

    def __init__(self, aws: Stack) -> None:
        self._aws, self._backend = aws, transcribe_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]

    @property
    def jobs(self) -> list[str]:
        return list(self._backend.transcriptions)

    def request(self, name: str) -> Any:
        return self._backend.transcriptions[name]

    def complete(self, name: str, result: bytes = RESULT) -> str:
        """The job ends, and its results are where it was told to put them; returns EventBridge's message."""
        key = str(self.request(name).output_key)
        folder = key.rpartition("/")[0]
        written = {key: result, key.replace(".json", ".vtt"): SUBTITLES, f"{folder}/.write_access_check_file.temp": b""}
        for each, body in written.items():
            self._aws.s3.put_object(Bucket=self._aws.bucket, Key=each, Body=body)
        self.request(name).status = "COMPLETED"
        return named(name)

    def fail(self, name: str, reason: str) -> str:
        """The job ends without a result. moto leaves the reason out of its answer."""
        job = self.request(name)
        job.status, of_moto = "FAILED", job.response_object
        job.response_object = lambda kind: {
            "TranscriptionJob": of_moto(kind)["TranscriptionJob"] | {"FailureReason": reason}
        }
        return named(name)


def named(name: str) -> str:
    return json.dumps({"TranscriptionJobName": name, "TranscriptionJobStatus": "COMPLETED"})


@contextmanager
def amazon_transcribe(aws: Stack) -> Iterator[Amazon]:
    transcribe_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].transcriptions.clear()
    state_manager.set_transition("transcribe::transcriptionjob", {"progression": "manual", "times": 1000})
    yield Amazon(aws)
    state_manager.unset_transition("transcribe::transcriptionjob")


@pytest.fixture
def amazon(aws: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    monkeypatch.setenv("DLQ_URL", aws.outputs["TranscribeDlqUrl"])
    monkeypatch.setenv("TEXT_QUEUE_URL", aws.outputs["Announcements"])
    with amazon_transcribe(aws) as there:
        yield there


Transcribe = Callable[..., list[str]]


@pytest.fixture
def transcribe(amazon: Amazon, context: Any) -> Transcribe:
    """Call the transcriber with messages; returns the failed ones, as `message-1`."""

    def run(*messages: str) -> list[str]:
        response = lambda_handler(sqs_event(*messages), context)
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    return run


def state_of(aws: Stack, conversation_id: str = "conv_1") -> Transcription | None:
    call = transcriber.handler.aws().records.get(conversation_id)
    return call.transcription if call else None


def results(aws: Stack) -> set[str]:
    """What Amazon Transcribe left or the transcriber kept: all but the call's JSON and recording."""
    return {key for key in aws.object_keys() if not key.endswith((".mp3", "_1.json", "_2.json"))}


def erase(aws: Stack, conversation_id: str = "conv_1") -> None:
    transcriber.handler.aws().records.erase(conversation_id, "2026-11-22T10:00:00Z")
