"""The fields of a conversation that we use: in a transcription's `data`, the API's model, or the older bare object.

A field with an unexpected value counts as absent, so that one such field never loses the call.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

import msgspec

from shared.parts import MISSING, Json, Part, fields, members, number, objects, scalar, text
from shared.times import LAST_SECOND

Raw = msgspec.Raw


class _Data(Part):
    agent_id: Raw = MISSING
    status: Raw = MISSING
    user_id: Raw = MISSING
    has_audio: Raw = MISSING
    transcript: Raw = MISSING
    metadata: Raw = MISSING
    analysis: Raw = MISSING
    call_duration: Raw = MISSING
    conversation_initiation_client_data: Raw = MISSING


class _Metadata(Part):
    start_time_unix_secs: Raw = MISSING
    call_duration_secs: Raw = MISSING
    cost: Raw = MISSING


class _Analysis(Part):
    call_successful: Raw = MISSING
    call_summary_title: Raw = MISSING
    transcript_summary: Raw = MISSING
    summary: Raw = MISSING
    evaluation_criteria_results: Raw = MISSING
    evaluation: Raw = MISSING


class _ClientData(Part):
    user_id: Raw = MISSING


class _Turn(Part):
    role: Raw = MISSING
    message: Raw = MISSING
    content: Raw = MISSING
    time_in_call_secs: Raw = MISSING


class _Criterion(Part):
    result: Raw = MISSING
    rationale: Raw = MISSING


class Turn(NamedTuple):
    """`secs` is the second of the call in which the turn began."""

    role: str | None
    message: str | None
    secs: float | None = None


@dataclass(frozen=True)
class Criterion:
    """The result of one evaluation criterion. `name` is ElevenLabs' id of the criterion."""

    name: str
    result: str | None
    rationale: str | None


@dataclass(frozen=True)
class Conversation:
    """`client_user_id` is an id that the client chose. It is not verified, and never used as a phone number.

    `cost` is in ElevenLabs' credits. `heard` takes the place of a transcript without words.
    """

    agent_id: str | None = None
    status: str | None = None
    client_user_id: str | None = None
    has_audio: bool | None = None
    started_at: datetime | None = None
    duration_secs: int | None = None
    cost: int | None = None
    call_successful: str | None = None
    title: str | None = None
    summary: str | None = None
    transcript: bytes = b""
    heard: tuple[Turn, ...] = ()
    results: bytes = b""
    evaluation: bytes = b""

    @property
    def ended_ms(self) -> int | None:
        """Unix milliseconds of the call's end, or of its start if the duration is unknown."""
        if self.started_at is None:
            return None
        return round(min(self.started_at.timestamp() + (self.duration_secs or 0), LAST_SECOND) * 1000)

    def turns(self) -> Iterator[Turn]:
        """The transcript's turns, in order, or those that were heard in the recording."""
        yield from self.heard
        if self.heard:
            return
        for each in objects(_Turn, self.transcript):
            yield Turn(text(each.role), text(each.message or each.content), read_seconds(each.time_in_call_secs))

    def criteria(self) -> Iterator[Criterion]:
        """The evaluation criteria, in ElevenLabs' order."""
        for name, part in members(self.results):
            yield _criterion(name, part)
        if self.evaluation:
            yield _criterion("evaluation", self.evaluation)


def read_conversation(part: Json) -> Conversation:
    """The conversation in a JSON object."""
    data = fields(_Data, part)
    metadata, analysis = fields(_Metadata, data.metadata), fields(_Analysis, data.analysis)
    client = fields(_ClientData, data.conversation_initiation_client_data)
    started, duration = read_seconds(metadata.start_time_unix_secs), read_seconds(metadata.call_duration_secs)
    duration = read_seconds(data.call_duration) if duration is None else duration
    has_audio = scalar(data.has_audio)
    return Conversation(
        agent_id=text(data.agent_id),
        status=text(data.status),
        client_user_id=text(data.user_id) or text(client.user_id) or None,
        has_audio=has_audio if isinstance(has_audio, bool) else None,
        started_at=None if not started else datetime.fromtimestamp(started, timezone.utc),
        duration_secs=None if duration is None else int(duration),
        cost=_read_credits(metadata.cost),
        call_successful=text(analysis.call_successful),
        title=text(analysis.call_summary_title),
        summary=text(analysis.transcript_summary or analysis.summary),
        transcript=bytes(data.transcript),
        results=bytes(analysis.evaluation_criteria_results),
        evaluation=bytes(analysis.evaluation),
    )


def _criterion(name: str, part: Json) -> Criterion:
    found = fields(_Criterion, part)
    return Criterion(name, text(found.result), text(found.rationale))


def read_seconds(part: Json) -> float | None:
    """Unix seconds or a duration; None if the value can be neither."""
    found = number(part)
    return found if found is not None and 0 <= found <= LAST_SECOND else None


def _read_credits(part: Json) -> int | None:
    found = number(part)
    return round(found) if found is not None and 0 <= found <= LAST_SECOND else None
