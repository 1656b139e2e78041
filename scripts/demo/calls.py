"""Five invented calls in the shape that ElevenLabs sends, the same ones every time but for the time of the last two.

Their frame is that of the test fixtures: every field that ElevenLabs sends is there, used by us or not.
"""

import base64
import copy
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from scripts.demo.recordings import mp3, spoken
from scripts.demo.story import CHARTER, HARBOUR, JOBS, LIGHTHOUSE, WEBSITE
from scripts.demo.turns import END_CALL, INBOUND, WEB, Json, alternating, fixture, long_transcript, turn


@dataclass(frozen=True)
class SampleCall:
    """A call as two webhooks: `envelope` with the transcript, and `recording`, an MP3, if there is one.

    ElevenLabs' API tells the same: `data`, and the recording.
    """

    envelope: Json
    number: str | None = None
    recording: bytes | None = None

    @property
    def data(self) -> Json:
        return dict(self.envelope["data"])

    @property
    def conversation_id(self) -> str:
        return str(self.data["conversation_id"])

    @property
    def folder(self) -> str:
        return self.number.lstrip("+") if self.number else "no-phone"

    @property
    def user_id(self) -> str:
        """Whose memories it leaves in Mem0."""
        return self.number or f"user:{self.data['user_id']}"

    @property
    def spoken(self) -> list[str]:
        return [turn["message"] for turn in self.data["transcript"] if turn["message"]]

    def transcript_body(self) -> bytes:
        return compact(self.envelope)

    def audio_body(self) -> bytes:
        """The post_call_audio of the recording; it names no caller, as ElevenLabs never does."""
        named = {name: self.data[name] for name in ("agent_id", "conversation_id")}
        audio = {"full_audio": base64.b64encode(self.recording or b"").decode()}
        ended = self.envelope["event_timestamp"] + 3
        return compact({"type": "post_call_audio", "event_timestamp": ended, "data": named | audio})


class SampleCalls(NamedTuple):
    """ElevenLabs sends the first three whole, of the fourth the transcript, and of the fifth nothing."""

    harbour: SampleCall
    long: SampleCall
    web: SampleCall
    charter: SampleCall
    lighthouse: SampleCall


def sample_calls(now: int) -> SampleCalls:
    """All of them as of `now`, in unix seconds."""
    return SampleCalls(harbour_call(), long_call(), web_call(), charter_call(now), lighthouse_call(now))


def harbour_call() -> SampleCall:
    """An inbound call of 48 seconds: a boat is moved."""
    number = "+12025550123"
    turns = list(alternating(HARBOUR, 6))
    data = inbound("conv_demo_mooring", number, 48, turns)
    summary = (
        "Robin's boat Kittiwake will be moved from berth B14 to berth C3 on Thursday at nine, before the dredging."
    )
    return SampleCall(envelope(assessed(data, summary, "Robin", "The mooring was moved.")), number, mp3(48))


def long_call() -> SampleCall:
    """An inbound call of 20 minutes, about 100 KB of JSON, with a recording of 3.6 MB."""
    number = "+12025550142"
    data = inbound("conv_demo_winter", number, 1200, list(long_transcript()))
    summary = f"Marlow planned the winter of the sloop Petrel: {', '.join(job.thing for job in JOBS)}."
    data = assessed(data, summary, "Marlow", "All jobs have a date.")
    data["analysis"]["call_summary_title"] = "The winter of the sloop Petrel, and a ladder for the dog"
    return SampleCall(envelope(data), number, spoken(1200, data["transcript"]))


def web_call() -> SampleCall:
    """A call from a website, which has no number; its client says who is calling. Nothing was recorded."""
    data = copy.deepcopy(fixture(WEB)["data"])
    silent = dict.fromkeys(("has_audio", "has_user_audio", "has_response_audio"), False)
    data |= silent | {"conversation_id": "conv_demo_website", "transcript": list(alternating(WEBSITE, 5))}
    data["analysis"]["transcript_summary"] = "A visitor asked whether rope can be sent to Norway; it takes six days."
    return SampleCall(envelope(timed(data, 30)))


def charter_call(now: int) -> SampleCall:
    """An inbound call of 12 minutes just now; its recording, 11.5 MB, is too large for a webhook."""
    number = "+12025550164"
    data = ended_five_minutes_ago(inbound("conv_demo_charter", number, 720, list(alternating(CHARTER, 80))), now)
    summary = "Noor Castell charters the schooner Halcyon for her mother's birthday in August, with twenty-six guests."
    return SampleCall(envelope(assessed(data, summary, "Noor", "The charter is agreed on.")), number, mp3(720))


def lighthouse_call(now: int) -> SampleCall:
    """An inbound call of 32 seconds just now: places on a guided tour."""
    number = "+12025550187"
    data = ended_five_minutes_ago(inbound("conv_demo_lighthouse", number, 32, list(alternating(LIGHTHOUSE, 7))), now)
    summary = "Yara booked three places on Sunday's tour of the lighthouse."
    return SampleCall(envelope(assessed(data, summary, "Yara", "The tour is booked.")), number, mp3(32))


def inbound(conversation_id: str, number: str, seconds: int, turns: list[Json]) -> Json:
    """`data` of a finished call from `number`."""
    data = copy.deepcopy(fixture(INBOUND)["data"])
    data |= {"conversation_id": conversation_id, "transcript": [*turns, turn(END_CALL, seconds - 1)]}
    data["metadata"]["phone_call"]["external_number"] = number
    variables = data["conversation_initiation_client_data"]["dynamic_variables"]
    variables |= {"system__caller_id": number, "system__conversation_id": conversation_id}
    variables["system__call_duration_secs"] = seconds
    return timed(data, seconds)


def timed(data: Json, seconds: int) -> Json:
    data["metadata"] |= {"call_duration_secs": seconds, "cost": seconds * 6}
    for role in ("user", "agent"):
        messages = [turn for turn in data["transcript"] if turn["role"] == role and turn["message"]]
        data[f"{role}_message_count"] = len(messages)
    return data


def ended_five_minutes_ago(data: Json, now: int) -> Json:
    """`data` of a call that ended five minutes before `now`."""
    start = now - 300 - data["metadata"]["call_duration_secs"]
    data["metadata"] |= {"start_time_unix_secs": start, "accepted_time_unix_secs": start}
    variables = data["conversation_initiation_client_data"]["dynamic_variables"]
    variables["system__time_utc"] = datetime.fromtimestamp(start, timezone.utc).isoformat(timespec="microseconds")
    return data


def assessed(data: Json, summary: str, caller: str, rationale: str) -> Json:
    """`data` with what ElevenLabs' analysis made of it, which it tells twice: by name and as a list."""
    analysis = data["analysis"]
    analysis |= {"transcript_summary": summary, "call_summary_title": rationale}
    for results in (analysis["evaluation_criteria_results"], analysis["data_collection_results"]):
        for name, told in (("goal_met", {"rationale": rationale}), ("caller_name", {"value": caller})):
            results.get(name, {}).update(told)
    for name in ("evaluation_criteria_results", "data_collection_results"):
        analysis[f"{name}_list"] = list(analysis[name].values())
    return data


def envelope(data: Json) -> Json:
    ended = data["metadata"]["start_time_unix_secs"] + data["metadata"]["call_duration_secs"]
    return {"type": "post_call_transcription", "event_timestamp": ended + 9, "data": data}


def compact(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
