"""Invented calls in the shape of the API's answers: 150 usual ones over 40 days, and those that NAMED describes."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

Call = dict[str, Any]
Turn = dict[str, Any]

AGENTS = ("agent_harbour_office", "agent_boat_hire", "agent_night_line")
TOPICS = {
    "The mooring was moved": "Robin's boat Kittiwake moves to berth C3 on Thursday at nine, before the dredging.",
    "Charter agreed": "Noor charters the schooner Halcyon for her mother's birthday in August, with 26 guests.",
    "Opening hours": "Asked when the fuel dock opens on Sundays, and whether cards are accepted there.",
    "Lost jacket": "A blue jacket was left in the sauna on Friday evening. The office keeps it for two weeks.",
    "Winter storage booked": "Marlow planned the winter of the sloop Petrel: mast out, engine flushed, and a cover.",
    "Bill questioned": "The bill of October shows electricity for two berths. The agent promised a call back.",
    "Tour booked": "Yara booked three places on Sunday's tour of the lighthouse.",
    "Hung up after the greeting": "The caller ended the call before saying what it was about.",
}
HOSTILE = (
    "<script>alert('x')</script><img src=x onerror=alert(1)> <a href=\"javascript:alert(2)\">press</a> "
    "javascript:alert(3) \u202egnp.exe\u2066 ${constructor} {{7*7}} &lt;b&gt; \u05e9\u05dc\u05d5\u05dd"
)
SAID = [
    "Harbour office, good morning. How can I help you?",
    "Good morning. I have a question about my berth.",
    "Of course. Which boat is it about?",
    "The Kittiwake, she lies at B14.",
    "Thank you. I see her here. What would you like to know?",
    "Somebody told me that the dredging begins next week. Do I have to move her, and where to?",
    "Yes, the dredging begins on Friday. Berth C3 is free from Thursday at nine. Shall I put you down for it?",
    "Please do.",
    "Done. You get a message with the details.",
    "Thank you, goodbye.",
]
ASSESSED = {
    "evaluation": [
        {"id": "goal_met", "name": "goal_met", "result": "success", "rationale": "The mooring was moved as asked."},
        {"id": "polite", "name": "polite", "result": "unknown", "rationale": "Too short to tell."},
    ],
    "collected": [
        {"id": "caller_name", "name": "caller_name", "value": "Robin", "rationale": "Said at the beginning."},
        {"id": "berth", "name": "berth", "value": "C3", "rationale": ""},
        {"id": "guests", "name": "guests", "value": None, "rationale": "Not mentioned."},
    ],
}
WHOLE = {
    "transcript": "webhook", "audio": "archived", "audio_reason": "", "missing_reason": "", "is_complete": True,
    "explanation": "The transcript came by webhook and the recording is in the archive.",
}  # fmt: skip
PENDING = WHOLE | {
    "audio": "pending", "is_complete": False,
    "explanation": "The recording has not arrived. It is fetched from ElevenLabs every hour for a day.",
}  # fmt: skip
MISSING = WHOLE | {
    "transcript": "missing", "audio": "unavailable", "audio_reason": "403", "missing_reason": "deleted at ElevenLabs",
    "is_complete": False, "explanation": "ElevenLabs no longer has this call: neither its words nor its recording.",
}  # fmt: skip
# Special calls: how many hours ago, and what is special.
NAMED: dict[str, tuple[int, Call]] = {
    "conv_pending": (3, {"title": "Fuel for Saturday", "audio": "pending", "completeness": PENDING}),
    "conv_silent": (4, {"title": "Rope to Norway", "audio": "none", "caller": None, "direction": None, "memories": []}),
    "conv_hour": (5, {"title": "The whole winter, job by job", "duration_secs": 3600}),
    "conv_hostile": (6, {
        "title": HOSTILE, "summary": HOSTILE, "caller": "+12025550166", "termination_reason": HOSTILE,
        "evaluation": [{"id": "e", "name": HOSTILE, "result": "failure", "rationale": HOSTILE}],
        "collected": [{"id": "c", "name": HOSTILE, "value": {"a": HOSTILE}, "rationale": HOSTILE}],
    }),
    "conv_formula": (7, {
        "title": "=cmd|' /C calc'!A0", "summary": '-2+3 is @home, "quoted"\nand on;=1+1\t\uff20SUM(1)',
        "caller": "+12025550167",
    }),
    "conv_masked": (8, {"caller": "120…123", "title": "Key of the shed"}),
    "conv_missing": (9, {
        "title": None, "summary": None, "outcome": None, "audio": "unavailable", "cost": None, "duration_secs": 64,
        "evaluation": [], "collected": [], "memories": [], "completeness": MISSING,
    }),
    "conv_untitled": (11, {"title": None, "summary": "Only a summary came."}),
    "conv_hasty": (10, {"title": "Two turns in each second", "duration_secs": 5}),
    "conv_dog": (30, {
        "title": "May the dog come along?", "caller": "+12025550144",
        "summary": "Asked whether a dog may come along on the charter. It may, on a lead.",
    }),
}  # fmt: skip


def generated(now: datetime) -> list[Call]:
    """Newest first."""
    random = Random(15)
    usual = [usual_call(random, number, now - timedelta(hours=6.4 * number + 2)) for number in range(150)]
    named = [call(name, now - timedelta(hours=hours), **special) for name, (hours, special) in NAMED.items()]
    return sorted([*named, *usual], key=lambda each: str(each["started_at"]), reverse=True)


def usual_call(random: Random, number: int, at: datetime) -> Call:
    title = random.choice(list(TOPICS))
    return call(
        f"conv_{number:04}", at, title=title, summary=TOPICS[title],
        agent_id=random.choices(AGENTS, [5, 3, 2])[0], caller=f"+120255501{random.randrange(100):02}",
        outcome=random.choices(["success", "failure", "unknown"], [7, 2, 1])[0],
        duration_secs=random.randrange(15, 900),
        audio=random.choices(["archived", "none", "unavailable"], [8, 1, 1])[0],
    )  # fmt: skip


def call(conversation_id: str, at: datetime, **special: Any) -> Call:
    started = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    receipt = {"reason": "", "count": 0, "memory_ids": [], "at": started}
    files = [{"kind": kind, "name": f"{conversation_id}.{kind}", "event": None} for kind in ("json", "mp3")]
    return {
        "conversation_id": conversation_id, "agent_id": AGENTS[0], "caller": "+12025550123", "started_at": started,
        "duration_secs": 48, "status": "done", "outcome": "success", "title": "A call", "audio": "archived",
        "summary": TOPICS["The mooring was moved"], "cost": special.get("duration_secs", 48) * 6,
        "archived_at": (at + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ"), "origin": "webhook",
        "direction": "inbound", "language": "en", "termination_reason": "end_call tool was called", "files": files,
        "memories": [
            receipt | {"type": "factual", "state": "done", "count": 1, "memory_ids": ["6f1c2f0e-21d8-4a57-9f5e"]},
            receipt | {"type": "semantic", "state": "sent"},
        ],
        "completeness": WHOLE,
    } | ASSESSED | special  # fmt: skip


def transcript(call: Call) -> list[Turn]:
    if call["conversation_id"] == "conv_missing":
        return []
    count = 800 if call["conversation_id"] == "conv_hour" else len(SAID)
    step = call["duration_secs"] / count
    turns = [turn(index, SAID[index % len(SAID)], int(index * step)) for index in range(count)]
    if call["conversation_id"] == "conv_hostile":
        turns = [each | {"message": HOSTILE} for each in turns]
    if call["conversation_id"] == "conv_dog":
        turns[5]["message"] = "May my dog come along? He is a quiet one."
    return [each | {"index": index} for index, each in enumerate(with_tools(turns))]


def turn(index: int, message: str | None, at: int) -> Turn:
    return {
        "role": "user" if index % 2 else "agent", "message": message, "original_message": None, "interrupted": False,
        "at_secs": at, "tool_calls": [], "tool_results": [],
    }  # fmt: skip


def with_tools(turns: list[Turn]) -> list[Turn]:
    """A tool that worked, one with numbers that JavaScript cannot hold, one that failed, whose result is a turn of
    its own, and an interrupted sentence."""
    turns[4] |= {
        "interrupted": True, "message": turns[4]["message"][:21], "original_message": turns[4]["message"],
        "tool_calls": [{"id": "t1", "name": "find_berth", "arguments": {"boat": "Kittiwake"}, "type": "webhook"}],
        "tool_results": [result("t1", "find_berth", '{"berth":"C3"}', latency_secs=0.42)],
    }  # fmt: skip
    turns[6] |= {
        "tool_calls": [
            {"id": "t3", "name": "find_bill", "arguments": '{"bill": 12345678901234567890}', "type": "webhook"}
        ],
        "tool_results": [result("t3", "find_bill", "2.50")],
    }
    turns[8]["tool_calls"] = [{"id": "t2", "name": "send_message", "arguments": "not json", "type": "webhook"}]
    failed = result("t2", "send_message", "The gateway did not answer", is_error=True, error_type="timeout")
    return [*turns[:9], turn(8, None, turns[8]["at_secs"]) | {"tool_results": [failed]}, *turns[9:]]


def result(tool: str, name: str, text: str, **special: Any) -> dict[str, Any]:
    usual = {"is_error": False, "latency_secs": 5.01, "error_type": None}
    return {"id": tool, "name": name, "result": text} | usual | special
