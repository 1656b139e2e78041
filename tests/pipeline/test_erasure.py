"""A caller who wants to be forgotten: nothing of theirs is left anywhere, nothing comes back, and nobody else loses."""

import base64
import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.elevenlabs import ElevenLabs
from tests.conftest import fixture_body
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until
from tests.pipeline.test_completeness import reconcile

CALLER, OTHER = "+12025550177", "+12025550178"
WORDS = {CALLER: "Kingfisher", OTHER: "Halcyon"}
SHARED = "conv_shared"  # the other's call, which an older webhook says was the caller's
CLIENT = "user:crm-1187"
PARAMETERS = {
    "BucketName": "agentic-memory-erasure", "Mem0ApiKey": "m0-test", "ElevenLabsApiKey": "xi-test",
    "ArchiveTimeoutSeconds": "12", "ArchiveVisibilitySeconds": "12", "ArchiveConcurrency": "2",
    "MemoryTimeoutSeconds": "12", "MemoryVisibilitySeconds": "12", "MemoryConcurrency": "2", "AudioConcurrency": "2",
    "AudioDelaySeconds": "0", "ReconcileAfterMinutes": "0", "TextTimeoutSeconds": "12", "TextVisibilitySeconds": "12",
}  # fmt: skip
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, mem0: HostedMem0, elevenlabs: ElevenLabs) -> Pipeline:
    hosts = {"Mem0Host": mem0.url, "ElevenLabsApiHost": elevenlabs.url}
    return Pipeline(emulator, "erasure", PARAMETERS | hosts)


def call(conversation_id: str, number: str, **fields: Any) -> dict[str, Any]:
    """As ElevenLabs' API tells it, full of the caller's words."""
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id, "has_audio": True} | fields
    data["transcript"] = [{"role": "user", "message": f"My boat is called {WORDS[number]}.", "time_in_call_secs": 1}]
    data["analysis"] = data["analysis"] | {"transcript_summary": f"{WORDS[number]} is the boat of {number}."}
    data["conversation_initiation_client_data"]["dynamic_variables"]["system__caller_id"] = number
    phone_call = data["metadata"]["phone_call"] | {"external_number": number}
    return data | {"metadata": data["metadata"] | {"phone_call": phone_call}}


def sip(conversation_id: str, number: str) -> dict[str, Any]:
    """A call without a usable number, but with one in it; it is remembered for the id that its client gave."""
    data = call(conversation_id, number, has_audio=False)
    del data["conversation_initiation_client_data"]["dynamic_variables"]["system__caller_id"]
    phone_call = {"direction": "inbound", "external_number": f"sip:{number}@pbx.example:5060"}
    return data | {"metadata": data["metadata"] | {"phone_call": phone_call}}


def held_later(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"metadata": data["metadata"] | {"start_time_unix_secs": int(time.time()) + 60}}


def transcript(data: dict[str, Any], at: int = 1772550278) -> bytes:
    return json.dumps({"type": "post_call_transcription", "event_timestamp": at, "data": data}).encode()


def audio(conversation_id: str, number: str) -> bytes:
    full_audio = base64.b64encode(spoken(number)).decode()
    data = {"conversation_id": conversation_id, "agent_id": "agent_1", "full_audio": full_audio}
    return json.dumps({"type": "post_call_audio", "event_timestamp": 1772550281, "data": data}).encode()


def spoken(number: str) -> bytes:
    return b"ID3 " + WORDS[number].encode()


def failure(conversation_id: str, number: str) -> bytes:
    event = json.loads(fixture_body("09"))
    event["data"]["conversation_id"] = conversation_id
    event["data"]["metadata"]["body"] |= {"To": number, "Called": number}
    return json.dumps(event).encode()


def otel(conversation_id: str, number: str) -> bytes:
    named = {"key": "elevenlabs.telephony.external_number", "value": {"stringValue": number}}
    spans = [{"attributes": [named, {"key": "transcript", "value": {"stringValue": WORDS[number]}}]}]
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    event = {
        "type": "post_call_transcription_otel",
        "data": {"conversation_id": conversation_id, "otlp_traces": traces},
    }
    return json.dumps(event | {"event_timestamp": 1772550279}).encode()


