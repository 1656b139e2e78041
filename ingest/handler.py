"""Ingest: verify a webhook's signature, stage its body, and queue its claim check.

The answer is 200 only when the raw body is in S3 and the claim check in SQS. The JSON is not parsed: every signed body
is kept. The same bytes get the same delivery_id, and within the clock hour the same key. For a repeat, the body is
already staged, and the claim check is sent again. In a later hour the body is staged again, which does no harm.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import ClientError

from ingest.secret import Periods, SigningSecret
from ingest.signature import verify
from ingest.source import is_listed
from shared import keys
from shared.aws_errors import AwsError, error_code
from shared.errors import BodyError, SignatureError, UnavailableError
from shared.messages import ClaimCheck
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings
from shared.signature import SIGNATURE, TEST
from shared.times import utc

# ElevenLabs does not wait long: if one service does not answer, we answer within 8 s. Each service gets two attempts of
# 2 s with a pause of at most 1 s: 5 s. One attempt is not enough: a freeze may have ended the pooled connection.
_CONFIG = Config(connect_timeout=0.5, read_timeout=1.5, retries={"mode": "standard", "total_max_attempts": 2})


@dataclass(frozen=True)
class Settings:
    bucket_name: str
    archive_queue_url: str
    webhook_secret_arn: str
    signature_max_age_seconds: int
    signature_max_ahead_seconds: int
    secret_overlap_seconds: int
    source_addresses: str  # off, metric or filter
    allowed_sources: str
    secret_cache_seconds: int
    secret_grace_seconds: int


@dataclass(frozen=True)
class Aws:
    """The clients and the cached secret of one execution environment."""

    s3: Any
    sqs: Any
    secret: SigningSecret


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    periods = Periods(
        overlap=timedelta(seconds=settings().secret_overlap_seconds),
        cache_time=timedelta(seconds=settings().secret_cache_seconds),
        grace=timedelta(seconds=settings().secret_grace_seconds),
    )
    return Aws(
        s3=boto3.client("s3", config=_CONFIG),
        sqs=boto3.client("sqs", config=_CONFIG),
        secret=SigningSecret(boto3.client("secretsmanager", config=_CONFIG), settings().webhook_secret_arn, periods),
    )


def receive(event: dict[str, Any], now: datetime) -> tuple[str, str]:
    """Process one webhook; returns its delivery_id and which key signed it. Body and claim check are then durable."""
    body = read_body(event)
    signed_with = authenticate(body, read_header(event, SIGNATURE), now)
    check_source(read_source(event))
    check = stage(body, now)
    send_claim_check(check)
    return check.delivery_id, signed_with


def read_body(event: dict[str, Any]) -> bytes:
    """The raw bytes, as they were signed. Raises BodyError."""
    text = event.get("body") or ""
    try:
        body = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, ValueError):
        raise BodyError("The body could not be decoded.") from None
    if not body:
        raise BodyError("The body is empty.")
    return body


def read_header(event: dict[str, Any], wanted: str) -> str | None:
    """A header; its case does not matter."""
    headers = event.get("headers") or {}
    return next((value for name, value in headers.items() if name.lower() == wanted.lower()), None)


def read_source(event: dict[str, Any]) -> str:
    """The address of the connection, which headers cannot change."""
    return str(event.get("requestContext", {}).get("http", {}).get("sourceIp", ""))


def authenticate(body: bytes, signature: str | None, now: datetime) -> str:
    """Which key signed `body`: current or previous. A mismatch reads the secret again. Raises SignatureError."""
    secret = aws().secret
    try:
        return _find_key(body, signature, secret.keys(now), now)
    except SignatureError as error:
        if error.reason != "mismatch" or not secret.reread(now):
            raise
        return _find_key(body, signature, secret.keys(now), now)


def _find_key(body: bytes, signature: str | None, secrets: dict[str, str], now: datetime) -> str:
    max_age = timedelta(seconds=settings().signature_max_age_seconds)
    max_ahead = timedelta(seconds=settings().signature_max_ahead_seconds)
    found, errors = [], []
    for name, secret in secrets.items():  # always all: the time must not show which one matched
        try:
            verify(body, signature, [secret], now, max_age, max_ahead)
            found.append(name)
        except SignatureError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found[0]


def check_source(source: str) -> None:
    """Count or refuse a signed body from an unknown address: a new one of ElevenLabs, or someone has the key."""
    if settings().source_addresses == "off" or is_listed(source, settings().allowed_sources):
        return
    if settings().source_addresses == "filter":
        raise SignatureError("source")
    count("SourceUnknown")


def stage(body: bytes, now: datetime) -> ClaimCheck:
    """Store the body byte for byte. Within the hour a repeat has the same key and is not written again."""
    delivery_id = hashlib.sha256(body).hexdigest()
    key = keys.staged(now, delivery_id)
    try:
        _put_new(key, body)
    except AwsError as error:
        raise UnavailableError("S3", error_code(error)) from error
    return ClaimCheck(delivery_id, key, utc(now), source="webhook")


def _put_new(key: str, body: bytes, attempts: int = 2) -> None:
    """Write the object unless it exists. S3 may refuse one of two concurrent puts with a conflict."""
    try:
        aws().s3.put_object(
            Bucket=settings().bucket_name,
            Key=key,
            Body=body,
            ContentType="application/json",
            Metadata={"origin": "webhook"},
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error_code(error) == "ConditionalRequestConflict" and attempts > 1:
            _put_new(key, body, attempts - 1)
        elif error_code(error) != "PreconditionFailed":
            raise


def send_claim_check(check: ClaimCheck) -> None:
    """Queue the claim check, also for a repeat: the first delivery may have failed after S3 and before SQS."""
    try:
        aws().sqs.send_message(QueueUrl=settings().archive_queue_url, MessageBody=check.to_json())
    except AwsError as error:
        raise UnavailableError("SQS", error_code(error)) from error


def _answer(status_code: int, **body: str) -> dict[str, Any]:
    return {"statusCode": status_code, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    try:
        delivery_id, signed_with = receive(event, datetime.now(timezone.utc))
    except BodyError as error:
        count("BodyRejected")
        logger.info("Webhook refused: body", reason=str(error))
        return _answer(400, error=str(error))
    except SignatureError as error:
        count("SignatureRejected", reason=error.reason)
        logger.info("Webhook refused: signature", reason=error.reason)
        return _answer(401, error="The signature is missing, wrong or out of date.")
    except UnavailableError as error:
        count("WebhookUnavailable", reason=error.service)
        logger.exception("Webhook not stored", service_at_fault=error.service)
        return _answer(503, error="The webhook could not be stored now. Please send it again.")
    if read_header(event, TEST):
        count("TestWebhookStaged")
        logger.info("Test webhook staged", delivery_id=delivery_id)
    else:
        count("WebhookStaged")
        if signed_with == "previous":
            count("SignedWithPrevious")
        logger.info("Webhook staged", delivery_id=delivery_id, secret=signed_with)
    return _answer(200, status="ok", delivery_id=delivery_id)
