"""The watchdog: checks whether ElevenLabs still calls our webhook. Nothing else depends on it."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import msgspec

from shared.conversation import read_seconds
from shared.parts import MISSING, Json, Part, elements, fields, number, scalar, text

Raw = msgspec.Raw

TOO_LARGE = 413
RECENT = timedelta(hours=2)  # two passes, so that at least one sees a failure
ADVICE = {
    "disabled": "The webhook is switched off: switch it on in ElevenLabs' settings.",
    "auto_disabled": "ElevenLabs switched the webhook off after failures: fix the cause, and switch it on again.",
    "failing": "ElevenLabs' last delivery failed: look at the API's access log and at ingest's.",
    "retries_off": "Retries are off: switch them on for the webhook; otherwise a transcript is sent only once.",
    "not_found": "No webhook of the workspace has the stack's PostCallUrl: its state is unknown.",
}


class _Answer(Part):
    webhooks: Raw = MISSING


class _Webhook(Part):
    webhook_url: Raw = MISSING
    is_disabled: Raw = MISSING
    is_auto_disabled: Raw = MISSING
    retry_enabled: Raw = MISSING
    most_recent_failure_error_code: Raw = MISSING
    most_recent_failure_timestamp: Raw = MISSING


def find_troubles(answer: Json, api_id: str, now: datetime) -> set[str]:
    """The keys of ADVICE that apply to webhooks whose URL is in the HTTP API `api_id`."""
    found = [fields(_Webhook, each) for each in elements(fields(_Answer, answer).webhooks) or []]
    ours = [each for each in found if api_id in (text(each.webhook_url) or "")]
    return {trouble for webhook in ours for trouble in _troubles(webhook, now)} if ours else {"not_found"}


def _troubles(webhook: _Webhook, now: datetime) -> Iterator[str]:
    """A field that the webhook does not have counts as good."""
    if scalar(webhook.is_disabled) is True:
        yield "disabled"
    if scalar(webhook.is_auto_disabled) is True:
        yield "auto_disabled"
    if scalar(webhook.retry_enabled) is False:
        yield "retries_off"
    failed = read_seconds(webhook.most_recent_failure_timestamp)
    if number(webhook.most_recent_failure_error_code) == TOO_LARGE:  # the recording is fetched instead
        return
    if failed and datetime.fromtimestamp(failed, timezone.utc) > now - RECENT:
        yield "failing"