def notice(number: str) -> bytes:
    """An event about no call, with the number as people write it."""
    written = f"+{number[1]} ({number[2:5]}) {number[5:8]}-{number[8:]}"
    data = {"external_number": written, "text": f"{WORDS[number]} asks to be called at tel:{number}."}
    return json.dumps({"type": "voice_removed", "event_timestamp": 1772550279, "data": data}).encode()


def broken_audio(conversation_id: str, number: str) -> bytes:
    return json.dumps(
        {"type": "post_call_audio", "data": {"conversation_id": conversation_id, "text": number}}
    ).encode()


def array(*bodies: bytes) -> bytes:
    return json.dumps([json.loads(body) for body in bodies]).encode()


def everything(pipeline: Pipeline, mem0: HostedMem0) -> Iterator[str]:
    """All that the stack stores, as text, wherever it is: found without any of the project's code."""
    s3 = pipeline.s3
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=pipeline.bucket):
        for each in page.get("Versions", []):
            got = s3.get_object(Bucket=pipeline.bucket, Key=each["Key"], VersionId=each["VersionId"])
            body = got["Body"].read()
            body = gzip.decompress(body) if each["Key"].endswith(".gz") else body
            yield f"{each['Key']} {got['Metadata']} {body!r} {base64_parts(body)}"
        yield from (each["Key"] for each in page.get("DeleteMarkers", []))
    yield from map(str, pipeline.items().items())
    for name, url in pipeline.outputs.items():
        if name.endswith(("QueueUrl", "DlqUrl")):
            answer = pipeline.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
            yield from (f"{name} {message['Body']}" for message in answer.get("Messages", []))
    yield from map(str, mem0._visible())
    logs = pipeline._client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        if "erasure" in group["logGroupName"]:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                yield from (event["message"] for event in page["events"])


def base64_parts(body: bytes) -> bytes:
    try:
        return base64.b64decode(json.loads(body)["data"]["full_audio"])
    except (ValueError, KeyError, TypeError):
        return b""


def traces(pipeline: Pipeline, mem0: HostedMem0, number: str) -> list[str]:
    """Whatever holds the number, however it is written, or the words."""
    found = everything(pipeline, mem0)
    return [text for text in found if number[1:] in re.sub(r"[ ().-]", "", text) or WORDS[number] in text]


def of(pipeline: Pipeline, mem0: HostedMem0, number: str) -> Any:
    """Each version of a caller's objects, the records, the staged bodies that hold nobody else, and the memories."""
    calls = {key: item for key, item in pipeline.items().items() if number[1:] in item.get("numbers", ())}
    records = {key: item for key, item in calls.items() if key[0] != SHARED}
    staged = {key for item in records.values() for key in item["staged_keys"]}
    bodies = {key: pipeline.body(key) for key in staged & pipeline.object_keys("staging/")}
    versions = {each for each in pipeline.versions(f"{number[1:]}/") if SHARED not in each[0]}
    return versions, records, bodies, mem0.memories(number), mem0.memories(CLIENT)


def is_whole(pipeline: Pipeline, conversation_id: str) -> bool:
    items = pipeline.items()
    memories = [items.get((conversation_id, f"memory#{kind}"), {}).get("state") for kind in ("factual", "semantic")]
    return items.get((conversation_id, "call"), {}).get("audio") == "archived" and memories == ["done", "done"]


def drained(pipeline: Pipeline) -> None:
    queues = ("ArchiveQueueUrl", "MemoryQueueUrl", "AudioQueueUrl", "TextQueueUrl")
    wait_until(lambda: all(pipeline.depth(queue) == 0 for queue in queues))


