"""Archiver: turn a staged body into the call's final objects, its record and an announcement.

Audio does not name its caller, so it needs the record that its transcript writes (`archiver.archive`). The transcript
saves the call's S3 folder there. Audio that arrives first is parked in the record, and its message is acknowledged. The
second of the two events to arrive writes the audio into the folder and tags its staged body.

An array body is split first (`archiver.splitter`), so that every other body holds one event.

The tag `archived=true` on the staged body is written last. Until then the body is kept, and its claim check may be
processed again: records are updated conditionally, and objects replace only older versions. If a call is erased, or
left out by the stack's parameters, its staged body is deleted instead. So is an array.

A record that raises is retried, and then moved to the DLQ. A poison message (not JSON, an invalid id, invalid audio)
goes to the DLQ at once (`shared.batch`). If a call's JSON cannot be written, the call is announced with its staged
body, so that a fault of S3 does not delay its memories.
"""

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Literal

import boto3
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from pydantic import TypeAdapter

from archiver.archive import Archiver, Outcome
from archiver.delivery import Delivery
from archiver.splitter import Splitter
from archiver.staged import Staged, discard, open_staged
from shared.aws import Aws
from shared.batch import process_batch, string_attributes
from shared.errors import PoisonError
from shared.keys import staged_delivery_id
from shared.messages import Announcement, ClaimCheck
from shared.observability import count, logger, metrics
from shared.selection import read_selection
from shared.settings import at_start, read_settings
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed
from shared.webhooks import split

# Two attempts of 5 s with a pause of 1 s. If S3 and then SNS do not answer, a record fails after 22 s of the function's
# 120 s.
_CONFIG = Config(connect_timeout=1, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 2})
_CLAIM_CHECK = TypeAdapter(ClaimCheck)


@dataclass(frozen=True)
class Settings:
    bucket_name: str
    conversation_table_name: str
    call_archived_topic_arn: str
    archive_queue_url: str
    erasure_secret_arn: str
    dlq_url: str
    keep_audio: bool
    gzip_json: bool
    minimum_call_seconds: int
    agent_ids: str


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


@at_start
def sns() -> Any:
    return boto3.client("sns", config=_CONFIG)


def announce(announcement: Announcement) -> None:
    """Publish to CallArchivedTopic. A retry publishes again, so that subscribers may get an announcement twice."""
    sns().publish(
        TopicArn=settings().call_archived_topic_arn,
        Message=announcement.to_json(),
        MessageAttributes=string_attributes(announcement.attributes()),
    )


@at_start
def archiver() -> Archiver:
    """The erasure key is read when a number needs it, not at the start: if that fails, only such calls are retried."""
    return Archiver(
        aws().bucket, aws().records, Unnamed(aws().table),
        Tombstones(aws().table, partial(aws().read_secret, settings().erasure_secret_arn)),
        announce, read_selection(settings().agent_ids, settings().minimum_call_seconds),
        keep_audio=settings().keep_audio, gzip_json=settings().gzip_json,
    )  # fmt: skip


def splitter() -> Splitter:
    return Splitter(aws().bucket, Unnamed(aws().table), aws().sqs, settings().archive_queue_url)


def handle_record(record: SQSRecord) -> None:
    check = read_claim_check(record.body)
    logger.append_keys(delivery_id=check.delivery_id)
    with open_staged(aws().bucket, check.staged_key) as staged:
        if staged is None:
            if aws().records.is_discarded(check.delivery_id):
                return count("DiscardedDropped")
            raise PoisonError("staged body", "There is no staged body under the claim check's key.")
        outcome = split_or_archive(staged, check)
    if outcome in ("erased", "left_out", "split"):
        discard(aws().bucket, aws().records, check.staged_key)
    elif outcome == "done":
        aws().bucket.tag_archived(check.staged_key)


def split_or_archive(staged: Staged, check: ClaimCheck) -> Outcome | Literal["split"]:
    """Archive the event, or split the array. An array is deleted after that: one of its elements may be erased."""
    now = datetime.now(timezone.utc)
    elements = None if staged.recording else split(staged.body)
    if elements is None:
        return archiver().archive(Delivery(check, staged), now)
    splitter().split(elements, staged, check, now)
    count("ArraySplit")
    logger.info("Array split", elements=len(elements))
    return "split"


def read_claim_check(body: str) -> ClaimCheck:
    """Raises PoisonError unless `body` is a claim check of version 1."""
    try:
        check = _CLAIM_CHECK.validate_json(body)
        datetime.fromisoformat(check.received_at).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # pydantic's ValidationError is a ValueError
        raise PoisonError("claim check", "The message is not a claim check of version 1.") from None
    if staged_delivery_id(check.staged_key) != check.delivery_id:
        raise PoisonError("claim check", "The staged_key does not belong to the delivery_id.")
    return check


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    return process_batch(event, context, handle_record, aws().sqs, settings().dlq_url)
