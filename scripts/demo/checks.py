"""What the demo expects to find in the stack. A check yields its complaints, one sentence each."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scripts.demo.calls import SampleCall, SampleCalls
from scripts.demo.scenes import Answer, Found, Kept, Outcome, Webhook, fetches

RECEIPTS = "staged_keys"  # of a record: the one thing that a repeat after the full hour adds to


def check(calls: SampleCalls, outcome: Outcome) -> list[str]:
    """All complaints. None if everything is correct."""
    after = outcome.after
    return [
        *check_answers(outcome.answers),
        *check_bucket(after, calls),
        *check_staging(after, [answer.webhook for answer in outcome.answers], calls),
        *check_pass(outcome.before, outcome.reconciled, calls),
        *check_records(after, calls),
        *check_memories(after, calls, outcome.found),
        *check_queues(after),
        *check_repeat(outcome.before, after),
    ]


def check_answers(answers: Iterable[Answer]) -> Iterator[str]:
    for answer in answers:
        webhook, told = answer.webhook, f"{answer.status}: {dict(answer.content)}"
        if answer.status != webhook.status:
            yield f"{webhook.scene}, {webhook.what}, was answered with {told}, not with {webhook.status}"
        elif not webhook.forged and answer.content != {"status": "ok", "delivery_id": webhook.delivery_id}:
            yield f"{webhook.scene}, {webhook.what}, was answered with another text: {told}"


def check_bucket(kept: Kept, calls: Iterable[SampleCall]) -> Iterator[str]:
    """Exactly the calls' objects are there, each as ElevenLabs sent it or as its API has it."""
    expected = expected_objects(calls)
    for key in sorted(expected.keys() ^ kept.finals.keys()):
        yield f"{key} {'is missing' if key in expected else 'should not be there'}."
    for key in sorted(expected.keys() & kept.finals.keys()):
        if not same(key, expected[key], kept.finals[key]):
            yield f"{key} does not hold what ElevenLabs has."
        if len(kept.versions[key]) != 1:
            yield f"{key} was written {len(kept.versions[key])} times."


def check_staging(kept: Kept, webhooks: Iterable[Webhook], calls: SampleCalls) -> Iterator[str]:
    """The signed bodies and the fetched ones were staged, nothing else, and all are archived."""
    signed = {f"{webhook.delivery_id}.json" for webhook in webhooks if not webhook.forged}
    fetched = {fetch.staged for fetch in fetches(calls)}
    if kept.staged_names != signed | fetched:
        expected = f"the {len(signed)} that were sent and the {len(fetched)} that were fetched"
        yield f"staging/ has {len(kept.staged)} bodies. Expected: {expected}."
    yield from (f"{key} is not tagged as archived." for key, archived in kept.staged.items() if not archived)


def check_pass(before: Kept, reconciled: Mapping[str, Any], calls: SampleCalls) -> Iterator[str]:
    """The hourly run fetched one missing call. All others were complete before, also the long recording."""
    for key in sorted(expected_objects(calls[:4]).keys() - before.finals.keys()):
        yield f"{key} was not there before the hourly run."
    expected = {"missing_calls": 1, "outcomes": {"fetched": 1}}
    if not expected.items() <= reconciled.items():
        yield f"The hourly run reported {dict(reconciled)}. Expected: {expected}."


def check_records(kept: Kept, calls: Sequence[SampleCall]) -> Iterator[str]:
    """Each call has its record, and both its memories are written down as done, as many as there are turns."""
    if len(kept.records) != 3 * len(calls):
        yield f"The table holds {len(kept.records)} items instead of {3 * len(calls)}."
    for call in calls:
        record = kept.records.get((call.conversation_id, "call"), {})
        for name, value in expected_record(call).items():
            if record.get(name) != value:
                yield f"The record of {call.conversation_id} has {name} {record.get(name)!r} instead of {value!r}."
        for kind, count in (("factual", 1), ("semantic", len(call.spoken))):
            entry = kept.records.get((call.conversation_id, f"memory#{kind}"), {})
            if entry.get("state") != "done" or len(entry.get("memory_ids", [])) != count:
                yield f"The {kind} memory of {call.conversation_id} is not done: {entry}."


def check_memories(kept: Kept, calls: Sequence[SampleCall], found: Iterable[Found]) -> Iterator[str]:
    for call in calls:
        remembered, expected = kept.memories.get(call.user_id, 0), 1 + len(call.spoken)
        if remembered != expected:
            yield f"Mem0 holds {remembered} memories of {call.conversation_id} instead of {expected}."
    for answer in found:
        if answer.question.expected.lower() not in answer.memory.lower():
            yield f"{answer.question.text!r} found {answer.memory!r}, without {answer.question.expected!r}."


def check_queues(kept: Kept) -> Iterator[str]:
    if len(kept.messages) != 8:
        yield f"There are {len(kept.messages)} queues instead of 8."
    yield from (f"{name} holds {messages} messages." for name, messages in kept.messages.items() if messages)


def check_repeat(before: Kept, after: Kept) -> Iterator[str]:
    """A repeated call, a forged one and another call came in between: nothing of the first four may change."""
    if not before.versions.items() <= after.versions.items():
        yield "The duplicate wrote an object again."
    if not without_receipts(before).items() <= without_receipts(after).items():
        yield "The duplicate changed a record."
    if not before.memories.items() <= after.memories.items():
        yield "The duplicate was remembered again."


def without_receipts(kept: Kept) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        key: {name: value for name, value in item.items() if name != RECEIPTS} for key, item in kept.records.items()
    }


def expected_objects(calls: Iterable[SampleCall]) -> dict[str, bytes]:
    jsons = {f"{call.folder}/{call.conversation_id}.json": json.dumps(call.data).encode() for call in calls}
    mp3s = {f"{call.folder}/{call.conversation_id}.mp3": call.recording for call in calls if call.recording}
    return jsons | mp3s


def expected_record(call: SampleCall) -> dict[str, Any]:
    path = f"{call.folder}/{call.conversation_id}"
    return {
        "folder": call.folder,
        "external_number": call.number,
        "agent_id": call.data["agent_id"],
        "duration_secs": call.data["metadata"]["call_duration_secs"],
        "summary": call.data["analysis"]["transcript_summary"],
        "json_key": f"{path}.json",
        "mp3_key": f"{path}.mp3" if call.recording else None,
        "audio": "archived" if call.recording else "none",
        "parked": None,
    }


def same(key: str, expected: bytes, found: bytes) -> bool:
    """Whether an MP3 has the same bytes, or a JSON the same fields and values."""
    return canonical(found) == canonical(expected) if key.endswith(".json") else found == expected


def canonical(document: bytes) -> str | None:
    try:
        return json.dumps(json.loads(document), sort_keys=True)  # tells 1 from 1.0 and true, which == does not
    except ValueError:
        return None
