"""What ElevenLabs sends: how to read it, and the few fields that we use. No model rewrites what is kept."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar

import simplejson
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from shared.errors import PoisonError
from shared.keys import is_id

TRANSCRIPTION = "post_call_transcription"
AUDIO = "post_call_audio"
_LAST_MS = 10**13 - 1
_LAST_SECOND = 253402300799  # 9999-12-31, the last one that a datetime can hold


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """A field that is not what it used to be is as good as absent: one odd field never costs the call."""
    try:
        return read(value)
    except ValidationError:
        return None


Kind = TypeVar("Kind")
Loose = Annotated[Kind | None, WrapValidator(_or_none)]
Seconds = Annotated[float, Field(ge=0, le=_LAST_SECOND)]


class Sent(BaseModel):
    """A part of what ElevenLabs sends: only what we use of it, all of it optional."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class Turn(Sent):
    role: Loose[str] = None
    message: Loose[str] = Field(None, validation_alias=AliasChoices("message", "content"))


class Criterion(Sent):
    result: Loose[str] = None
    rationale: Loose[str] = None


class Analysis(Sent):
    call_successful: Loose[str] = None
    transcript_summary: Loose[str] = Field(None, validation_alias=AliasChoices("transcript_summary", "summary"))
    evaluation_criteria_results: Loose[dict[str, Loose[Criterion]]] = None
    evaluation: Loose[Criterion] = None


class Metadata(Sent):
    start_time_unix_secs: Loose[Seconds] = None
    call_duration_secs: Loose[Seconds] = None


class ClientData(Sent):
    user_id: Loose[str] = None


class Conversation(Sent):
    """`data` of a post_call_transcription, the API's conversation model, and the older bare object."""

    agent_id: Loose[str] = None
    status: Loose[str] = None
    user_id: Loose[str] = None
    has_audio: Loose[bool] = None
    transcript: Loose[list[Loose[Turn]]] = None
    metadata: Loose[Metadata] = None
    analysis: Loose[Analysis] = None
    call_duration: Loose[Seconds] = None
    conversation_initiation_client_data: Loose[ClientData] = None

    @property
    def started_at(self) -> datetime | None:
        start = self.metadata.start_time_unix_secs if self.metadata else None
        return None if start is None else datetime.fromtimestamp(start, timezone.utc)

    @property
    def duration_secs(self) -> int | None:
        duration = self.metadata.call_duration_secs if self.metadata else None
        duration = self.call_duration if duration is None else duration
        return None if duration is None else int(duration)

    @property
    def ended_ms(self) -> int | None:
        """Unix milliseconds of the call's end, or of its start if nobody knows how long it took."""
        return round((self.started_at.timestamp() + (self.duration_secs or 0)) * 1000) if self.started_at else None

    @property
    def client_user_id(self) -> str | None:
        """The id that the client gave its user: anybody's word, and never to be taken for a phone number."""
        given = self.conversation_initiation_client_data
        return self.user_id or (given.user_id if given else None) or None


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
    except (ValueError, RecursionError):
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
    return Conversation.model_validate(read_webhook(body)[0][1])


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
