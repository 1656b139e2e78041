"""What was said: Athena finds turns, records decide what is shown, and the words come from the calls' JSON."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import cache
from itertools import groupby
from typing import Any

from api.access import NUMBERS, Reader
from api.athena import Athena, Row, RunningError
from api.cursor import TurnsCursor, read, write
from api.parameters import SearchQuery
from api.recorded import Recorded
from api.replies import ColdError
from api.sql import MOST_TURNS, Place, search_turns
from shared.call import Call
from shared.errors import ProblemError
from shared.record import Records
from shared.texts import fold, needles
from shared.times import LAST_SECOND, unix_seconds, utc

WIDTHS = (7, 23, 60, 275)  # days: the last 7, 30, 90 and 365; then all the rest
COLD = "The transcript is in cold storage: restore its JSON in S3 first."
_AT_ONCE = 8  # JSONs that are read at once
Read = Callable[[Call], Recorded | None]  # may raise ColdError


@dataclass
class Page:
    """The hits so far, and the place up to which everything was searched. `query` is one that still runs.

    `is_last`: there is nothing more to search. `is_cut`: the page ends here, although it is not full.
    """

    place: Place
    step: int = 0
    query: str | None = None
    hits: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    is_last: bool = False
    is_cut: bool = False


class Search:
    """One reader's search. `read` is what a call's JSON says, as the reader may see it."""

    def __init__(
        self, athena: Athena, table: str, records: Records, read: Read, reader: Reader, query: SearchQuery
    ) -> None:
        self._athena, self._table, self._records, self._read = athena, table, records, read
        self._reader, self._query, self._agents = reader, query, reader.among(query.agent)
        self._needles = needles(query.q)

    def page(self, deadline: float, now: datetime) -> tuple[dict[str, Any], bool]:
        """A page of hits, and whether it is to be asked for again, because nothing was found before the deadline."""
        query = self._query
        cursor = read(TurnsCursor, query.cursor, query.filters())
        place = Place(cursor.at, cursor.id, cursor.turn) if cursor else Place(unix_seconds(query.until, LAST_SECOND))
        page = Page(place, cursor.step, cursor.query) if cursor else Page(place)
        newest, first = min(place.started, int(now.timestamp())), self._first_day()
        while not (page.is_last or page.is_cut or len(page.hits) == query.limit):
            self._widen(page, first, deadline, now)
        return self._answer(page, newest, first), page.is_cut and not page.hits

    def _first_day(self) -> str | None:
        """The first day to be searched; None if there is none."""
        first = self._athena.first_day() if self._agents is None or self._agents else None
        return max(first, (self._query.since or first)[:10]) if first else None

    def _widen(self, page: Page, first: str | None, deadline: float, now: datetime) -> None:
        """Search the next days, and add what is found."""
        after = page.place
        last = min(_day(page.place.started), _day(int(now.timestamp()) + 86400))
        if first is None or last < first:
            page.is_last = True
            return
        begin = max(first, _before(last, WIDTHS[page.step] - 1)) if page.step < len(WIDTHS) else first
        sql = search_turns(
            self._table, self._needles, (begin, last), unix_seconds(self._query.since), after,
            role=self._query.role, agents=self._agents,
        )  # fmt: skip
        try:
            found = self._athena.run(sql, deadline, page.query)
        except RunningError as running:
            page.query, page.is_cut = running.id, True
            return
        except ProblemError:  # what was found is shown first; the next page tells what is wrong
            if not page.hits:
                raise
            page.query, page.is_cut = None, True
            return
        page.query, page.bytes = None, page.bytes + found.bytes
        seen = self._take(page, found.rows, deadline)
        if len(page.hits) == self._query.limit:
            return
        if seen < len(found.rows) or seen == MOST_TURNS:
            page.is_cut = seen < len(found.rows)
            page.place = _hidden(_place(found.rows[seen - 1]), page.place, after)
        else:
            page.place, page.step = Place(unix_seconds(f"{begin}T00:00:00Z") - 1), min(page.step + 1, len(WIDTHS))
            page.is_last = begin == first

    def _take(self, page: Page, rows: Sequence[Row], deadline: float) -> int:
        """Add the hits among these rows until the page is full, or it is late. The number of rows that were read."""
        size = self._query.limit
        for start in range(0, len(rows), size):
            if start and time.monotonic() > deadline:
                return start
            some = rows[start : start + size]
            calls = self._records.get_all(str(row[0]) for row in some)
            shown = self._hits([row for row in some if self._is_current(row, calls.get(str(row[0])))], calls)
            for row in some:
                if hit := shown.get((row[0], row[1], row[3])):
                    page.place, page.hits = _place(row), [*page.hits, hit]
                if len(page.hits) == size:
                    return len(rows)
        return len(rows)

    def _is_current(self, row: Row, call: Call | None) -> bool:
        """Whether the call may be shown, and the row is of its newest version."""
        return (
            call is not None
            and not (call.erased_at or call.left_out)
            and call.text_order == row[3]
            and self._reader.may_see(call)
            and (self._agents is None or call.agent_id in self._agents)
        )

    def _hits(self, rows: list[Row], calls: dict[str, Call]) -> dict[tuple[str | None, ...], dict[str, Any]]:
        """The hits of these rows, by id, turn and version; a turn that the reader may not see so is none."""
        by_call = [(calls[str(id)], list(group)) for id, group in groupby(rows, key=lambda row: row[0])]
        found = _pool().map(lambda each: list(self._turns(*each)), by_call)
        return {(row[0], row[1], row[3]): hit for hits in found for row, hit in hits}

    def _turns(self, call: Call, rows: list[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
        try:
            recorded = self._read(call)
        except ColdError:
            yield from ((row, self._hit(call, row, None)) for row in rows if self._may_guess())
            return
        said = recorded.said({_turn(row) for row in rows}) if recorded else {}
        yield from ((row, self._hit(call, row, turn)) for row in rows if self._fits(turn := said.get(_turn(row))))

    def _fits(self, turn: dict[str, Any] | None) -> bool:
        """Whether the turn, as the reader sees it, has what is searched: nobody can confirm a number that is masked."""
        if turn is None or self._query.role not in (None, turn["role"]):
            return False
        words = fold(turn["message"] or "")
        return all(needle in words for needle in self._needles)

    def _may_guess(self) -> bool:
        """Whether it may be told that a text which nobody reads now has these words: they could be of a number."""
        return self._reader.has(NUMBERS) or not any(each.isdigit() for needle in self._needles for each in needle)

    def _hit(self, call: Call, row: Row, turn: dict[str, Any] | None) -> dict[str, Any]:
        unread = {"role": self._query.role, "message": None, "at_secs": None}
        return {
            "conversation_id": call.conversation_id, "caller": self._reader.number(call), "agent_id": call.agent_id,
            "started_at": call.started_at, "title": self._reader.hide(call.title), "index": _turn(row),
            **(turn or unread), "reason": None if turn else COLD,
        }  # fmt: skip

    def _answer(self, page: Page, newest: int, first: str | None) -> dict[str, Any]:
        """`searched` is the time of which all hits are in this answer."""
        at, id, turn = page.place
        if page.is_last:
            oldest, following = unix_seconds(self._query.since or (f"{first}T00:00:00Z" if first else None)), None
        else:
            cursor = TurnsCursor(at=at, id=id, turn=turn, step=page.step, query=page.query)
            oldest, following = at if id else at + 1, write(cursor, self._query.filters())
        searched = {"from": _moment(min(oldest, newest)), "to": _moment(newest), "bytes": page.bytes}
        return {"hits": page.hits, "next": following, "searched": searched}


def _turn(row: Row) -> int:
    return int(row[1] or 0)


def _place(row: Row) -> Place:
    return Place(int(row[2] or 0), str(row[0]), _turn(row))


def _hidden(last: Place, shown: Place, before: Place) -> Place:
    """A place near the last turn that was looked at, which tells neither its call nor its second: it may be erased.

    It is not before the last turn that was `shown`. If more turns than a query has are of one minute, it is exact.
    """
    minute = Place(-(-last.started // 60) * 60)
    near = min(shown, minute, key=lambda place: place.started)
    return near if near != before else last


def _moment(seconds: int) -> str:
    return utc(datetime.fromtimestamp(seconds, timezone.utc))


def _day(seconds: int) -> str:
    return _moment(seconds)[:10]


def _before(day: str, days: int) -> str:
    return (date.fromisoformat(day) - timedelta(days)).isoformat()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, "search")
