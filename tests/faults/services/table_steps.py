"""Random steps of all the code that uses the ConversationTable, on few calls, so that their conditions often fail."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

from memory_writer.ledger import Line
from reconciler.bookmarks import Bookmarks
from scripts.operations.erasure.journal import Journal
from scripts.operations.erasure.reading import Subject
from scripts.operations.replay import mark_unknown
from shared.call import Call, Parked, Transcription
from shared.indexes import listing
from shared.record import MEMORIES, Records
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed
from tests.faults.services.comparison import Step

BEGIN = datetime(2026, 3, 3, 15, tzinfo=timezone.utc)
CALLS, ORDERS, KEYS = ("conv_1", "conv_2"), ("1", "2", "3"), ("staging/a", "staging/b", "staging/c", "staging/d")
NUMBERS = ("12025550101", "12025550102", "12025550103")
OWNERS, KINDS = ("first", "second"), ("factual", "semantic")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Side:
    """The real code on one table."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.records, self.unnamed, self.bookmarks = Records(table), Unnamed(table), Bookmarks(table)
        self.tombstones = Tombstones(table, lambda: "invented-key-of-tombstones")
        self.journal = Journal(SimpleNamespace(table=table, tombstones=self.tombstones))  # type: ignore[arg-type]
        self.lines = {
            (owner, call, kind): Line(table.meta.client, table.name, (call, kind), owner, timedelta(seconds=180))
            for owner in OWNERS for call in CALLS for kind in KINDS
        }  # fmt: skip


