"""What must hold once a schedule has come to rest. Each oracle returns what is wrong, or None."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from hashlib import sha256

from memory_writer.memory import KINDS
from scripts.operations.selection import is_staged
from shared import keys
from shared.bucket import ARCHIVED
from shared.errors import PoisonError
from shared.indexes import DAYS
from shared.webhooks import AUDIO, TRANSCRIPTION, WebhookEvent, read_event, split
from tests.faults.simulator.simulation import TABLE, Simulation
from tests.faults.simulator.story import Body, Conversation

_TOMBSTONE = {"conversation_id", "item", "erased_at", "expires"}


class Outcome:
    """What is left of a schedule, read once for all oracles."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation, self.world, self.story = simulation, simulation.world, simulation.story
        items = self.world.dynamodb.items(TABLE)
        self.records = {name: record for (name, item), record in items.items() if item == "call"}
        self.days = {item for partition, item in items if partition == DAYS}
        self.objects = {key: self.read(key) for key in self.world.s3.keys("")}
        self.staged = {key: body for key, body in self.objects.items() if is_staged(key)}
        self.finals = {key: body for key, body in self.objects.items() if not is_staged(key)}
        self.erased = simulation.operators.erased

    def read(self, key: str) -> bytes:
        return unpacked(self.world.s3.bytes_of(key))

    def metadata(self, key: str) -> dict[str, str]:
        return dict(self.world.s3.call("head_object", {"Bucket": "archive", "Key": key})["Metadata"])

    def is_tagged(self, key: str) -> bool:
        answer = self.world.s3.call("get_object_tagging", {"Bucket": "archive", "Key": key})
        return ARCHIVED in answer["TagSet"]

    def is_erased(self, call: Conversation) -> bool:
        return call.id in self.erased or int(call.began) <= self.erased.get(call.number or "", float("-inf"))

    def is_gone(self, call: Conversation) -> bool:
        """Whether nothing of the call may be left: audio alone names no caller, so that only its id can erase it."""
        is_known = any(
            call.id.encode() in body and b"post_call_transcription" in body for body in self.world.put.values()
        )
        return call.id in self.erased or (self.is_erased(call) and is_known)

    @property
    def kept(self) -> list[Conversation]:
        return [call for call in self.story.conversations if not self.is_erased(call)]

    def accepted(self, call: Conversation, kind: str) -> list[tuple[int, str, WebhookEvent]]:
        """The call's events of this type that were answered with 200, the newest last."""
        bodies = [each for each in self.simulation.sender.accepted.values() if each.conversation_id == call.id]
        events = [(element, read_event(element)) for body in bodies for element in elements(body)]
        return sorted(
            (event.time_ms or 0, Body("transcript", "", element, 0).delivery_id, event)
            for element, event in events
            if event.type == kind
        )


def unpacked(body: bytes) -> bytes:
    """An object's content, also with GzipJson."""
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def elements(body: Body) -> list[bytes]:
    return (split(body.content) or []) if body.kind == "array" else [body.content]


def rests(found: Outcome) -> str | None:
    """The queues are empty, dead-letter queues have only what no retry can help, and each erasure is complete."""
    outputs, sqs = found.simulation.outputs, found.world.sqs
    for name in ("Archive", "Memory", "Audio"):
        if left := sqs.messages(outputs[f"{name}QueueUrl"]):
            return f"{len(left)} in {name}Queue: {left[0]['Body'][:200]}"
    if left := found.simulation.letters():
        return f"{len(left)} in a dead-letter queue: {left[0]['Body'][:200]}"
    operators = found.simulation.operators
    if unfinished := operators.begun - operators.erased.keys():
        return f"the erasure of {sorted(unfinished)} is not complete"
    return None


def nothing_lost(found: Outcome) -> str | None:
    """Each transcript that was answered with 200 is archived byte for byte, under its caller. The newest wins."""
    for call in found.kept:
        if accepted := found.accepted(call, TRANSCRIPTION):
            key = keys.call_json(call.digits or keys.NO_PHONE, call.id)
            newest = accepted[-1][0] // 1000  # a version that was stored and not acknowledged may be newer still
            if found.finals.get(key) not in [data for at, data in call.versions.items() if at >= newest]:
                return f"{key}: {'another content' if key in found.finals else 'missing'}"
    return None


def recordings_kept(found: Outcome) -> str | None:
    """Each recording that was answered with 200 is archived byte for byte beside its call, if its call is known."""
    for call in found.kept:
        if found.accepted(call, AUDIO) and found.records.get(call.id, {}).get("folder"):
            key = keys.call_mp3(call.digits or keys.NO_PHONE, call.id)
            if found.finals.get(key) != call.audio:
                return f"{key}: {'another content' if key in found.finals else 'missing'}"
    return None


def events_kept(found: Outcome) -> str | None:
    """Each other event that was answered with 200 is archived byte for byte."""
    for call in found.kept:
        for _, _, event in found.accepted(call, "answering_machine_detection"):
            bodies = {body for key, body in found.finals.items() if key.endswith(f"/{call.id}.{event.type}.json")}
            if bodies != {bytes(event.data)}:
                return f"{call.id}.{event.type}: {'another content' if bodies else 'missing'}"
    return None


