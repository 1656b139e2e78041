"""Recordings to words on the whole way: EventBridge, the queue, and the transcriber under its own role."""

import json
from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from shared.transcription import turns_of
from tests.archiver.conftest import audio, transcript
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until

FOLDER = "12025550123"
PARAMETERS = {
    "Transcribe": "missing", "TranscribeCheckSeconds": "900", "TranscribeTimeoutSeconds": "6",
    "ArchiveTimeoutSeconds": "6", "MemoryTimeoutSeconds": "6", "TranscribeVisibilitySeconds": "6",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws) -> Pipeline:
    return Pipeline(emulator, "transcription", PARAMETERS)


def post(pipeline: Pipeline, body: dict[str, Any]) -> None:
    assert pipeline.post(json.dumps(body).encode()).status_code == 200


def state_of(pipeline: Pipeline, conversation_id: str) -> Any:
    return pipeline.call(conversation_id).get("transcription", {}).get("state")


def test_a_recording_without_words_is_transcribed_when_its_event_comes(pipeline, ops):
    said = [{"role": "user", "message": "Where is my refund?"}]
    for body in (
        transcript("conv_silent"), transcript("conv_said", transcript=said), audio("conv_said"), audio("conv_silent"),
    ):  # fmt: skip
        post(pipeline, body)
    pipeline.settle()
    wait_until(lambda: state_of(pipeline, "conv_silent") == "done")

    assert pipeline.object_keys(f"{FOLDER}/") == {
        *(f"{FOLDER}/conv_silent.{name}" for name in ("json", "mp3", "transcribe.json", "vtt")),
        *(f"{FOLDER}/conv_said.{name}" for name in ("json", "mp3")),
    }
    assert turns_of(pipeline.body(f"{FOLDER}/conv_silent.transcribe.json"))
    assert pipeline.body(f"{FOLDER}/conv_silent.vtt").startswith(b"WEBVTT")
    assert state_of(pipeline, "conv_said") is None
    wait_until(lambda: pipeline.versions("transcribe/") == set())
    transcribe = pipeline._client("transcribe")
    wait_until(lambda: transcribe.list_transcription_jobs()["TranscriptionJobSummaries"] == [])
    assert pipeline.depth("TranscribeDlqUrl") == 0
    wait_until(lambda: "~" in pipeline.call("conv_silent").get("text_order", ""))
    wait_until(lambda: pipeline.depth("TextQueueUrl") == 0)

    code, answer = ops("search", "placeholder speech")

    assert code == 0
    assert {(hit["conversation_id"], hit["role"]) for hit in answer["rows"]} == {("conv_silent", "speaker_0")}
    code, shown = ops("show", "conv_silent")
    assert (code, shown["turns"][0]["role"]) == (0, "speaker_0")
