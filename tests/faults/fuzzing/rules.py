"""What must hold for every input. A rule returns what is wrong, or None."""

import hashlib
import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.announcements import read_announcement
from shared.caller import find_caller
from shared.conversation import read_conversation
from shared.errors import PoisonError
from shared.webhooks import read_events
from tests.conftest import SECRET, lambda_context
from tests.faults.fuzzing.aws import Input, Seen
from tests.faults.fuzzing.edge import (
    accepts_what_is_signed,
    answers_without_error,
    refuses_what_is_not_signed,
    stages_byte_for_byte,
)
from tests.faults.fuzzing.inputs import SAMPLE_TEXTS, Delivery, Message, Request
from tests.faults.fuzzing.reference import AUDIO, CALL, Reading, parse, read, texts

Rule = Callable[[Any, Seen], str | None]
ROOT = Path(__file__).parents[3]
_SOURCES = [file for room in ("ingest", "archiver", "memory_writer", "shared") for file in (ROOT / room).glob("*.py")]
# What our own source contains is nobody's secret.
PUBLIC = "\n".join(
    [file.read_text() for file in _SOURCES] + [str(vars(lambda_context())), "Timestamp CloudWatchMetrics"]
)
_FOLDER, _NAME = r"(?:[0-9]{7,15}|no-phone)", r"[A-Za-z0-9_-]{1,128}"
_KEY = re.compile(
    r"staging/\d{4}/\d\d/\d\d/\d\d/[0-9a-f]{64}\.(?:json|mp3)"
    rf"|{_FOLDER}/{_NAME}(?:\.{_NAME})?\.json|{_FOLDER}/{_NAME}\.mp3|other-events/{_NAME}/[0-9a-f]{{64}}\.json",
    re.ASCII,
)
_TRACE = re.compile(r'Traceback|File \\?"|site-packages|\.py\b')
MOST_MEMORY = 43  # times the body's size: 256 MB for 6 MB, as in tests/hostile.py


# Archiver and memory writer


def retries_nothing(given: Delivery | Message, seen: Seen) -> str | None:
    """No input raises or is retried while the services work."""
    failed = any(answer["batchItemFailures"] for answer in seen.answers)
    return f"retried, or raised: {seen.errors}; {_last_error(seen)}" if failed or seen.errors else None


def says_why_it_is_poison(given: Delivery | Message, seen: Seen) -> str | None:
    """The dead-letter queue gets the message unchanged, with its step and an error."""
    for message, attributes in seen.dead:
        if message not in seen.messages or set(attributes) != {"step", "error"} or not all(attributes.values()):
            return f"in the dead-letter queue: {attributes}"
    return None


def loses_nothing(given: Delivery, seen: Seen) -> str | None:
    """Each message is archived and tagged, parked, split, or in the dead-letter queue."""
    dead = {message for message, _ in seen.dead}
    parked = str([each.get("waiting") for each in seen.records])
    for message, body in _messages(given, seen):
        key = json.loads(message)["staged_key"]
        is_split = key not in seen.objects and b"[" in body[:20]
        if message not in dead and key not in parked and not is_split and seen.tags.get(key) != {"archived": "true"}:
            return "a message is acknowledged, but neither archived, parked, split nor in the dead-letter queue"
    return None


def judges_like_the_reference(given: Delivery, seen: Seen) -> str | None:
    """Poison is what a plain JSON reader finds unusable, and nothing else."""
    dead = {message: attributes.get("error", "") for message, attributes in seen.dead}
    for message, reading in _readings(given, seen):
        if reading.is_poison is False and message in dead and "more than 20 numbers" not in dead[message]:
            return f"a usable body is poison: {dead[message]}"
        if reading.is_poison and message not in dead:
            return "an unusable body is not in the dead-letter queue"
    return None


def keeps_what_was_sent(given: Delivery, seen: Seen) -> str | None:
    """Each usable event has its object, with every field and digit, and each recording its bytes."""
    dead = {message for message, _ in seen.dead}
    found = [
        reading for message, reading in _readings(given, seen) if reading.is_poison is False and message not in dead
    ]
    for each in found:
        same = [other for other in found if (other.conversation_id, other.type) == (each.conversation_id, each.type)]
        if each.conversation_id and each.type != AUDIO and (wrong := _kept(each, same, seen)):
            return wrong
    return None


def names_keys_by_the_layout(given: Input, seen: Seen) -> str | None:
    """No object is outside of the layout."""
    return next((f"the key {key[:100]!r}" for key in seen.objects if not _KEY.fullmatch(key)), None)


def announces_readably(given: Delivery, seen: Seen) -> str | None:
    """Subscribers can read every announcement."""
    try:
        for each in seen.announced:
            read_announcement(each)
    except PoisonError as error:
        return str(error)
    return None


# All


