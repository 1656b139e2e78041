"""Signed webhooks, and the state of what ingest writes."""

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone

import boto3

from ingest.handler import receive
from shared.signature import sign
from tests.conftest import SECRET, fixture_body

BODY = fixture_body("02")
DELIVERY_ID = hashlib.sha256(BODY).hexdigest()


def http_event(body: bytes | str | None, header: str | None = None, *, encode: bool = False) -> dict:
    """A request from an HTTP API, payload format 2.0."""
    text = body.decode() if isinstance(body, bytes) and not encode else body
    headers = {"content-type": "application/json"} | ({"elevenlabs-signature": header} if header is not None else {})
    return {
        "version": "2.0", "routeKey": "POST /post-call", "rawPath": "/post-call", "headers": headers,
        "body": base64.b64encode(body).decode() if encode else text, "isBase64Encoded": encode,
    }  # fmt: skip


def signed(body: bytes = BODY, secret: str = SECRET, late: int = 0, **options) -> dict:
    timestamp = str(int(datetime.now(timezone.utc).timestamp()) - late)
    return http_event(body, f"t={timestamp},v0={sign(body, timestamp, secret)}", **options)


def claim_checks(aws) -> list[dict]:
    return [json.loads(message["Body"]) for message in aws.take("ArchiveQueueUrl")]


def assert_nothing_was_stored(aws) -> None:
    assert aws.object_keys("staging/") == set()
    assert claim_checks(aws) == []


def delete_secret(aws) -> None:
    arn = aws.outputs["WebhookSecretArn"]
    boto3.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def put_secret(aws, value: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=aws.outputs["WebhookSecretArn"], SecretString=value)


def receive_after(seconds: int, secret: str = SECRET) -> str:
    """Process a webhook that is signed and received this many seconds from now; returns its delivery_id."""
    return receive(signed(secret=secret, late=-seconds), datetime.now(timezone.utc) + timedelta(seconds=seconds))[0]


def counted(metric: str, output: str) -> int:
    return sum(metric in json.loads(line) for line in output.splitlines() if '"_aws"' in line)
