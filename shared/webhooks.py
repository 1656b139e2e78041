"""Webhook bodies from ElevenLabs: an envelope, a bare conversation, or an array of these."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec

from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError
from shared.keys import is_id
from shared.parts import (
    MISSING,
    MOST_ELEMENTS,
    Json,
    Part,
    elements,
    fields,
    is_array,
    kind_of,
    number,
    read_json,
    restore,
    text,
)

TRANSCRIPTION = "post_call_transcription"
AUDIO = "post_call_audio"
_LAST_MS = 10**13 - 1
_NOTHING = (b"", b"null", b'""')


class _Element(Part):
    """An envelope, or a conversation without an envelope."""

    type: msgspec.Raw = MISSING
    event_timestamp: msgspec.Raw = MISSING
    data: msgspec.Raw = MISSING
    conversation_id: msgspec.Raw = MISSING
    agent_id: msgspec.Raw = MISSING
    full_audio: msgspec.Raw = MISSING
    transcript: msgspec.Raw = MISSING
    metadata: msgspec.Raw = MISSING
    analysis: msgspec.Raw = MISSING
    status: msgspec.Raw = MISSING


class _Data(Part):
    conversation_id: msgspec.Raw = MISSING
    agent_id: msgspec.Raw = MISSING
    full_audio: msgspec.Raw = MISSING


@dataclass(frozen=True)
class WebhookEvent:
    """One event. `data` and `full_audio` are parts (`shared.parts`); the ids are checked for use in keys."""

    type: str
    data: Json
    time_ms: int | None
    conversation_id: str | None
    agent_id: str | None
    full_audio: Json = b""

    @property
    def event_timestamp(self) -> str | None:
        """The event's time in unix seconds, as text."""
        return None if self.time_ms is None else f"{self.time_ms / 1000:.3f}".rstrip("0").rstrip(".")


def split(body: bytes) -> list[bytes] | None:
    """The elements of an array body, byte for byte; None if the body is not an array. Raises PoisonError."""
    if not is_array(body):
        return None
    found = elements(_read_json(body))
    if not found:
        raise PoisonError("webhook", "The body is an empty array.")
    if len(found) > MOST_ELEMENTS:
        raise PoisonError("webhook", f"The body is an array of more than {MOST_ELEMENTS:,} events.")
    return [restore(each) for each in found]


def read_event(body: bytes) -> WebhookEvent:
    """The event in a body, which is an envelope or a bare conversation. Raises PoisonError."""
    part = _read_json(body)
    if kind_of(part) != "{":
        raise PoisonError("webhook", "The body is JSON, but not an object.")
    element = fields(_Element, part)
    if not element.type and element.conversation_id:
        return _event(_bare_type(element), part, None)
    event = text(element.type)
    if not is_id(event):
        raise PoisonError("webhook", "The event's type is not a name: letters, digits, _ and -, at most 128.")
    if kind_of(element.data) == "{":
        return _event(event, element.data, _milliseconds(element.event_timestamp))
    if event in (TRANSCRIPTION, AUDIO):
        raise PoisonError("webhook", "The event's data is not an object.")
    return _event(event, b"{}", _milliseconds(element.event_timestamp))


def read_events(body: bytes) -> Iterator[WebhookEvent]:
    """The readable events of a body, which may be an array."""
    with suppress(PoisonError):
        for each in split(body) or [body]:
            with suppress(PoisonError):
                yield read_event(each)


def read_archived(body: bytes) -> Conversation:
    """The conversation in an archived JSON. Raises PoisonError."""
    part = _read_json(body)
    if kind_of(part) != "{":
        raise PoisonError("source", "The archived JSON is not an object.")
    return read_conversation(part)


def _event(event: str, part: Json, time_ms: int | None) -> WebhookEvent:
    data = fields(_Data, part)
    conversation_id = text(data.conversation_id)
    if bytes(data.conversation_id) not in (b"", b"null") and not is_id(conversation_id):
        raise PoisonError("webhook", "The conversation_id is not an id: letters, digits, _ and -, at most 128.")
    agent_id = text(data.agent_id)
    full_audio = b"" if len(data.full_audio) < 5 and bytes(data.full_audio) in _NOTHING else data.full_audio
    return WebhookEvent(event, part, time_ms, conversation_id, agent_id if is_id(agent_id) else None, full_audio)


def _read_json(body: bytes) -> bytes:
    try:
        return read_json(body)
    except ValueError:
        raise PoisonError("webhook", "The body is not JSON.") from None


def _bare_type(element: _Element) -> str:
    has_conversation = element.transcript or element.metadata or element.analysis or element.status
    return AUDIO if element.full_audio and not has_conversation else TRANSCRIPTION


def _milliseconds(part: Json) -> int | None:
    """Milliseconds from Unix seconds or ISO 8601; None if invalid or too large for the 13 digits of an `order`."""
    seconds = number(part)
    ms = (_iso_seconds(text(part)) if seconds is None else seconds) * 1000
    return round(ms) if 0 <= ms <= _LAST_MS else None


def _iso_seconds(timestamp: str | None) -> float:
    try:
        read = datetime.fromisoformat(timestamp or "")
    except ValueError:
        return -1
    return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