def tells_nothing_private(given: Input, seen: Seen) -> str | None:
    """No number, text of the payload, signature or stack trace is in log lines, answers or reasons."""
    told = (
        re.sub(r'"timestamp":"[^"]*"|"Timestamp":\s*\d+', "", seen.lines)  # the times of log lines and metrics
        + json.dumps(seen.answers)
        + json.dumps([attributes for _, attributes in seen.dead])
    )
    if found := _TRACE.search(told):
        return f"a stack trace or path: {found[0]}; {_last_error(seen)}"
    raw = b" ".join(inputs(given))
    ids = re.findall(rf'"(?:conversation_id|type|delivery_id)"\s*:\s*"({_NAME})"', raw.decode(errors="replace"))
    for known in sorted(set(ids) | set(re.findall(r"[0-9a-f]{64}", told)), key=len, reverse=True):
        told = told.replace(known, "")
    private = [*texts(raw), SECRET, "v0="] + (list(SAMPLE_TEXTS) if isinstance(given, Message) else [])
    return next(
        (f"tells {each!r}" for each in private if each in told and each not in PUBLIC and not is_known(each, ids)), None
    )


def costs_what_it_weighs(given: Input, seen: Seen) -> str | None:
    """CPU time in our code: 50 ms a message, and 20 times what a plain JSON reader needs."""
    allowed = 0.05 * max(1, len(seen.answers)) + 20 * sum(map(_plain_seconds, inputs(given)))
    return f"{seen.seconds:.3f} s of CPU, {allowed:.3f} s allowed" if seen.seconds > allowed else None


def needs_bounded_memory(given: Delivery, seen: Seen) -> str | None:
    """Reading a large body needs no more than MOST_MEMORY times its size."""
    for body in given.bodies:
        if len(body) > 1_000_000 and (peak := _peak(body)) > MOST_MEMORY * len(body):
            return f"{peak / 1e6:.0f} MB for a body of {len(body) / 1e6:.1f} MB"
    return None


_ALL: list[Rule] = [names_keys_by_the_layout, tells_nothing_private, costs_what_it_weighs]
_MESSAGES: list[Rule] = [retries_nothing, says_why_it_is_poison]
RULES: dict[type, list[Rule]] = {
    Request: [answers_without_error, refuses_what_is_not_signed, accepts_what_is_signed, stages_byte_for_byte, *_ALL],
    Delivery: [
        *_MESSAGES, loses_nothing, judges_like_the_reference, keeps_what_was_sent, announces_readably,
        needs_bounded_memory, *_ALL,
    ],
    Message: [*_MESSAGES, *_ALL],
}  # fmt: skip


def inputs(given: Input) -> list[bytes]:
    """The input's own bytes."""
    if isinstance(given, Delivery):
        return list(given.bodies)
    return (
        [given.body, (given.header or "").encode(errors="replace")]
        if isinstance(given, Request)
        else [given.text.encode()]
    )


def is_known(text: str, ids: list[str]) -> bool:
    return any(text in each for each in ids)


def _messages(given: Delivery, seen: Seen) -> Iterator[tuple[str, bytes]]:
    """The claim checks with their bodies."""
    bodies = {hashlib.sha256(each).hexdigest(): each for each in [*given.bodies, *seen.objects.values()]}
    for message in seen.messages:
        yield message, bodies.get(json.loads(message)["delivery_id"], b"")


def _readings(given: Delivery, seen: Seen) -> Iterator[tuple[str, Reading]]:
    whole = {hashlib.sha256(each).hexdigest() for each in given.bodies}
    for message, body in _messages(given, seen):
        is_both = any(body in other and body != other for other in given.bodies)  # sent alone, and inside an array
        is_element = json.loads(message)["delivery_id"] not in whole
        yield message, Reading(None) if is_both and not is_element else read(body, is_element=is_element)


def _kept(event: Reading, same: list[Reading], seen: Seen) -> str | None:
    ending = f"/{event.conversation_id}.json" if event.type == CALL else f"/{event.conversation_id}.{event.type}.json"
    stored = {key: parse(body) for key, body in seen.objects.items() if key.endswith(ending)}
    if not stored:
        return f"there is no object {ending}"
    without = [
        {name: value for name, value in each.data.items() if name != "full_audio"} for each in same if each.audio
    ]
    if not all(value in [*without, *(each.data for each in same)] for value in stored.values()):
        return "the archived JSON is not what was sent"
    if len(same) == 1 and event.folder and not any(key == event.folder + ending for key in stored):
        return "the call is not in its caller's folder"
    sounds = [body for key, body in seen.objects.items() if key.endswith(f"/{event.conversation_id}.mp3")]
    if event.type == CALL and any("full_audio" not in value for value in stored.values()) and without and not sounds:
        return "a recording is gone"
    return None


def _plain_seconds(body: bytes) -> float:
    begun = time.process_time()
    with suppress(ValueError, RecursionError):
        json.loads(body)
    return max(time.process_time() - begun, len(body) / 1e8)


def _peak(body: bytes) -> int:
    tracemalloc.start()
    try:
        for event in read_events(body):
            conversation = read_conversation(event.data)
            list(conversation.turns())
            find_caller(event.data)
    except PoisonError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def _last_error(seen: Seen) -> str:
    """The exception that was logged last, with its last line of code."""
    for line in reversed(seen.lines.splitlines()):
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("exception"):
            places = re.findall(r'File "([^"]+)", line (\d+)', entry["exception"])
            ours = [place for place in places if str(ROOT) in place[0] and ".venv" not in place[0]]
            return f"{entry.get('exception_name')} at {ours[-1:]}"
    return ""
