"""Transcriber: the words of recordings, by Amazon Transcribe. The parameter Transcribe says of which.

Two kinds of messages come through TranscribeQueue: announcements of recordings, which start a job, and names of jobs to
look at. EventBridge sends a name when a job ends. Its events are not guaranteed, so the function sends itself the name
too, and again every few minutes until the job has ended.

The results are copied into the call's folder (`transcriber.transcription`). If a job fails, its call goes to the DLQ
with Amazon Transcribe's reason; a redrive starts another job. Other errors are retried, as everywhere (`shared.batch`).
"""

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from shared.announcements import read_announcement
from shared.aws import Aws
from shared.batch import process_batch, send_to_dlq
from shared.errors import PoisonError
from shared.messages import Announcement
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings
from transcriber.jobs import Jobs
from transcriber.transcription import Transcriber

# If a service of AWS does not answer, the attempt fails after 3 x 12 s and pauses, well within the function's 120 s.
_CONFIG = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
NAME = "TranscriptionJobName"
_METRICS = {
    "started": "TranscriptionStarted", "running": "TranscriptionRunning", "busy": "TranscriptionDelayed",
    "done": "TranscriptionDone", "failed": "TranscriptionFailed", "not_needed": "TranscriptionNotNeeded",
    "dropped": "TranscriptionDropped",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """`job_prefix` begins the names of this stack's jobs. Without `text_queue_url` nothing is indexed."""

    bucket_name: str
    conversation_table_name: str
    transcribe_queue_url: str
    dlq_url: str
    text_queue_url: str
    job_prefix: str
    kms_key_arn: str
    transcribe: str
    transcribe_check_seconds: int


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


@at_start
def jobs() -> Jobs:
    client = boto3.client("transcribe", config=_CONFIG)
    return Jobs(client, settings().job_prefix, settings().bucket_name, settings().kms_key_arn)


def transcriber() -> Transcriber:
    return Transcriber(
        aws().bucket, aws().records, jobs(), reject, index, only_missing=settings().transcribe == "missing"
    )


def reject(announcement: Announcement, error: PoisonError) -> None:
    send_to_dlq(announcement.to_json(), error, aws().sqs, settings().dlq_url)


def index(announcement: Announcement) -> None:
    """Have the call's words indexed. Other subscribers of the topic need not hear of the call again."""
    if settings().text_queue_url:
        aws().sqs.send_message(QueueUrl=settings().text_queue_url, MessageBody=announcement.to_json())


def send_later(body: str) -> None:
    aws().sqs.send_message(
        QueueUrl=settings().transcribe_queue_url, MessageBody=body, DelaySeconds=settings().transcribe_check_seconds
    )


def handle_record(record: SQSRecord) -> None:
    name = read_job_name(record.body)
    outcome = look_at(name) if name else start(record.body)
    count(_METRICS[outcome])
    logger.info("Transcription", outcome=outcome)


def start(body: str) -> str:
    """Start the job of an announced recording. If too many are running, the announcement comes back later."""
    conversation_id = read_announcement(body).conversation_id
    logger.append_keys(conversation_id=conversation_id)
    outcome, name = transcriber().request(conversation_id, datetime.now(timezone.utc))
    if outcome == "started":
        send_later(json.dumps({NAME: name}))
    elif outcome == "busy":
        send_later(body)
    return outcome


def look_at(name: str) -> str:
    """Finish a job that has ended; look again later at one that has not."""
    conversation_id = jobs().call_of(name)
    if conversation_id is None:
        return "dropped"  # of another stack
    logger.append_keys(conversation_id=conversation_id)
    outcome = transcriber().settle(name)
    if outcome == "running":
        send_later(json.dumps({NAME: name}))
    return outcome


def read_job_name(body: str) -> str | None:
    """The job that EventBridge or this function names; None if the message is another one."""
    try:
        content = json.loads(body)
    except ValueError:
        return None
    name = content.get(NAME) if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    return process_batch(event, context, handle_record, aws().sqs, settings().dlq_url)
