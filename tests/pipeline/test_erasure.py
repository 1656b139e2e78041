"""A caller who wants to be forgotten: nothing of theirs is left anywhere, nothing comes back, and nobody else loses."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.elevenlabs_stand_in import ElevenLabs
from scripts.embedded import EmbeddedAws
from tests.conftest import fixture_body
from tests.mem0_stand_in import HostedMem0
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until
from tests.pipeline.test_completeness import reconcile

CALLER, OTHER = "+12025550177", "+12025550178"
WORDS = {CALLER: "Kingfisher", OTHER: "Halcyon"}
PARAMETERS = {
    "BucketName": "agentic-memory-erasure", "Mem0ApiKey": "m0-test", "ElevenLabsApiKey": "xi-test",
    "ArchiveTimeoutSeconds": "12", "ArchiveVisibilitySeconds": "12", "ArchiveConcurrency": "2",
    "MemoryTimeoutSeconds": "12", "MemoryVisibilitySeconds": "12", "MemoryConcurrency": "2", "AudioConcurrency": "2",
    "AudioDelaySeconds": "0", "ReconcileAfterMinutes": "0",
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
    phone_call = data["metadata"]["phone_call"] | {"external_number": number}
    return data | {"metadata": data["metadata"] | {"phone_call": phone_call}}


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


def everything(pipeline: Pipeline, mem0: HostedMem0) -> Iterator[str]:
    """All that the stack stores, as text, wherever it is: found without any of the project's code."""
    s3 = pipeline.s3
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=pipeline.bucket):
        for each in page.get("Versions", []):
            got = s3.get_object(Bucket=pipeline.bucket, Key=each["Key"], VersionId=each["VersionId"])
            body = got["Body"].read()
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
    return [text for text in everything(pipeline, mem0) if number.lstrip("+") in text or WORDS[number] in text]


def of(pipeline: Pipeline, mem0: HostedMem0, number: str) -> Any:
    """Each version of a caller's objects, the records, the staged bodies that hold nobody else, and the memories."""
    records = {key: item for key, item in pipeline.items().items() if item.get("external_number") == number}
    staged = {key for item in records.values() for key in item.get("staged_keys", ())}
    bodies = {key: pipeline.body(key) for key in staged & pipeline.object_keys("staging/")}
    alone = {key: body for key, body in bodies.items() if not body.startswith(b"[")}
    return pipeline.versions(f"{number.lstrip('+')}/"), records, alone, mem0.memories(number)


def is_whole(pipeline: Pipeline, conversation_id: str) -> bool:
    items = pipeline.items()
    memories = [items.get((conversation_id, f"memory#{kind}"), {}).get("state") for kind in ("factual", "semantic")]
    return items.get((conversation_id, "call"), {}).get("audio") == "archived" and memories == ["done", "done"]


def drained(pipeline: Pipeline) -> None:
    queues = ("ArchiveQueueUrl", "MemoryQueueUrl", "AudioQueueUrl")
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
    both = {CALLER: call("conv_a3", CALLER), OTHER: call("conv_b3", OTHER)}
    pipeline.post(json.dumps([json.loads(transcript(each)) for each in both.values()]).encode())
    for number, data in both.items():
        elevenlabs.add(data, spoken(number))
    pipeline.post(f"{CALLER} no json".encode())
    wait_until(lambda: all(is_whole(pipeline, f"conv_{name}{number}") for name in "ab" for number in (1, 2, 3)))
    drained(pipeline)
    mem0.plan("unauthorised", "unauthorised")
    pipeline.post(transcript(call("conv_a4", CALLER, has_audio=False)))
    wait_until(lambda: pipeline.depth("MemoryDlqUrl") == 1)
    assert len(traces(pipeline, mem0, CALLER)) > 20
    before = of(pipeline, mem0, OTHER)

    code, found = ops("erase", CALLER)
    assert (code, found["calls"], found["memories"]) == (0, 4, 6)
    assert len(traces(pipeline, mem0, CALLER)) > 20
    code, certificate = ops("erase", CALLER, "--yes")

    assert (code, certificate["complete"]) == (0, True)
    assert certificate["deleted"]["messages"] == 2  # the one without memories, and the one that is not JSON
    assert traces(pipeline, mem0, CALLER) == []
    assert of(pipeline, mem0, OTHER) == before
    assert "2025550177" not in json.dumps(certificate)

    pipeline.post(transcript(call("conv_a1", CALLER)))
    pipeline.post(audio("conv_a2", CALLER))
    pipeline.post(failure("conv_a5", CALLER))
    assert ops("replay", "--since", "1h", "--force", "--yes")[0] == 0
    assert ops("backfill", "--since", "2026-03-01", "--until", "2026-03-08", "--yes")[0] == 0
    reconcile(pipeline)
    drained(pipeline)

    assert traces(pipeline, mem0, CALLER) == []
    assert [pipeline.depth(queue) for queue in ("ArchiveDlqUrl", "AudioDlqUrl", "MemoryDlqUrl")] == [0, 0, 0]
    after = of(pipeline, mem0, OTHER)
    assert after[0] >= before[0]  # --force writes anew
    assert after[3] == before[3]
