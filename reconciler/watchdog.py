"""The watchdog: whether ElevenLabs still calls our webhook. Nothing else depends on it."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from reconciler.loose import Loose, Seconds, Sent

TOO_LARGE = 413
RECENT = timedelta(hours=2)  # two passes: a failure is seen by one of them
ADVICE = {
    "disabled": "The webhook is switched off: switch it on in ElevenLabs' settings.",
    "auto_disabled": "ElevenLabs switched the webhook off after failures: heal the cause, and switch it on again.",
    "failing": "ElevenLabs' last delivery failed: look at the API's access log and at ingest's.",
    "retries_off": "Retries are off: switch them on for the webhook, or a transcript is sent only once.",
    "not_found": "No webhook of the workspace has the stack's PostCallUrl: nothing is known of how it fares.",
}


class Webhook(Sent):
    """A webhook of the workspace. What it does not say is well."""

    webhook_url: Loose[str] = None
    is_disabled: Loose[bool] = None
    is_auto_disabled: Loose[bool] = None
    retry_enabled: Loose[bool] = None
    most_recent_failure_error_code: Loose[int] = None
    most_recent_failure_timestamp: Loose[Seconds] = None


class Webhooks(Sent):
    webhooks: Loose[list[Loose[Webhook]]] = None


def find_troubles(answer: Any, api_id: str, now: datetime) -> set[str]:
    """The keys of ADVICE that hold for the webhooks whose URL leads to the HTTP API `api_id`."""
    found = Webhooks.model_validate(answer if isinstance(answer, dict) else {})
    ours = [each for each in found.webhooks or [] if each and api_id in (each.webhook_url or "")]
    return {trouble for webhook in ours for trouble in _troubles(webhook, now)} if ours else {"not_found"}


def _troubles(webhook: Webhook, now: datetime) -> Iterator[str]:
    if webhook.is_disabled:
        yield "disabled"
    if webhook.is_auto_disabled:
        yield "auto_disabled"
    if webhook.retry_enabled is False:
        yield "retries_off"
    failed = webhook.most_recent_failure_timestamp
    if webhook.most_recent_failure_error_code == TOO_LARGE:  # a recording that is fetched instead
        return
    if failed and datetime.fromtimestamp(failed, timezone.utc) > now - RECENT:
        yield "failing"
