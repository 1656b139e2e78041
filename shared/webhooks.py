"""What ElevenLabs sends, in all its shapes: envelopes, arrays of them, and bare conversations."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import simplejson

from shared.conversation import Conversation
from shared.errors import PoisonError
from shared.keys import is_id

TRANSCRIPTION = "post_call_transcription"
AUDIO = "post_call_audio"
_LAST_MS = 10**13 - 1


@dataclass(frozen=True)
class WebhookEvent:
    """One thing that ElevenLabs said. `element` is the whole of it as it came, `index` its place in an array body."""

    type: str
    data: dict[str, Any]
    time_ms: int | None
    element: dict[str, Any]
    index: int | None = None

    @property
    def conversation_id(self) -> str | None:
        """The id, fit for a key, or None if the event names no conversation. Raises PoisonError for other words."""
        found = self.data.get("conversation_id")
        if found is not None and not is_id(found):
            raise PoisonError("webhook", "The conversation_id is not an id: letters, digits, _ and -, 128 at most.")
        return found

    @property
    def agent_id(self) -> str | None:
        found = self.data.get("agent_id")
        return found if is_id(found) else None

    @property
    def event_timestamp(self) -> str | None:
        """The time of the event in unix seconds, as text."""
        return None if self.time_ms is None else f"{self.time_ms / 1000:.3f}".rstrip("0").rstrip(".")


Elements = list[tuple[int | None, Any]]


def read_webhook(body: bytes) -> Elements:
    """The body's elements, as yet unread, each with its place if the body is an array. Raises PoisonError.

    Numbers keep every digit.
    """
    try:
        parsed = simplejson.loads(body, use_decimal=True, parse_constant=_refuse_constant)
    except (ValueError, ArithmeticError, RecursionError):  # the second: an exponent that no Decimal can hold
        raise PoisonError("webhook", "The body is not JSON.") from None
    if parsed == []:
        raise PoisonError("webhook", "The body is an empty array.")
    return list(enumerate(parsed)) if isinstance(parsed, list) else [(None, parsed)]


def read_event(element: Any, index: int | None = None) -> WebhookEvent:
    """One element as an event, whether it came in an envelope or as a bare conversation. Raises PoisonError."""
    if not isinstance(element, dict):
        raise PoisonError("webhook", "The body is JSON, but no object.")
    if "type" not in element and "conversation_id" in element:
        return WebhookEvent(_bare_type(element), element, None, element, index)
    event, data = element.get("type"), element.get("data")
    if not is_id(event):
        raise PoisonError("webhook", "The event has no type that is a name: letters, digits, _ and -, 128 at most.")
    if not isinstance(data, dict):
        if event in (TRANSCRIPTION, AUDIO):
            raise PoisonError("webhook", "The event's data is no object.")
        data = {}
    return WebhookEvent(event, data, _milliseconds(element.get("event_timestamp")), element, index)


def read_conversation(body: bytes) -> Conversation:
    """The conversation in an archived JSON. Raises PoisonError."""
    ((_, data), *_) = read_webhook(body)
    if not isinstance(data, dict):
        raise PoisonError("source", "The archived JSON is no object.")
    return Conversation.model_validate(data)


def find_event(elements: Elements, event_type: str, conversation_id: str) -> WebhookEvent | None:
    """The event of that type about that conversation among a body's elements, whatever its neighbours are."""
    for _, element in elements:
        with suppress(PoisonError):
            event = read_event(element)
            if event.type == event_type and event.conversation_id == conversation_id:
                return event
    return None


def _bare_type(element: dict[str, Any]) -> str:
    said_anything = any(field in element for field in ("transcript", "metadata", "analysis", "status"))
    return AUDIO if "full_audio" in element and not said_anything else TRANSCRIPTION


def _milliseconds(timestamp: Any) -> int | None:
    """Unix seconds as a number or text, or ISO 8601; None if it is neither, or out of the 13 digits of an `order`."""
    try:
        seconds = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        seconds = _iso_seconds(timestamp)
    ms = seconds * 1000
    return round(ms) if 0 <= ms <= _LAST_MS else None


def _iso_seconds(timestamp: Any) -> float:
    try:
        read = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        return -1
    return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
