"""What the demo sends and asks, and the results."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.demo.calls import SampleCall, SampleCalls, compact

LONG_RECORDING, MISSED = "4 Call of 12 minutes", "7 Never delivered"


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
class Fetch:
    """What the stack fetches from ElevenLabs' API because no webhook brought it. `staged` is its name in staging/."""

    scene: str
    what: str
    size: int
    staged: str
    then: str


@dataclass(frozen=True)
class Question:
    """A question about a user's memories. The best answer contains `expected`."""

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
    """Everything that the stack stores, at one moment."""

    finals: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)  # of the finals
    staged: dict[str, bool] = field(default_factory=dict)  # key to whether it is tagged as archived
    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # by conversation id and item
    messages: dict[str, int] = field(default_factory=dict)  # queue to its messages, waiting and in work
    memories: dict[str, int] = field(default_factory=dict)  # user id to the number of its memories

    @property
    def staged_names(self) -> set[str]:
        """Without the hour in which they came."""
        return {key.rsplit("/")[-1] for key in self.staged}


@dataclass
class Outcome:
    """The results of the scenes."""

    answers: list[Answer]
    before: Kept  # the first four calls, before one is repeated
    after: Kept  # all five, when all is done
    reconciled: Mapping[str, Any]  # what the reconciler reports
    found: list[Found]


def new_calls(calls: SampleCalls) -> list[Webhook]:
    """Four scenes. Transcript and audio come in any order, so the second call's audio comes first."""
    inbound, winter = "1 Inbound call", "2 Inbound, 20 minutes"
    return [
        Webhook(inbound, "transcript", calls.harbour.transcript_body(), "stored and queued, then answered"),
        Webhook(inbound, "audio", calls.harbour.audio_body(), "matched to its caller by id"),
        Webhook(winter, "audio", calls.long.audio_body(), "came first: waits for the transcript"),
        Webhook(winter, "transcript", calls.long.transcript_body(), "both go to the caller's folder"),
        Webhook("3 Web call, no phone", "transcript", calls.web.transcript_body(), "stored under no-phone/"),
        Webhook(LONG_RECORDING, "transcript", calls.charter.transcript_body(), "its audio is too large for a webhook"),
    ]


def repeats(call: SampleCall) -> list[Webhook]:
    """The scenes that must change nothing."""
    duplicate = "5 Duplicate of 1"
    invented = compact(call.envelope | {"data": call.data | {"conversation_id": "conv_demo_forged"}})
    return [
        Webhook(duplicate, "the same transcript", call.transcript_body(), "same delivery: nothing changes"),
        Webhook(duplicate, "the same audio", call.audio_body(), "same delivery: nothing changes"),
        Webhook("6 Forged", "signed with another key", invented, "refused, nothing stored", forged=True),
    ]


def fetches(calls: SampleCalls) -> list[Fetch]:
    """The audio of the fourth call, and all of the fifth call, which had no webhook."""
    long, missed = calls.charter, calls.lighthouse
    return [
        fetched_audio(LONG_RECORDING, long, "fetched, because no webhook brought it"),
        fetched_call(MISSED, missed, "the hourly run found it missing"),
        fetched_audio(MISSED, missed, "fetched too, because it has a recording"),
    ]


def fetched_call(scene: str, call: SampleCall, then: str) -> Fetch:
    data = compact(call.data)
    webhook = b'{"type":"post_call_transcription","data":%s}' % data
    return Fetch(scene, "transcript", len(data), f"{hashlib.sha256(webhook).hexdigest()}.json", then)


def fetched_audio(scene: str, call: SampleCall, then: str) -> Fetch:
    name = hashlib.sha256(f"audio:{call.conversation_id}".encode()).hexdigest()
    return Fetch(scene, "audio", len(call.recording or b""), f"{name}.mp3", then)


def questions(calls: SampleCalls) -> list[Question]:
    return [
        Question(calls.harbour.user_id, "When will the boat be moved?", "Thursday at nine"),
        Question(calls.long.user_id, "Is there a pet on board?", "dog"),
        Question(calls.long.user_id, "Why does the steering make a noise?", "rudder"),
        Question(calls.web.user_id, "How long does delivery to Scandinavia take?", "six days"),
        Question(calls.charter.user_id, "Who must not be given fish?", "Two of the guests"),
        Question(calls.lighthouse.user_id, "How many stairs are there?", "two hundred steps"),
    ]
