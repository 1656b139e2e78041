"""What a call leaves in Mem0, and what every way of writing it there must be able to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict


class Message(TypedDict):
    """One turn, or the one message of a factual memory; Mem0 drops any other role without a word."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Memory:
    """One add: a call's facts or its transcript, under the caller's Mem0 `user_id`."""

    user_id: str
    type: Literal["factual", "semantic"]
    messages: list[Message]
    metadata: dict[str, str | int | None]  # type, agent_id, conversation_id, call_duration, timestamp
    infer: bool


@dataclass(frozen=True)
class Answer:
    """How an add stands. PENDING has an `event_id` to ask for; SUCCEEDED the ids of what was stored, perhaps none."""

    status: Literal["PENDING", "SUCCEEDED", "FAILED"]
    event_id: str | None = None
    memory_ids: list[str] = field(default_factory=list)


class MemoryBackend(Protocol):
    """A Mem0 to write to, hosted or our own.

    Each method raises NotSentError if the memory may be sent again at once, RefusedError if Mem0 will never take it,
    and anything else if nobody knows.
    """

    def add(self, memory: Memory, *, again: bool) -> Answer:
        """Write `memory`; `again` if an earlier add may have left a part of it, where Mem0 writes in parts."""
        ...

    def look(self, event_id: str) -> Answer:
        """How the add of that event stands by now."""
        ...

    def find(self, memory: Memory) -> list[str]:
        """The ids under which Mem0 has `memory` already, by user, conversation and type; none unless all is there."""
        ...

    def list_user(self, user_id: str) -> list[str]:
        """The ids of all that Mem0 has of a user."""
        ...

    def delete(self, memory_ids: Sequence[str]) -> None:
        """Delete memories, as far as Mem0 still has them."""
        ...

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all memories, whoever wrote them."""
        ...
