"""What a call leaves in Mem0, and what every way of writing it there must be able to do."""

from dataclasses import dataclass
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


class MemoryBackend(Protocol):
    """A Mem0 to write to, hosted or our own."""

    def add(self, memory: Memory) -> list[str]:
        """Write `memory`, over whatever an interrupted add of it left, and return the ids Mem0 gave."""
        ...

    def find(self, memory: Memory) -> list[str]:
        """Return the ids of `memory` in Mem0, found by user, conversation and type; none unless it is there whole."""
        ...
