"""Invented calls as ElevenLabs sends them, and when: transcripts now and then twice or three times, audio once."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Kind = Literal["json", "mp3"]  # what becomes of it: a transcript or audio
CALLERS = [f"120255501{number:02}" for number in range(100)]
WORDS = ("boat", "mooring", "Thursday", "Zażółć", "船", "invoice", "please", "harbour", "lamp", "“twelve”", "kettle")
REPEATED = 0.2  # of the transcripts
SOONER, LATER = -2.0, 3.0  # seconds between a transcript and its audio
AGENT = "agent_7001kills0agent0alpha00001"


@dataclass(frozen=True)
class Call:
    conversation_id: str
    caller: str
    data: bytes  # as JSON: what the archive must hold, byte for byte
    recording: bytes

    def key(self, kind: Kind) -> str:
        return f"{self.caller}/{self.conversation_id}.{kind}"

    def archived(self, kind: Kind) -> bytes:
        return self.data if kind == "json" else self.recording

    def body(self, kind: Kind) -> bytes:
        """The webhook's."""
        if kind == "json":
            return b'{"type":"post_call_transcription","event_timestamp":1772550278,"data":%s}' % self.data
        audio = base64.b64encode(self.recording).decode()
        data = {"agent_id": AGENT, "conversation_id": self.conversation_id, "full_audio": audio}
        return json.dumps({"type": "post_call_audio", "event_timestamp": 1772550281, "data": data}).encode()


@dataclass(frozen=True)
class Delivery:
    at: float  # seconds after the start
    call: Call
    kind: Kind


def make_calls(seed: int, number: int) -> list[Call]:
    return [make_call(Random(f"{seed} {each}"), f"conv_kills{seed}x{each:05}") for each in range(number)]


def make_call(random: Random, conversation_id: str) -> Call:
    """Its turns and its summary are one sentence each, so that Mem0 makes one memory of each kind of them."""
    caller, said = random.choice(CALLERS), " ".join(random.choices(WORDS, k=random.randint(5, 300)))
    data = {
        "agent_id": AGENT, "conversation_id": conversation_id, "status": "done", "has_audio": True,
        "transcript": [
            {"role": "agent", "message": "What can I do for you?", "time_in_call_secs": 0},
            {"role": "user", "message": f"{said}.", "time_in_call_secs": 4},
        ],
        "metadata": {
            "start_time_unix_secs": 1772550245, "call_duration_secs": 21,
            "phone_call": {"type": "twilio", "direction": "inbound", "external_number": f"+{caller}"},
        },
        "analysis": {"call_successful": "success", "transcript_summary": f"The caller spoke about the {said[:20]}."},
    }  # fmt: skip
    raw = json.dumps(data, ensure_ascii=random.random() < 0.5, separators=(",", ":")).encode()
    return Call(conversation_id, caller, raw, b"ID3" + random.randbytes(random.randint(1_000, 40_000)))


def schedule(calls: Sequence[Call], seed: int, per_second: float, *, audio: bool = True) -> list[Delivery]:
    """When each body is sent: of a repeated transcript half of the copies at the same moment, the others later."""
    random, deliveries = Random(f"{seed} schedule"), []
    for number, call in enumerate(calls):
        at = number / per_second
        copies = random.choice((1, 2)) if random.random() < REPEATED else 0
        moments = [at, *(at + random.choice((0, random.uniform(0.1, LATER))) for _ in range(copies))]
        deliveries += [Delivery(moment, call, "json") for moment in moments]
        if audio:
            deliveries.append(Delivery(max(0, at + random.uniform(SOONER, LATER)), call, "mp3"))
    return sorted(deliveries, key=lambda delivery: delivery.at)
