"""What happens in a schedule: the calls that people make, what ElevenLabs sends of them, and what operators do."""

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

NUMBERS = ("+12025550101", "+12025550102")
AGENT = "agent_1"
SECRET = "whsec_simulated"


@dataclass(frozen=True)
class Body:
    """A webhook's body. `kind`: transcript, audio, array, other or poison; `delay` in seconds after the call's end."""

    kind: Literal["transcript", "audio", "array", "other", "poison"]
    conversation_id: str
    content: bytes
    delay: float

    @property
    def delivery_id(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Conversation:
    """A call. `versions` are the contents (`data`) of its transcripts, by event time; `audio` is its recording."""

    id: str
    number: str | None
    user_id: str | None
    began: float
    seconds: int
    versions: dict[int, bytes] = field(default_factory=dict)
    audio: bytes | None = None
    others: list[bytes] = field(default_factory=list)

    @property
    def digits(self) -> str:
        return (self.number or "").lstrip("+")

    @property
    def user(self) -> str | None:
        """Whose memories Mem0 keeps."""
        return self.number or (f"user:{self.user_id}" if self.user_id else None)

    def data(self, version: int) -> dict[str, Any]:
        return dict(json.loads(self.versions[version]))


@dataclass(frozen=True)
class Act:
    """Something that an operator does: `erase NUMBER`, `erase CALL`, `redrive`, `replay`, `reconcile` or `gzip`."""

    at: float
    what: str
    subject: str = ""


@dataclass
class Story:
    """The plan of one schedule. Its parts may be left out one by one, to find the smallest that still fails."""

    conversations: list[Conversation]
    bodies: list[Body]
    acts: list[Act]
    has_api_key: bool
    concurrency: int

    @property
    def parts(self) -> list["Part"]:
        return [*self.conversations, *self.bodies, *self.acts]

    def without(self, left_out: frozenset[int]) -> "Story":
        """The story without the parts with these numbers. A call that is left out takes its webhooks with it."""
        kept = [part for number, part in enumerate(self.parts) if number not in left_out]
        calls = [each for each in kept if isinstance(each, Conversation)]
        ids = {"", *(each.id for each in calls)}
        bodies = [each for each in kept if isinstance(each, Body) and each.conversation_id in ids]
        return replace(self, conversations=calls, bodies=bodies, acts=[each for each in kept if isinstance(each, Act)])

    def __str__(self) -> str:
        calls = [
            f"{each.id} of {each.user}, {'with' if each.audio else 'without'} audio" for each in self.conversations
        ]
        key = "with" if self.has_api_key else "without"
        return f"{'; '.join(calls)}; {key} ElevenLabsApiKey; {self.concurrency} invocations of a function at once"


Part = Conversation | Body | Act


def make_story(random: Random, begin: float, seconds: float) -> Story:
    conversations, bodies = [], []
    for number in range(random.choice((1, 1, 1, 2, 2, 3))):
        call = _conversation(random, number, begin + random.uniform(0, seconds / 2))
        conversations.append(call)
        bodies += _bodies(random, call)
    if random.random() < 0.08:
        bodies.append(Body("poison", "", random.choice(POISON), random.uniform(0, seconds)))
    return Story(
        conversations, bodies, _acts(random, conversations, begin, seconds),
        has_api_key=random.random() < 0.6, concurrency=random.choice((1, 2, 5)),
    )  # fmt: skip


POISON = (
    b"not JSON", b"[]", b'{"type":"post_call_transcription","data":{"conversation_id":"../../x"}}',
    b'{"type":"post_call_audio","data":{"conversation_id":"conv_bad","full_audio":"***"}}',
)  # fmt: skip


def _conversation(random: Random, number: int, began: float) -> Conversation:
    phone = random.choice((*NUMBERS, NUMBERS[0], None))
    call = Conversation(f"conv_{number}", phone, random.choice((None, "client-7")), began, random.randint(5, 600))
    has_audio = random.random() < 0.7
    for version in range(random.choice((1, 1, 1, 1, 2))):
        data = {
            "agent_id": AGENT, "conversation_id": call.id, "status": "done", "has_audio": has_audio,
            "transcript": [{"role": "user", "message": f"Move boat {number}.{version}", "time_in_call_secs": 1}],
            "metadata": {
                "start_time_unix_secs": int(began), "call_duration_secs": call.seconds,
                **({"phone_call": {"external_number": phone, "direction": "inbound"}} if phone else {}),
            },
            "analysis": {"transcript_summary": f"Boat {number}.{version} moves.", "call_successful": "success"},
            **({"user_id": call.user_id} if call.user_id else {}),
        }  # fmt: skip
        call.versions[int(began) + call.seconds + 60 * version] = json.dumps(data).encode()
    if has_audio:
        call.audio = b"ID3" + call.id.encode() * 20
    return call


def _bodies(random: Random, call: Conversation) -> list[Body]:
    """The webhooks of a call. Some are lost before they reach us, and an array may hold two."""
    made = []
    for at, data in call.versions.items():
        made.append(_body("transcript", call.id, _envelope("post_call_transcription", at, data), random))
    if call.audio:
        audio = {"agent_id": AGENT, "conversation_id": call.id, "full_audio": base64.b64encode(call.audio).decode()}
        content = _envelope("post_call_audio", int(call.began) + call.seconds + 3, json.dumps(audio).encode())
        made.append(_body("audio", call.id, content, random))
    if random.random() < 0.15:
        data = json.dumps({"conversation_id": call.id, "agent_id": AGENT, "answered_by": "human"}).encode()
        call.others.append(data)
        made.append(_body("other", call.id, _envelope("answering_machine_detection", int(call.began), data), random))
    if len(made) > 1 and random.random() < 0.12:
        made = [_body("array", call.id, b"[" + b",".join(each.content for each in made) + b"]", random)]
    return [each for each in made if random.random() > 0.1]


def _body(kind: Any, conversation_id: str, content: bytes, random: Random) -> Body:
    return Body(kind, conversation_id, content, random.choice((0, 1, 1, 20, 400, 4000)) * random.random())


def _envelope(kind: str, at: int, data: bytes) -> bytes:
    return b'{"type":"%s","event_timestamp":%d,"data":%s}' % (kind.encode(), at, data)


def _acts(random: Random, conversations: list[Conversation], begin: float, seconds: float) -> list[Act]:
    made = []
    if random.random() < 0.3:
        call = random.choice(conversations)
        subject = call.id if call.number is None or random.random() < 0.3 else call.number
        soon = call.began + call.seconds + random.expovariate(1 / 10)  # while its webhooks are at work
        made.append(Act(random.choice((soon, soon, begin + random.uniform(0, seconds))), "erase", subject))
    for what, rate in (("redrive", 0.2), ("replay", 0.2), ("reconcile", 0.1), ("gzip", 0.1)):
        if random.random() < rate:
            made.append(Act(begin + random.uniform(0, seconds), what))
    return made