def test_nothing_of_an_erased_caller_is_left_and_nothing_comes_back(pipeline, ops, mem0, elevenlabs):
    for number, name in ((CALLER, "conv_a"), (OTHER, "conv_b")):
        data = call(f"{name}1", number)
        elevenlabs.add(data, spoken(number))
        elevenlabs.add(call(f"{name}2", number), spoken(number))
        pipeline.post(transcript(data))
        pipeline.post(transcript(data | {"status": "done, again"}, at=1772550300))
        pipeline.post(audio(f"{name}1", number))
        pipeline.post(transcript(call(f"{name}2", number)))  # its recording is fetched
        pipeline.post(failure(f"{name}5", number))
        for body in (transcript(sip(f"{name}6", number)), otel(f"{name}7", number), notice(number)):
            pipeline.post(body)
    both = {CALLER: call("conv_a3", CALLER), OTHER: call("conv_b3", OTHER)}
    pipeline.post(array(*map(transcript, both.values()), broken_audio("conv_a1", CALLER)))
    for number, data in both.items():
        elevenlabs.add(data, spoken(number))
    pipeline.post(transcript(call(SHARED, OTHER, has_audio=False), at=1772550300))
    pipeline.post(f"{CALLER} no json".encode())
    pipeline.post(audio("conv_a8", CALLER))  # its transcript comes a day late
    wait_until(lambda: all(is_whole(pipeline, f"conv_{name}{number}") for name in "ab" for number in (1, 2, 3)))
    wait_until(lambda: pipeline.call(SHARED))
    pipeline.post(transcript(call(SHARED, CALLER, has_audio=False)))
    drained(pipeline)
    mem0.plan("unauthorised", "unauthorised")
    pipeline.post(transcript(call("conv_a4", CALLER, has_audio=False)))
    wait_until(lambda: pipeline.depth("MemoryDlqUrl") == 1)
    assert len(traces(pipeline, mem0, CALLER)) > 30
    before = of(pipeline, mem0, OTHER)

    code, found = ops("erase", CALLER)
    assert (code, found["calls"], found["shared_calls"], found["memories"]) == (0, 7, 1, 8)
    assert len(traces(pipeline, mem0, CALLER)) > 30
    code, certificate = ops("erase", CALLER, "--yes")

    assert (code, certificate["complete"]) == (0, True)
    assert certificate["deleted"]["messages"] == 3  # the one without memories, and two that are poison
    (parked,) = traces(pipeline, mem0, CALLER)
    assert "conv_a8" in parked  # nobody knows yet whose it is
    after = of(pipeline, mem0, OTHER)
    assert after[:4] == before[:4]
    assert [each["metadata"]["conversation_id"] for each in after[4]] == ["conv_b6", "conv_b6"]
    assert pipeline.call(SHARED)["external_number"] == OTHER
    assert "2025550177" not in json.dumps(certificate)

    elevenlabs.add(call("conv_a9", CALLER), spoken(CALLER))
    for body in (
        transcript(call("conv_a1", CALLER)), audio("conv_a2", CALLER), failure("conv_a5", CALLER),
        transcript(call("conv_a8", CALLER)), otel("conv_a10", CALLER), notice(CALLER),
        array(transcript(sip("conv_a11", CALLER)), transcript(call("conv_b11", OTHER, has_audio=False))),
    ):  # fmt: skip
        pipeline.post(body)
    assert ops("replay", "--since", "1h", "--force", "--yes")[0] == 0
    assert ops("backfill", "--since", "2026-03-01", "--until", "2026-03-08", "--yes")[0] == 0
    reconcile(pipeline)
    drained(pipeline)

    assert traces(pipeline, mem0, CALLER) == []
    assert [pipeline.depth(queue) for queue in ("ArchiveDlqUrl", "AudioDlqUrl", "MemoryDlqUrl")] == [0, 0, 0]
    after = of(pipeline, mem0, OTHER)
    assert after[0] >= before[0]  # --force writes anew
    assert f"{OTHER[1:]}/conv_b11.json" in pipeline.object_keys()

    pipeline.post(transcript(held_later(call("conv_a12", CALLER, has_audio=False))))
    drained(pipeline)

    assert pipeline.object_keys(f"{CALLER[1:]}/") == {f"{CALLER[1:]}/conv_a12.json"}
