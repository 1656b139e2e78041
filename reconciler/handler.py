"""Reconciler: fetches the calls and recordings that webhooks did not deliver.

Two functions run this handler. One runs every hour: the sweep (`reconciler.sweep`) and, if the stack has a key of
ElevenLabs' API, the pass over its list of calls (`reconciler.calls`) and the watchdog of the webhook
(`reconciler.watchdog`). The other gets each call that was announced without its audio, after a delay, and fetches the
recording (`reconciler.audio`).

Fetched data is staged and archived like a webhook's body, but a webhook's version always wins.

A record that raises is retried, and then moved to the DLQ. If ElevenLabs refuses the key, records are acknowledged and
a metric is counted; a later pass finds the calls again once the key is corrected.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from reconciler.audio import ended_at, fetch_audio, find_missing, is_asked_for
from reconciler.bookmarks import Bookmarks
from reconciler.calls import WINDOW, CallsPass, Report
from reconciler.elevenlabs import ElevenLabs
from reconciler.staging import Staging
from reconciler.sweep import sweep
from reconciler.watchdog import ADVICE, find_troubles
from shared.announcements import read_announcement
from shared.aws import Aws
from shared.aws_errors import AwsError
from shared.batch import process_batch
from shared.call import Call
from shared.errors import ElevenLabsError, KeyRefusedError
from shared.messages import Announcement
from shared.observability import count, logger, metrics
from shared.selection import read_selection
from shared.settings import at_start, read_settings
from shared.times import utc
from shared.unnamed import Unnamed

_CONFIG = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
PARKED_LONG = timedelta(days=1)
_SPARE_SECONDS = 120  # for the running requests, at most 70 s each, and to save the progress


@dataclass(frozen=True)
class Settings:
    """`elevenlabs_secret_arn` is the secret with the API's key; without it, only the sweep runs."""

    bucket_name: str
    conversation_table_name: str
    archive_queue_url: str
    audio_queue_url: str
    dlq_url: str
    elevenlabs_secret_arn: str
    elevenlabs_host: str
    http_api_id: str
    reconcile_after_minutes: int
    minimum_call_seconds: int
    agent_ids: str


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


def staging() -> Staging:
    return Staging(aws().bucket, aws().sqs, settings().archive_queue_url)


def bookmarks() -> Bookmarks:
    return Bookmarks(aws().table)


def elevenlabs() -> ElevenLabs:
    """The API with the current key, so that a corrected key takes effect without a restart."""
    return _elevenlabs(aws().read_secret(settings().elevenlabs_secret_arn))


@cache
def _elevenlabs(key: str) -> ElevenLabs:
    return ElevenLabs(settings().elevenlabs_host, key)


def handle_record(record: SQSRecord, now: datetime, seconds_left: float) -> None:
    """Fetch the recording of one announced call."""
    conversation_id = read_announcement(record.body).conversation_id
    logger.append_keys(conversation_id=conversation_id)
    try:
        outcome = fetch_audio(conversation_id, elevenlabs(), aws().records, staging(), now, seconds_left)
    except KeyRefusedError:
        return refuse_key()
    count(outcome)
    logger.info("Looked for the recording", outcome=outcome)


def refuse_key() -> None:
    count("ElevenLabsKeyRefused")
    logger.error("ElevenLabs refused the key: put a valid one into the secret of the parameter ElevenLabsApiKey")


def reconcile(now: datetime, has_time: Callable[[], bool]) -> dict[str, Any]:
    """One scheduled pass; returns its report."""
    swept = sweep(aws().bucket, staging(), bookmarks(), Unnamed(aws().table), now, has_time)
    metrics.add_metric("StagedSwept", MetricUnit.Count, swept)
    parked = aws().records.count("by-state", "parked", until=utc(now - PARKED_LONG))
    metrics.add_metric("AudioParkedLong", MetricUnit.Count, parked)
    report: dict[str, Any] = {"at": utc(now), "swept": swept, "parked_long": parked}
    if settings().elevenlabs_secret_arn:
        report |= complete_calls(now, has_time)
    else:
        logger.info("Swept; nothing is fetched without the parameter ElevenLabsApiKey", swept=swept)
    bookmarks().write("report", json.dumps(report))
    return report