def record_agrees(found: Outcome) -> str | None:
    """The record of a call agrees with the bucket: its keys exist, and their objects have the same `order`."""
    for name, item in found.records.items():
        if ("open_audio" in item) != (item.get("audio") == "pending") or ("open_state" in item) != ("parked" in item):
            return f"{name}: the indexes of open work do not agree with it"
        if "t_order" in item and item["listed_at"][:10] not in found.days:
            return f"{name}: its day is not in the list of days"
        for key, order in (("json_key", "t_order"), ("mp3_key", "mp3_order")):
            stored = item.get(key)
            if stored and order in item and found.finals.get(stored) is None:
                return f"{name}: {key} {stored} does not exist"
            if stored and order in item and found.metadata(stored)["order"] != item[order]:
                return f"{name}: {key} has another order than its record"
        if (item.get("audio") == "archived") != ("mp3_key" in item):
            return f"{name}: audio is {item.get('audio')}, mp3_key is {item.get('mp3_key')}"
        if item.get("folder") and item.get("parked"):
            return f"{name}: its recording is still parked"
    return None


def remembered_once(found: Outcome) -> str | None:
    """Each memory of an archived call is in Mem0 exactly once, with its text, under its caller."""
    for call in found.kept:
        is_wanted = "t_order" in found.records.get(call.id, {}) and call.user is not None
        for kind in KINDS:
            outcomes = found.world.mem0.outcomes(call.id, kind)
            left = [each for each in outcomes if each not in ("FAILED", "empty")]  # empty: nothing to remember in it
            if len(left) > 1 or (outcomes and not is_wanted):
                return f"{call.id}: the {kind} memory was written {len(left)} times"
            if is_wanted and not left and "empty" not in outcomes:
                return f"{call.id}: the {kind} memory was not written"
        for add in found.world.mem0.accepted(call.id):
            if add["user_id"] != call.user:
                return f"{call.id}: a memory was written for another user"
            if f"oat {call.id.removeprefix('conv_')}." not in json.dumps(add["messages"]):
                return f"{call.id}: a memory has another text"
    return None


def nothing_invented(found: Outcome) -> str | None:
    """Nothing is archived that was not sent, and everything is in its caller's folder, under its own name."""
    expected = {key: bodies for call in found.story.conversations for key, bodies in finals_of(call).items()}
    for key, body in found.finals.items():
        if key not in expected:
            return f"{key} belongs to no call"
        if body not in expected[key] and not is_same_json(body, expected[key]):
            return f"{key} was not sent"
    return None


def finals_of(call: Conversation) -> dict[str, list[bytes]]:
    """The keys that a call may have, and what may be there. An event that came before its call is in no-phone."""
    folder = call.digits or keys.NO_PHONE
    made = {keys.call_json(folder, call.id): list(call.versions.values())}
    if call.audio:
        made[keys.call_mp3(folder, call.id)] = [call.audio]
    for place in (folder, keys.NO_PHONE) if call.others else ():
        made[keys.event_json(place, call.id, "answering_machine_detection")] = call.others
    return made


def is_same_json(body: bytes, expected: list[bytes]) -> bool:
    """Whether it is a version of the call as ElevenLabs' API writes it."""
    try:
        return json.loads(body) in map(json.loads, expected)
    except ValueError:
        return False


def poison_kept(found: Outcome) -> str | None:
    """What cannot be processed and was answered with 200 stays in staging and in ArchiveDlq, with the reason."""
    letters = found.world.sqs.messages(found.simulation.outputs["ArchiveDlqUrl"])
    given_up = {each["Body"] for each in letters if {"step", "error"} <= each.get("MessageAttributes", {}).keys()}
    for name, body in found.simulation.sender.accepted.items():
        is_given_up = any(name in message for message in given_up)
        if is_given_up != (body.kind == "poison"):
            return f"{name[:8]}, {body.kind}, is {'given up' if is_given_up else 'not in ArchiveDlq with a reason'}"
        if body.kind == "poison" and body.content not in found.staged.values():
            return f"{name[:8]} is not in staging"
    return None


def tagged(found: Outcome) -> str | None:
    """A payload has the tag `archived` if its work is done, and only then: it expires only then."""
    for key, body in found.staged.items():
        expected = _is_done(found, key, body)
        if expected is not None and found.is_tagged(key) != expected:
            return f"{key}: {'not tagged although' if expected else 'tagged before'} its work is done"
    return None


def _is_done(found: Outcome, key: str, body: bytes) -> bool | None:
    """Whether a payload's work can be done: not that of poison, nor of a recording whose call is unknown."""
    if keys.is_recording(key):
        return True
    if any(each.kind == "poison" and each.content == body for each in found.story.bodies):
        return False
    event = read_event(body) if not body.startswith(b"[") else None
    if event and event.type == AUDIO and not found.records.get(str(event.conversation_id), {}).get("folder"):
        return None
    return True


