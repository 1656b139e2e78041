"""Where trouble ends: a stack with short timeouts, whose bucket refuses one caller's calls until it is mended."""

import json
from typing import Any

import httpx
import pytest

from shared.messages import ClaimCheck
from tests.conftest import Stack
from tests.pipeline.conftest import Pipeline, wait_until

SHORT = {
    "BucketName": "agentic-memory-faults",
    "ArchiveTimeoutSeconds": "5",
    "ArchiveVisibilitySeconds": "5",
    "ArchiveMaxReceives": "2",
    "MemoryTimeoutSeconds": "20",
    "MemoryVisibilitySeconds": "20",
    "MemoryMaxReceives": "2",
}
FORBIDDEN, NEIGHBOURS = "12025550199", ["12025550101", "12025550102", "12025550103"]


def body(number: str) -> bytes:
    turn = {"role": "user", "message": f"This is the caller of {number}."}
    metadata = {"phone_call": {"external_number": f"+{number}", "direction": "inbound"}}
    data = {"conversation_id": f"conv_{number}", "metadata": metadata, "transcript": [turn]}
    return json.dumps({"type": "post_call_transcription", "event_timestamp": 1772550278, "data": data}).encode()


def forbid(stack: Stack, number: str) -> None:
    """A bucket policy that refuses whatever is written for this caller."""
    statement = {
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{stack.bucket}/{number}/*",
    }  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.s3.put_bucket_policy(Bucket=stack.bucket, Policy=policy)


def redrive(stack: Stack, dlq: str, queue: str) -> int:
    messages = stack.take(dlq)
    for message in messages:
        stack.sqs.send_message(QueueUrl=stack.outputs[queue], MessageBody=message["Body"])
    return len(messages)


@pytest.fixture(scope="module")
def faults(emulator: Any) -> Pipeline:
    return Pipeline(emulator, "faults", SHORT)


def test_a_message_that_keeps_failing_ends_in_the_dlq_and_a_redrive_heals_it(faults):
    forbid(faults, FORBIDDEN)
    answers = {number: faults.post(body(number)) for number in (FORBIDDEN, *NEIGHBOURS)}
    wait_until(lambda: faults.depth("ArchiveDlqUrl") == 1 and faults.depth("ArchiveQueueUrl") == 0)
    faults.settle()

    # The neighbours are archived, and the call itself is remembered from its staged body.
    assert faults.object_keys() == {f"{number}/conv_{number}.json" for number in NEIGHBOURS}
    assert [memory["memory"] for memory in faults.memories(f"+{FORBIDDEN}")] == [f"This is the caller of {FORBIDDEN}."]
    staged = {key.rpartition("/")[2].removesuffix(".json"): key for key in faults.object_keys("staging/")}
    tagged = {number: faults.tags(staged[answer.json()["delivery_id"]]) for number, answer in answers.items()}
    assert tagged == {FORBIDDEN: {}} | {number: {"archived": "true"} for number in NEIGHBOURS}

    faults.s3.delete_bucket_policy(Bucket=faults.bucket)
    assert redrive(faults, "ArchiveDlqUrl", "ArchiveQueueUrl") == 1
    faults.settle()

    assert f"{FORBIDDEN}/conv_{FORBIDDEN}.json" in faults.object_keys()
    assert len(faults.memories(f"+{FORBIDDEN}")) == 1
    assert faults.tags(staged[answers[FORBIDDEN].json()["delivery_id"]]) == {"archived": "true"}


def test_in_one_batch_what_cannot_be_healed_is_set_aside_at_once_and_the_others_are_archived(faults):
    calls = {f"1202555011{digit}": body(f"1202555011{digit}") for digit in range(3)}
    checks = [
        stage(faults, "a" * 64, b"not json"),
        *(stage(faults, str(n) * 64, b) for n, b in enumerate(calls.values())),
    ]

    faults.sqs.send_message_batch(
        QueueUrl=faults.outputs["ArchiveQueueUrl"],
        Entries=[{"Id": str(number), "MessageBody": check} for number, check in enumerate(checks)],
    )
    wait_until(lambda: faults.depth("ArchiveDlqUrl") == 1)
    faults.settle()

    assert {f"{number}/conv_{number}.json" for number in calls} <= faults.object_keys()
    (message,) = faults.take("ArchiveDlqUrl")
    assert message["Body"] == checks[0]
    attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
    assert attributes == {"step": "webhook", "error": "The body is not JSON."}


def stage(stack: Stack, delivery_id: str, raw: bytes) -> str:
    key = f"staging/2026/11/22/10/{delivery_id}.json"
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=raw, Metadata={"origin": "webhook"})
    return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "replay").to_json()


def test_announcements_that_cannot_be_remembered_end_in_the_memory_dlq(faults):
    announcement = {"version": 2, "event": "transcript_archived", "conversation_id": "conv_gone", "order": "1-1"}
    unreadable, gone = json.dumps(announcement), json.dumps(
        announcement | {"agent_id": None, "external_number": None, "source_key": "no-phone/conv_gone.json",
                        "json_key": "no-phone/conv_gone.json", "mp3_key": None, "audio": "none"}
    )  # fmt: skip
    for message in (unreadable, gone):
        faults.sqs.send_message(QueueUrl=faults.outputs["MemoryQueueUrl"], MessageBody=message)
    wait_until(lambda: faults.depth("MemoryDlqUrl") == 2)

    assert sorted(step for step, _ in faults.reasons("MemoryDlqUrl")) == ["announcement", "source"]


def test_the_functions_run_under_their_own_roles(emulator, faults):
    health = httpx.get(f"{emulator.endpoint_url}/_ministack/health", trust_env=False).json()
    assert health["auth"] == "enabled"

    iam = faults._client("iam")
    role = next(each["RoleName"] for each in iam.list_roles()["Roles"] if "faults-IngestRole" in each["RoleName"])
    policy = iam.get_role_policy(RoleName=role, PolicyName="ingest")["PolicyDocument"]
    iam.delete_role_policy(RoleName=role, PolicyName="ingest")
    assert faults.post(body("12025550120")).status_code == 503

    iam.put_role_policy(RoleName=role, PolicyName="ingest", PolicyDocument=json.dumps(policy))
    wait_until(lambda: faults.post(body("12025550120")).status_code == 200)  # it asks for the secret now and then
