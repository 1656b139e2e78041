"""What the demo sends and asks, and what it gets to see."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.sample_calls import SampleCall, compact


@dataclass(frozen=True)
class Webhook:
    """One request of the demo, and whether it is signed with the right key."""

    scene: str
    what: str
    body: bytes
    then: str
    forged: bool = False

    @property
    def delivery_id(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def status(self) -> int:
        """How it should be answered."""
        return 401 if self.forged else 200


@dataclass(frozen=True)
class Answer:
    webhook: Webhook
    status: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """Asked about a user's memories; the best answer has `expected` in it."""

    user_id: str
    text: str
    expected: str


@dataclass(frozen=True)
class Found:
    """The memory that answers a question best, if there is any."""

    question: Question
    memory: str
    score: float


@dataclass
class Kept:
    """All that the stack holds at one moment."""

    finals: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)  # of the finals
    staged: dict[str, bool] = field(default_factory=dict)  # key to whether it is tagged as archived
    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # by conversation id and item
    messages: dict[str, int] = field(default_factory=dict)  # queue to its messages, waiting and in flight
    memories: dict[str, int] = field(default_factory=dict)  # user id to the number of its memories


def new_calls(harbour: SampleCall, long: SampleCall, web: SampleCall) -> list[Webhook]:
    """Three scenes. Transcript and audio come in any order, so the second call's audio comes first."""
    inbound, winter = "1 Inbound call", "2 Inbound, 20 minutes"
    return [
        Webhook(inbound, "transcript", harbour.transcript_body(), "stored and queued before the 200"),
        Webhook(inbound, "audio", harbour.audio_body(), "finds its caller by the call's id"),
        Webhook(winter, "audio, 4 minutes", long.audio_body(), "came first: waits for its call"),
        Webhook(winter, "transcript", long.transcript_body(), "brings the audio into its folder"),
        Webhook("3 Web call, no phone", "transcript", web.transcript_body(), "kept under no-phone/"),
    ]


def repeats(call: SampleCall) -> list[Webhook]:
    """The scenes that must change nothing."""
    duplicate = "4 Duplicate of 1"
    invented = compact(call.envelope | {"data": call.data | {"conversation_id": "conv_demo_forged"}})
    return [
        Webhook(duplicate, "the same transcript", call.transcript_body(), "same delivery, nothing new"),
        Webhook(duplicate, "the same audio", call.audio_body(), "same delivery, nothing new"),
        Webhook("5 Forged", "signed with another key", invented, "refused, nothing stored", forged=True),
    ]


def questions(harbour: SampleCall, long: SampleCall, web: SampleCall) -> list[Question]:
    return [
        Question(harbour.user_id, "When will the boat be moved?", "Thursday at nine"),
        Question(long.user_id, "Is there a pet on board?", "dog"),
        Question(long.user_id, "Why does the steering make a noise?", "rudder"),
        Question(web.user_id, "How long does delivery to Scandinavia take?", "six days"),
    ]