def complete(found: Outcome) -> str | None:
    """With `ElevenLabsApiKey`, the archive has each call and each recording of ElevenLabs' list."""
    if not found.story.has_api_key:
        return None
    for call in found.kept:
        record = found.records.get(call.id, {})
        if "t_order" not in record:
            return f"{call.id} is not archived: {record.get('missing_reason')}"
        if call.audio and record.get("audio") != "archived":
            return f"the recording of {call.id} is {record.get('audio')}: {record.get('audio_missing_reason')}"
    return None


def announced(found: Outcome) -> str | None:
    """The newest version of each archived call, and its recording, were announced at least once."""
    heard = [json.loads(each["Body"]) for each in found.world.sqs.messages(found.simulation.announcements)]
    said = {(each["event"], each["conversation_id"], each["order"]) for each in heard}
    recordings = {each["conversation_id"] for each in heard if each["event"] == "audio_archived"}
    for call in found.kept:
        record = found.records.get(call.id, {})
        if "t_order" in record and ("transcript_archived", call.id, record["t_order"]) not in said:
            return f"{call.id} was not announced"
        if record.get("audio") == "archived" and call.id not in recordings:
            return f"the recording of {call.id} was not announced"
    return None


def erased(found: Outcome) -> str | None:
    """What was erased is nowhere: in no version of an object, no item, no message and no memory."""
    for call in filter(found.is_gone, found.story.conversations):
        for where, text in traces(found):
            if re.search(rf"{call.id}(?!\w)", text):
                return f"{call.id} is in {where}"
        if any(each["metadata"]["conversation_id"] == call.id for each in found.world.mem0.all_memories()):
            return f"{call.id} is in Mem0"
    return None


def traces(found: Outcome) -> Iterator[tuple[str, str]]:
    """All places where a call could be, as text."""
    for key, body in found.world.s3.all_versions():
        if key in found.world.locked and found.is_tagged(key):
            continue  # it expires: whoever forbids the archiver to delete decides so
        yield f"the bucket: {key}", f"{key} {unpacked(body).decode(errors='replace')}"
    for item in found.world.dynamodb.items(TABLE).values():
        if not item.keys() <= _TOMBSTONE:
            yield f"the table: {item['conversation_id']} {item['item']}", str(item)
    for name in ("Archive", "Memory", "Audio"):
        for queue in (f"{name}QueueUrl", f"{name}DlqUrl"):
            for message in found.world.sqs.messages(found.simulation.outputs[queue]):
                yield queue, message["Body"]


ORACLES: dict[str, Callable[[Outcome], str | None]] = {
    each.__name__: each
    for each in (
        rests, nothing_lost, recordings_kept, events_kept, poison_kept, record_agrees, remembered_once,
        nothing_invented, tagged, complete, announced, erased,
    )
}  # fmt: skip


class Durable:
    """No webhook is answered with 200 before its payload is in the bucket and its message was sent."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        simulation.sender.check_accepted = self.check

    def check(self, body: Body) -> None:
        world = self._simulation.world
        if not any(body.delivery_id in key and content == body.content for key, content in world.put.items()):
            self._simulation.violations["durable"] = (
                f"{body.delivery_id[:8]} was answered with 200, and is not in the bucket"
            )
        if not any(body.delivery_id in sent for sent in world.sent):
            self._simulation.violations["durable"] = f"{body.delivery_id[:8]} was answered with 200, and was not queued"


class TaggedLast:
    """No payload gets the tag `archived` before its work is done: a crash at any moment leaves it to be processed."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._world = simulation, simulation.world
        simulation.world.after_tag = self.check

    def check(self, key: str) -> None:
        body = self._world.s3.bytes_of(key)
        if keys.is_recording(key) or key in self._world.locked:
            return
        undone = [each for each in split(body) or [body] if not self._is_done(each)]
        if undone:
            self._simulation.violations["tagged_last"] = f"{key} was tagged before its work was done"

    def _is_done(self, element: bytes) -> bool:
        """Whether what an event brings is in the bucket, its call is erased, or a newer version has the call."""
        try:
            event = read_event(element)
        except PoisonError:
            return False
        record = self._world.dynamodb.items(TABLE).get((str(event.conversation_id), "call"), {})
        order = record.get({TRANSCRIPTION: "t_order", AUDIO: "mp3_order"}.get(str(event.type), ""), "")
        if "erased_at" in record or (order and sha256(element).hexdigest() not in order):
            return True
        name = {TRANSCRIPTION: ".json", AUDIO: ".mp3"}.get(str(event.type), f".{event.type}.json")
        return any(each.endswith(f"/{event.conversation_id}{name}") for each in self._world.s3.keys(""))


WATCHING = {"durable": Durable, "tagged_last": TaggedLast}  # from the beginning of a schedule to its end
SENTENCES = {name: str(each.__doc__) for name, each in (WATCHING | ORACLES).items()}


def judge(simulation: Simulation) -> dict[str, str]:
    """All violations of a schedule that has come to rest, by oracle."""
    if simulation.world.broken:
        return {"simulator": simulation.world.broken}
    outcome = Outcome(simulation)
    found = {name: oracle(outcome) for name, oracle in ORACLES.items()}
    return simulation.violations | {name: text for name, text in found.items() if text}
