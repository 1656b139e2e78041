"""What a call's record contains."""

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True)
class Parked:
    """Audio that waits for its call's folder. `waiting` lists it by its ticket."""

    staged_key: str
    order: str

    @property
    def ticket(self) -> str:
        return f"{self.order} {self.staged_key}"

    @classmethod
    def of_ticket(cls, ticket: str) -> Self:
        order, staged_key = ticket.split()
        return cls(staged_key, order)


@dataclass(frozen=True)
class Transcription:
    """The newest transcription of a call's recording. `order` is the recording's, `job` the name at Amazon Transcribe.

    `attempt` counts from 1 for each version of the recording. `reason` says why a transcription failed.
    """

    state: Literal["started", "done", "failed"]
    job: str
    order: str
    attempt: int
    at: str
    reason: str | None = None


@dataclass(frozen=True)
class Call:
    """The content of a record. Everything but the id may be missing, because audio may arrive before its call.

    `caller` has the digits that the call is listed under, `numbers` the digits in all its events. `waiting` is all
    parked audio that is not tagged yet, `parked` the newest of it. `users` are the Mem0 users that may have memories
    of the call; they are set only during an erasure. `text_days` are the days whose files under `text/` may have rows
    of the call, `text_order` the version of the newest rows.
    """

    conversation_id: str
    folder: str | None = None
    external_number: str | None = None
    caller: str | None = None
    agent_id: str | None = None
    started_at: str | None = None
    json_key: str | None = None
    mp3_key: str | None = None
    status: str | None = None
    call_successful: str | None = None
    title: str | None = None
    summary: str | None = None
    cost: int | None = None
    audio: str | None = None
    t_order: str | None = None
    mp3_order: str | None = None
    parked: Parked | None = None
    erased_at: str | None = None
    left_out: str | None = None
    duration_secs: int | None = None
    archived_at: str | None = None
    listed_at: str | None = None
    fetches: int = 0
    fetched_at: str | None = None
    missing_since: str | None = None
    missing_reason: str | None = None
    given_up_at: str | None = None
    audio_asked_at: str | None = None
    audio_missing_since: str | None = None
    audio_missing_reason: str | None = None
    transcription: Transcription | None = None
    text_order: str | None = None
    text_days: frozenset[str] = frozenset()
    staged_keys: frozenset[str] = frozenset()
    event_keys: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    waiting: frozenset[Parked] = frozenset()
    users: frozenset[str] = frozenset()

    @property
    def is_known(self) -> bool:
        """Whether the record has more than a tombstone."""
        return self != Call(self.conversation_id, erased_at=self.erased_at)