class Steps:
    """Chooses steps by a seed. Time passes from step to step."""

    def __init__(self, seed: int) -> None:
        self._random, self._at = Random(seed), BEGIN

    def make(self, count: int) -> list[tuple[str, Step]]:
        return [self._step() for _ in range(count)]

    def _step(self) -> tuple[str, Step]:
        self._at += timedelta(seconds=self._random.choice((0, 1, 100, 4000)))
        choose = self._random.choices((self._record, self._line, self._other), (6, 2, 2))[0]
        return choose()

    def _record(self) -> tuple[str, Step]:
        name = self._random.choices(list(RECORD_STEPS), [WEIGHTS.get(each, 2) for each in RECORD_STEPS])[0]
        arguments, options = RECORD_STEPS[name](self)
        return f"{name}{arguments}{options}", lambda side: getattr(side.records, name)(*arguments, **options)

    def _line(self) -> tuple[str, Step]:
        key = self._one(OWNERS), self._one(CALLS), self._one(KINDS)
        name = self._one(("read", "read", "acquire", "acquire", "note", "release"))
        values: dict[str, Any] = {}
        if name in ("note", "release"):
            values = self._one((
                {"state": "sent", "event_id": "event_1"}, {"state": "sending"}, {"state": "done"},
                {"state": "idle", "failures": self._random.randint(1, 3)}, {} if name == "release" else {"failures": 0},
            ))  # fmt: skip
        arguments = (self._at,) if name == "acquire" else ()
        return f"{name}{key}{values}", lambda side: _on_line(side.lines[key], name, arguments, values)

    def _other(self) -> tuple[str, Step]:
        at, key, digits, call = self._at, self._one(KEYS), self._one(NUMBERS), self._one(CALLS)
        subject = Subject(caller=digits, at=at) if self._chance() else Subject(conversation=call, at=at)
        choices: list[tuple[str, Step]] = [
            (f"note {key}", lambda side: side.unnamed.note(key, at)),
            (f"note {key} for ever", lambda side: side.unnamed.note(key)),
            (f"note unless dropped {key}", lambda side: side.unnamed.note_unless_dropped(key)),
            (f"note unless dropped {key}", lambda side: side.unnamed.note_unless_dropped(key)),
            (f"note dropped {key}", lambda side: side.unnamed.note_dropped(key, at)),
            ("dropped", lambda side: side.unnamed.dropped()),
            ("keys", lambda side: side.unnamed.keys()),
            (f"remove {key}", lambda side: side.unnamed.remove(key)),
            (f"record erasure {digits}", lambda side: side.tombstones.record_erasure(digits, at)),
            (f"erased at {digits}", lambda side: side.tombstones.erased_at(digits)),
            (f"write bookmark {key}", lambda side: side.bookmarks.write("calls", key)),
            ("read bookmark", lambda side: side.bookmarks.read("calls")),
            ("remove bookmark", lambda side: side.bookmarks.remove("calls")),
            (f"begin {subject}", lambda side: side.journal.begin(subject)),
            (f"end {subject}", lambda side: side.journal.end(subject)),
            ("unfinished", lambda side: side.journal.unfinished()),
            (f"mark unknown {call}", lambda side: mark_unknown(side.table, call)),
        ]
        forget = [(f"forget {call}'s {item}", partial(_delete, call, item)) for item in ("call", "call", *MEMORIES)]
        return self._random.choice(choices + 2 * forget)

    # What RECORD_STEPS chooses from

    def now(self) -> str:
        return self._at.isoformat()

    def _one(self, choices: tuple[Any, ...]) -> Any:
        return self._random.choice(choices)

    def _chance(self) -> bool:
        return self._random.random() < 0.5

    def _some(self, choices: tuple[Any, ...]) -> list[Any]:
        return [each for each in choices if self._chance()]

    def _parked(self) -> Parked:
        return Parked(self._one(KEYS), self._one(ORDERS))

    def _id(self) -> str:
        return self._one(CALLS)

    def _transcript(self) -> Arguments:
        fields = {
            "started_at": self._one((None, "2026-03-03T14:58:00Z")), "duration_secs": self._one((None, 0, 42)),
            "agent_id": "agent_1", "left_out": None, "missing_since": None, "missing_reason": None, "given_up_at": None,
        }  # fmt: skip
        if self._chance():
            fields |= {"external_number": "+12025550101", "caller": self._one(NUMBERS)}
        folder = self._one(NUMBERS)
        defaults = (
            {
                "folder": folder,
                "json_key": f"{folder}/conv.json",
                "audio": self._one(("none", "pending", "unavailable")),
                "archived_at": self.now(),
            }
            | self._one(({}, {"open_audio": "pending"}))
            | listing("conv", "agent_1", f"{self._one(DAYS)}T10:00:00Z")
        )
        order, key = self._one(ORDERS), self._one(KEYS)
        return (self._id(), fields, defaults, order, key, self._some(NUMBERS), self.now()), {}

    def _tombstone(self) -> Arguments:
        numbers = frozenset(self._some(NUMBERS))
        call = Call(self._id(), erased_at=self.now(), numbers=numbers)
        return (call, self._one((None, self._at + timedelta(days=1)))), {}

    def _keys_of_table(self) -> list[dict[str, str]]:
        items = ("call", "memory#factual", "number#12025550102")
        pairs = [(call, item) for call in CALLS for item in items]
        return [{"conversation_id": call, "item": item} for call, item in self._some(tuple(pairs))]


def _on_line(line: Line, name: str, arguments: tuple[Any, ...], values: dict[str, Any]) -> Any:
    getattr(line, name)(*arguments, **values)
    return line.entry


def _delete(call: str, item: str, side: Side) -> None:
    side.table.delete_item(Key={"conversation_id": call, "item": item})


DAYS = ("2026-03-03", "2026-03-04")
TRANSCRIPTIONS = (
    Transcription("started", "job_1", "1-1", 1, "2026-03-03T15:00:00Z"),
    Transcription("failed", "job_1", "1-1", 1, "2026-03-03T15:01:00Z", "Too short."),
)
# How often a step is chosen; those that are not named here: 2.
WEIGHTS = {
    "save_transcript": 8, "park_audio": 5, "save_audio": 1, "finish_audio": 1, "leave_out": 1,
    "erase": 0.5, "write_tombstone": 0.3,
}  # fmt: skip

