"""The few fields of a conversation that we use. No model rewrites what is kept."""

from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_LAST_SECOND = 9_999_999_999  # in 2286; its milliseconds are the last to fit the 13 digits of an `order`


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
        if self.started_at is None:
            return None
        return round(min(self.started_at.timestamp() + (self.duration_secs or 0), _LAST_SECOND) * 1000)

    @property
    def client_user_id(self) -> str | None:
        """The id that the client gave its user: anybody's word, and never to be taken for a phone number."""
        given = self.conversation_initiation_client_data
        return self.user_id or (given.user_id if given else None) or None
