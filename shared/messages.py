"""Our own messages. They are plain dataclasses because ingest has no pydantic; the receiver validates them."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

from shared.call import Call

Event = Literal["transcript_archived", "audio_archived"]
Audio = Literal["none", "pending", "archived", "unavailable"]

_STRICT = {"extra": "forbid", "strict": True, "hide_input_in_errors": True}


@dataclass(frozen=True)
class ClaimCheck:
    """The key of a staged body, in place of the body, which is too large for SQS.

    `received_at` is ISO 8601 UTC. `force` also rewrites objects of the same order, to repair them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    delivery_id: str
    staged_key: str
    received_at: str
    source: Literal["webhook", "reconciler", "replay"]
    force: bool = False
    version: Literal[1] = 1

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Announcement:
    """The archiver's message that a call or its audio is archived. Consumers read the call from `source_key`.

    `source_key` is `json_key`, or the staged body if the final JSON could not be written (`json_key` is null then).
    `order` is that of the announced transcript. If the object at `source_key` has another order, consumers take
    everything from that object, the caller included.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    event: Event
    conversation_id: str
    agent_id: str | None
    external_number: str | None
    order: str
    source_key: str
    json_key: str | None
    mp3_key: str | None
    audio: Audio
    version: Literal[2] = 2

    @classmethod
    def of(cls, call: Call, event: Event = "transcript_archived", source_key: str | None = None) -> Self:
        """The announcement of a call, from its record. `source_key` replaces the final JSON's key."""
        return cls(
            event, call.conversation_id, call.agent_id, call.external_number, order=str(call.t_order),
            source_key=source_key or str(call.json_key), json_key=call.json_key, mp3_key=call.mp3_key,
            audio=cast(Audio, call.audio or "pending"),
        )  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def attributes(self) -> dict[str, str]:
        """The attributes for filter policies. Never a phone number: attributes get into others' logs and metrics."""
        named = {"event": self.event, "agent_id": self.agent_id, "audio": self.audio}
        return {name: value for name, value in named.items() if value is not None}