OPEN_WORK = (("by-audio", "pending"), ("by-state", "parked"), ("by-state", "sending"))
# How each public method of Records is called.
RECORD_STEPS: dict[str, Callable[[Steps], Arguments]] = {
    "get": lambda s: ((s._id(),), {}),
    "get_all": lambda s: ((s._some((*CALLS, "conv_3")),), {}),
    "read_items": lambda s: ((s._keys_of_table(),), {}),
    "ledger": lambda s: ((s._id(),), {}),
    "find_missing_audio": lambda s: ((), {}),
    "find_all": lambda s: ((lambda listed: listed.get("audio") == "unavailable",), {}),
    "list_all": lambda s: ((s._one(("0", *DAYS)),), {}),
    "days": lambda s: ((s._one(("0", *DAYS)),), {}),
    "note_day": lambda s: ((f"{s._one(DAYS)}T10:00:00Z",), {}),
    "count": lambda s: ((*s._one(OPEN_WORK), s._one((s.now(), "9"))), {}),
    "find_by_caller": lambda s: ((s._one(NUMBERS),), {}),
    "save_transcript": lambda s: s._transcript(),
    "add_staged": lambda s: (
        (s._id(), s._one(KEYS), s.now(), s._some(NUMBERS), s._one((None, "events/e1", "events/e2"))), {},
    ),
    "leave_out": lambda s: ((s._id(), "short_call"), {}),
    "park_audio": lambda s: ((s._id(), s._parked(), s.now()), {"force": s._chance()}),
    "finish_audio": lambda s: (
        (s._id(), "folder/conv.mp3", s._parked(), frozenset(s._parked() for _ in range(s._one((0, 1, 2))))), {},
    ),
    "save_audio": lambda s: ((s._id(), f"{s._one(NUMBERS)}/conv.mp3", s._one(ORDERS)), {}),
    "unpark": lambda s: ((s._id(), s._one(KEYS), frozenset(s._parked() for _ in range(s._one((0, 1, 3))))), {}),
    "expect_audio": lambda s: ((s._id(),), {}),
    "note_asked": lambda s: ((s._id(), s.now()), {}),
    "note_asked_again": lambda s: ((s._id(), s.now()), {}),
    "note_no_audio": lambda s: ((s._id(), s.now(), "HTTP 404"), {}),
    "mark_audio_unavailable": lambda s: ((s._id(), s._one((None, BEGIN.isoformat(), s.now()))), {}),
    "note_fetch": lambda s: ((Call(s._id(), fetches=s._one((0, 1, 2))), s.now()), {}),
    "note_missing": lambda s: ((s._id(), s.now(), "HTTP 404"), {"is_last_try": s._chance()}),
    "erase": lambda s: ((s._id(), s.now(), s._some(("user_1", "user_2"))), {}),
    "write_tombstone": lambda s: s._tombstone(),
    "leave_out_number": lambda s: (
        (s._id(), s._one(NUMBERS), s._some(KEYS), s._some(("events/e1", "events/e2"))), {},
    ),
    "remove_number": lambda s: ((s._id(), s._one(NUMBERS)), {}),
    "note_text": lambda s: ((s._id(), s._one(DAYS), s._one(ORDERS)), {}),
    "note_text_day": lambda s: ((s._id(), s._one(DAYS)), {}),
    "note_transcription": lambda s: (
        (s._id(), s._one(TRANSCRIPTIONS), s._one((None, *TRANSCRIPTIONS)), s._some(("events/e1", "events/e2"))), {},
    ),
    "note_discarded": lambda s: ((s._one(("d1", "d2")), s._at), {}),
    "is_discarded": lambda s: ((s._one(("d1", "d2")),), {}),
    "note_numbers": lambda s: (
        (s._one((None, Call(s._id(), caller=s._one(NUMBERS), numbers=frozenset(s._some(NUMBERS))))), s.now()), {},
    ),
}  # fmt: skip
