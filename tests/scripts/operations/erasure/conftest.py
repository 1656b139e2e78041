"""Erasures, and all kinds of data that a stack can have about a caller."""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

import reconciler.handler
from memory_writer.memory import Memory
from memory_writer.platform import PlatformBackend
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack, close_clients, fixture_body, forget
from tests.mem0_stand_in import HostedMem0
from tests.scripts.operations.conftest import (
    CALLER,
    AwsCalls,
    archive_checks,
    deploy_outputs,
    table,
)
from tests.scripts.operations.conftest import transcript as call_without_words

OTHER = "+12025550199"


WORDS = defaultdict(lambda: "Kingfisher", {OTHER: "Halcyon"})


Erase = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def more_outputs() -> dict[str, str]:
    """No function is running: an erasure waits one second longer than the longest timeout."""
    timeouts = {f"{name}TimeoutSeconds": "-1" for name in ("Archive", "Memory", "Text")}
    return timeouts | {"MemoryUnknownSeconds": "3600"}


@pytest.fixture
def erase(run_ops: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Erase:
    """Exit code and certificate of an erasure."""
    numbers = count()

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / f"erasure{next(numbers)}.json"
        code, _, err = run_ops("erase", *words, "--yes", "--certificate", str(file))
        assert file.exists(), err
        return code, json.loads(file.read_text())

    return run


@pytest.fixture
def failed(run_ops: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and last line of stderr of an erasure that ends with neither data nor a certificate."""

    def run(*words: str) -> tuple[int, str]:
        code, out, err = run_ops("erase", *words, "--yes", "--certificate", f"{tmp_path}/failed.json")
        assert out == ""
        assert not list(tmp_path.glob("failed.*"))
        return code, err.splitlines()[-1]

    return run


@pytest.fixture
def keep(stack: Stack, context: Any) -> Callable[..., list[str]]:
    """Stage bodies and archive them; returns their staged keys."""

    def run(*bodies: Any) -> list[str]:
        checks = [stage(stack, body) for body in bodies]
        archive_checks(context, *checks)
        archive_rest(stack, context)  # the elements of arrays
        return [staged_key(check) for check in checks]

    return run


@pytest.fixture
def sweep(stack: Stack) -> Callable[[], None]:
    """The hourly run over all hours, which notes unfinished bodies. Its claim checks wait in the queue."""

    def run() -> None:
        table(stack).delete_item(Key={"conversation_id": "#reconciler", "item": "swept"})
        reconciler.handler.reconcile(datetime.now(timezone.utc), lambda: True)

    return run


@pytest.fixture
def lock(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, datetime], None]:
    """Give the stack a bucket with Object Lock; returns a function that locks all versions of an object."""
    bucket = "locked"
    stack.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    monkeypatch.setenv("BUCKET_NAME", bucket)
    forget()
    stack.outputs["BucketName"] = bucket
    deploy_outputs(stack.outputs)

    def run(key: str, until: datetime, mode: str = "COMPLIANCE") -> None:
        for version in stack.s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]:
            retention = {"Mode": mode, "RetainUntilDate": until}
            named = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
            stack.s3.put_object_retention(**named, Retention=retention)

    return run


def unlock(stack: Stack) -> None:
    """End all retention."""
    stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[stack.bucket].keys
    for version in (version for key in list(stored) for version in stored.getlist(key)):
        version.lock_mode = version.lock_until = None


@pytest.fixture
def hosted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedMem0]:
    """Mem0's platform, which the memory writer and the tool are pointed to."""
    with HostedMem0() as stand_in:
        point_to(stand_in, stack, monkeypatch)
        yield stand_in
        close_clients()


def point_to(mem0: HostedMem0, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = boto3.client("secretsmanager").create_secret(Name="mem0-key", SecretString=mem0.key)["ARN"]
    settings = {"MEMORY_BACKEND": "platform", "MEM0_HOST": mem0.url, "MEMORY_SECRET_ARN": secret}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    forget()
    stack.outputs |= {"MemoryBackend": "platform", "Mem0Host": mem0.url, "MemorySecretArn": secret}
    deploy_outputs(stack.outputs)


def call(conversation_id: str, number: str | None = CALLER, **fields: Any) -> dict[str, Any]:
    words = [{"role": "user", "message": WORDS[number or CALLER]}]
    event = call_without_words(conversation_id, str(number), transcript=words, **fields)
    return event if number else event | {"data": event["data"] | {"metadata": {}}}


def audio(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    full_audio = base64.b64encode(spoken(number)).decode()
    return {"type": "post_call_audio", "data": {"conversation_id": conversation_id, "full_audio": full_audio}}


def spoken(number: str) -> bytes:
    return b"ID3 " + WORDS[number].encode()


def failure(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    """An event about a call that failed to start."""
    event = json.loads(fixture_body("09"))
    event["data"]["conversation_id"] = conversation_id
    event["data"]["metadata"]["body"] |= {"To": number, "Called": number}
    return dict(event)


def notice(number: str = CALLER, written: str = "") -> dict[str, Any]:
    """An event without a call, with a number in its text."""
    return {"type": "callback_wanted", "data": {"text": f"Call {written or number} back about {WORDS[number]}."}}


def traced(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    """A call that has only an OpenTelemetry event."""
    named = {"key": "elevenlabs.telephony.external_number", "value": {"stringValue": f"tel:{number}"}}
    span = {"attributes": [named, {"key": "transcript", "value": {"stringValue": WORDS[number]}}]}
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    return {"type": "post_call_transcription_otel", "data": {"conversation_id": conversation_id, "otlp_traces": traces}}


def sip(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    event = call(conversation_id, number)
    event["data"]["metadata"] = {"phone_call": {"external_number": f"sip:{number}@pbx.example:5060"}}
    return event


def kept(stack: Stack) -> Iterator[str]:
    """All data in the stack as text, found without the project's code."""
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=stack.bucket):
        for each in page.get("Versions", []):
            got = stack.s3.get_object(Bucket=stack.bucket, Key=each["Key"], VersionId=each["VersionId"])
            body = got["Body"].read()
            audio = re.findall(rb'"full_audio": ?"([^"]*)"', body)
            yield f"{each['Key']} {got['Metadata']} {body!r} {b''.join(map(base64.b64decode, audio))!r}"
        yield from (each["Key"] for each in page.get("DeleteMarkers", []))
    yield from (f"{key} {item}" for key, item in stack.items().items())
    for name in ("ArchiveQueueUrl", "ArchiveDlqUrl", "MemoryDlqUrl", "MemoryQueueUrl", "AudioQueueUrl", "AudioDlqUrl"):
        asked = {"QueueUrl": stack.outputs[name], "MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
        yield from (message["Body"] for message in stack.sqs.receive_message(**asked).get("Messages", []))


def traces(stack: Stack, number: str = CALLER) -> list[str]:
    return [text for text in kept(stack) if number[1:] in re.sub(r"[ ().-]", "", text) or WORDS[number] in text]


def everything(stack: Stack, keep: Callable[..., list[str]], sweep: Callable[[], None], name: str) -> None:
    """All kinds of data about the caller, and about the other caller in the same bodies."""
    keep(call(f"{name}1", has_audio=True), audio(f"{name}1"), call(f"{name}1", status="done") | {"event_timestamp": 9})
    stack.s3.delete_object(Bucket=stack.bucket, Key=f"{CALLER[1:]}/{name}1.json")
    keep(call(f"{name}2", None), failure(f"{name}2", "anonymous"), call(f"{name}2") | {"event_timestamp": 9})
    keep(failure(f"{name}3"), notice(), [failure(f"{name}4"), call(f"{name}5", OTHER)], f"{CALLER} is no JSON".encode())
    keep(audio(f"{name}6"), sip(f"{name}8"), traced(f"{name}9"), notice(written="+1 (202) 555-0123"))
    stage(stack, call(f"{name}6"))
    stage_recording(stack, f"{name}7", spoken(CALLER))
    stage(stack, call(f"{name}7"))
    sweep()
    message = json.dumps({"conversation_id": f"{name}1", "external_number": CALLER, "source_key": "-"})
    stack.sqs.send_message(QueueUrl=stack.outputs["MemoryDlqUrl"], MessageBody=message)


def archive_rest(stack: Stack, context: Any) -> None:
    """Archive what waits in ArchiveQueue."""
    if checks := [message["Body"] for message in stack.take("ArchiveQueueUrl")]:
        archive_checks(context, *checks)


def at(aws_calls: AwsCalls, operation: str, number: int, act: Callable[[], Any]) -> None:
    """Do something once, after the given number of operations from now on."""
    aws_calls.seen.clear()
    left = [act]
    aws_calls.after(operation, lambda: left.pop()() if left and aws_calls.seen[operation] >= number else None)


def remembered(mem0: HostedMem0, user: str, conversation_id: str) -> None:
    """As if the memory writer had sent the memory and then stopped."""
    metadata: dict[str, str | int | None] = {"conversation_id": conversation_id, "type": "factual"}
    memory = Memory(user, "factual", [{"role": "user", "content": "-"}], metadata, infer=False)
    PlatformBackend(mem0.url, mem0.key, 5).add(memory, again=False)