def complete_calls(now: datetime, has_time: Callable[[], bool]) -> dict[str, Any]:
    """Fetch missing calls, and request missing recordings. The next pass retries what fails."""
    try:
        report = run_pass(now, has_time)
        without_audio = request_audio(now, has_time)
    except KeyRefusedError as error:
        refuse_key()
        return {"error": str(error)}
    except ElevenLabsError as error:
        count("ReconcileFailed")
        logger.error("ElevenLabs' list of calls could not be read", reason=str(error))
        return {"error": str(error)}
    ends = [report.oldest, *(ended_at(call) for call in without_audio)]
    oldest = min((end for end in ends if end), default=None)
    if report.is_complete or report.missing_calls:  # an incomplete pass cannot know that nothing is missing
        metrics.add_metric("MissingCalls", MetricUnit.Count, report.missing_calls)
    metrics.add_metric("MissingAudio", MetricUnit.Count, len(without_audio))
    metrics.add_metric("OldestUnarchivedAge", MetricUnit.Seconds, (now - oldest).total_seconds() if oldest else 0)
    found = asdict(report) | {"missing_audio": len(without_audio), "oldest": utc(oldest) if oldest else None}
    found |= {"settled_until": utc(report.settled_until), "reached": utc(report.reached)}
    logger.info("Reconciled", **found)
    return found | {"webhook": sorted(watch_webhook(now)) if has_time() else []}


def run_pass(now: datetime, has_time: Callable[[], bool]) -> Report:
    """Look back 48 h from now, or from the earliest call that earlier passes did not finish.

    If the window is too large for one pass, the next one continues it. The bookmark has `settled_until`; for an open
    window it also has `since`, and how far back the window was listed.
    """
    settled, *window = [datetime.fromisoformat(each) for each in (bookmarks().read("listed") or utc(now)).split()]
    since, until = window or (settled - WINDOW, now)
    selection = read_selection(settings().agent_ids, settings().minimum_call_seconds)
    calls = CallsPass(elevenlabs(), aws().records, staging(), lambda: now, grace(), selection)
    report = calls.run(
        since, until, settled_until=settled if window else until, has_time=has_time,
        on_page=lambda report: save_bookmark(report.settled_until, since, report.reached),
    )  # fmt: skip
    if report.is_complete:
        save_bookmark(report.settled_until)
    return report


def save_bookmark(*times: datetime) -> None:
    bookmarks().write("listed", " ".join(map(utc, times)))


def request_audio(now: datetime, has_time: Callable[[], bool]) -> list[Call]:
    """Queue the calls whose recording is missing, in AudioQueue only: other subscribers already got them.

    Each request is noted in the record first. If it is then not sent, a later pass requests it again.
    """
    without_audio = list(find_missing(aws().records, now - grace()))
    for call in without_audio:
        if not is_asked_for(call, now) and has_time() and aws().records.note_asked(call.conversation_id, utc(now)):
            message = Announcement.of(call).to_json()
            aws().sqs.send_message(QueueUrl=settings().audio_queue_url, MessageBody=message, DelaySeconds=0)
    return without_audio


def grace() -> timedelta:
    """How long after a call's end its webhooks may still arrive."""
    return timedelta(minutes=settings().reconcile_after_minutes)


def watch_webhook(now: datetime) -> set[str]:
    """Log and count the webhook's problems at ElevenLabs. If its state cannot be read, that is only logged."""
    try:
        troubles = find_troubles(elevenlabs().webhooks(), settings().http_api_id, now)
    except (ElevenLabsError, *AwsError) as error:
        logger.warning("The webhook's state could not be read", reason=type(error).__name__)
        return set()
    for trouble in troubles:
        logger.warning(ADVICE[trouble], trouble=trouble)
    alarming = troubles - {"not_found"}
    metrics.add_metric("WebhookTrouble", MetricUnit.Count, len(alarming))
    return troubles


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    now = datetime.now(timezone.utc)
    if "Records" in event:
        handle = partial(handle_record, now=now, seconds_left=context.get_remaining_time_in_millis() / 1000)
        return process_batch(event, context, handle, aws().sqs, settings().dlq_url)
    return reconcile(now, lambda: context.get_remaining_time_in_millis() > _SPARE_SECONDS * 1000)
