"""A stack that keeps no audio, compresses, and keeps only longer calls of one agent: on the whole way."""

import base64
import gzip
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.elevenlabs import ElevenLabs
from tests.conftest import fixture_body
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until
from tests.pipeline.test_completeness import reconcile

FOLDER = "12025550123"
PARAMETERS = {
    "BucketName": "agentic-memory-selection", "ElevenLabsApiKey": "xi-test", "AudioDelaySeconds": "0",
    "ReconcileAfterMinutes": "0", "KeepAudio": "false", "GzipJson": "true", "MinimumCallSeconds": "30",
    "AgentIds": "agent_ours, agent_also",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, elevenlabs: ElevenLabs) -> Pipeline:
    return Pipeline(emulator, "selection", PARAMETERS | {"ElevenLabsApiHost": elevenlabs.url})


def call(conversation_id: str, seconds: int = 60, agent_id: str = "agent_ours") -> dict[str, Any]:
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id, "agent_id": agent_id}
    start = int((datetime.now(timezone.utc) - timedelta(minutes=5)).timestamp()) - seconds
    metadata = data["metadata"] | {"start_time_unix_secs": start, "call_duration_secs": seconds}
    return data | {"has_audio": True, "metadata": metadata}


def post(pipeline: Pipeline, data: dict[str, Any], event: str = "post_call_transcription") -> None:
    body = {"type": event, "event_timestamp": 1772550278, "data": data}
    assert pipeline.post(json.dumps(body).encode()).status_code == 200


def audio(call: dict[str, Any]) -> dict[str, Any]:
    names = {name: call[name] for name in ("conversation_id", "agent_id")}
    return names | {"full_audio": base64.b64encode(b"ID3 sound").decode()}


def test_what_is_not_kept_leaves_nothing_and_what_is_kept_is_remembered(pipeline, ops, elevenlabs):
    ours, short, other = call("conv_ours"), call("conv_short", seconds=29), call("conv_other", agent_id="agent_other")
    for each in (ours, short, other):
        elevenlabs.add(each, b"ID3 sound")
        post(pipeline, audio(each), "post_call_audio")
        post(pipeline, each)
    elevenlabs.add(call("conv_missed"), b"ID3 sound")
    elevenlabs.add(call("conv_missed_short", seconds=3), b"ID3 sound")
    pipeline.settle()

    report = reconcile(pipeline)
    wait_until(lambda: pipeline.items().get(("conv_missed", "memory#semantic"), {}).get("state") == "done")
    pipeline.settle()

    assert (report["missing_calls"], report["left_out"], report["outcomes"]) == (1, 3, {"fetched": 1})
    assert pipeline.object_keys() == {f"{FOLDER}/conv_ours.json", f"{FOLDER}/conv_missed.json"}
    assert json.loads(gzip.decompress(pipeline.body(f"{FOLDER}/conv_ours.json"))) == ours
    staged = [json.loads(pipeline.body(key))["data"] for key in pipeline.object_keys("staging/")]
    assert {data["conversation_id"] for data in staged} == {"conv_ours", "conv_missed"}
    assert all("full_audio" not in data for data in staged)
    assert [pipeline.call(f"conv_{name}").get("left_out") for name in ("short", "other")] == [
        "too_short",
        "other_agent",
    ]
    assert [pipeline.call(f"conv_{name}")["audio"] for name in ("ours", "missed")] == ["unavailable"] * 2
    remembered = {key[0] for key in pipeline.items() if key[1].startswith("memory#")}
    assert remembered == {"conv_ours", "conv_missed"}
    asked = [request for request in elevenlabs.requests if request.route in ("get", "audio")]
    assert [(request.route, request.conversation_id) for request in asked] == [("get", "conv_missed")]
    assert reconcile(pipeline)["missing_calls"] == 0
    assert [pipeline.depth(queue) for queue in ("ArchiveDlqUrl", "MemoryDlqUrl", "AudioDlqUrl")] == [0, 0, 0]
    assert [ops("verify", f"conv_{name}")[0] for name in ("ours", "short")] == [0, 0]
    assert ops("status")[1]["next"] == []
    assert ops("backfill", "--since", "1d")[1]["next"] == "Nothing is missing."
