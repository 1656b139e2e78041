"""A memory, and the interface of every backend that writes it to Mem0."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict, get_args

Kind = Literal["factual", "semantic"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Message(TypedDict):
    """One turn, or a factual memory's only message. Mem0 silently drops messages with other roles."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Memory:
    """One add: a call's facts or its transcript, under the caller's Mem0 `user_id`."""

    user_id: str
    type: Kind
    messages: list[Message]
    metadata: dict[str, str | int | None]  # type, agent_id, conversation_id, call_duration, timestamp
    infer: bool


@dataclass(frozen=True)
class Answer:
    """The state of an add. PENDING has an `event_id` to check later; SUCCEEDED has the stored ids, possibly none."""

    status: Literal["PENDING", "SUCCEEDED", "FAILED"]
    event_id: str | None = None
    memory_ids: list[str] = field(default_factory=list)


class MemoryBackend(Protocol):
    """Mem0, hosted or in our own account.

    Each method raises NotSentError if the memory may be sent again at once, RefusedError if Mem0 will never accept it,
    and any other exception if the result is unknown.
    """

    def add(self, memory: Memory, *, again: bool) -> Answer:
        """Write `memory`. `again`: an earlier add may have written a part of it, which must be deleted first."""
        ...

    def check_event(self, event_id: str) -> Answer:
        """The state of the add with that event."""
        ...

    def find(self, memory: Memory) -> list[str]:
        """The ids of `memory` in Mem0, found by user, conversation and type; empty unless it is complete."""
        ...

    def list_user(self, user_id: str) -> list[str]:
        """The ids of all memories of a user."""
        ...

    def delete(self, memory_ids: Sequence[str]) -> None:
        """Delete those of the memories that Mem0 still has."""
        ...

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all memories, including those written by others."""
        ...
