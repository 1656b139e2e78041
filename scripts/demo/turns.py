"""The sample calls' transcripts: what is said in them, in entries that have every field that ElevenLabs sends."""

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from scripts.demo.story import JOBS
from scripts.embedded.aws import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
INBOUND, WEB = "02_transcription_full_twilio_inbound.json", "05_transcription_web_no_phone.json"
USER_TURN, AGENT_TURN, TOOL_CALL, TOOL_RESULT, END_CALL = 1, 2, 3, 4, 9  # where INBOUND has one of each
Json = dict[str, Any]


def long_transcript() -> Iterator[Json]:
    """Greeting, then seven entries for each job: asked, looked up with a tool, answered, agreed, confirmed."""
    yield turn(AGENT_TURN, 0, message="Good morning, boatyard desk. What can I do for you?")
    for number, job in enumerate(JOBS):
        at, request = 6 + number * 58, {"request_id": f"req_demo_{number:04}", "tool_name": "find_slot"}
        yield turn(USER_TURN, at, message=job.ask)
        yield turn(AGENT_TURN, at + 9, message=f"Let me see what the yard's calendar says about {job.thing}.")
        yield called(at + 11, request, json.dumps({"boat": "Petrel", "job": job.thing}))
        yield answered(at + 13, request, json.dumps({"free": True, "when": job.when, "price": job.price}))
        yield turn(AGENT_TURN, at + 15, message=f"{job.answer} That would be {job.when}, for {job.price} dollars.")
        yield turn(USER_TURN, at + 32, message=job.reply)
        yield turn(AGENT_TURN, at + 44, message=f"I have put {job.thing} down for {job.when}.")


def alternating(messages: tuple[str, ...], seconds: int) -> Iterator[Json]:
    """Agent and user by turns; the agent begins."""
    for number, message in enumerate(messages):
        yield turn(USER_TURN if number % 2 else AGENT_TURN, number * seconds, message=message)


def called(at: int, request: Json, parameters: str) -> Json:
    entry = turn(TOOL_CALL, at)
    entry["tool_calls"][0] |= request | {"params_as_json": parameters}
    entry["tool_calls"][0]["tool_details"] |= {"url": "https://yard.example.com/slots", "body": parameters}
    return entry


def answered(at: int, request: Json, value: str) -> Json:
    entry = turn(TOOL_RESULT, at)
    entry["tool_results"][0] |= request | {"result_value": value}
    return entry


def turn(like: int, at: int, **told: Any) -> Json:
    """A transcript entry with all of its fields, like that of the fixture."""
    entry: Json = copy.deepcopy(fixture(INBOUND)["data"]["transcript"][like])
    return entry | {"time_in_call_secs": at} | told


@cache
def fixture(name: str) -> Json:
    return dict(json.loads((FIXTURES / name).read_text()))
