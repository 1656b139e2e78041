"""Lists of calls: an index finds them, and their records decide what is shown."""

import unicodedata
from itertools import islice
from typing import Any

from api.access import Reader
from api.cursor import Position, read_cursor, write_cursor
from api.parameters import CallsQuery, SpanQuery
from api.rows import row
from api.walk import Entry, Group, Span, Walk, place
from shared.call import Call
from shared.indexes import agent_partitions, day_partitions
from shared.record import ITEM, Records

MOST_ENTRIES = 1000  # of an index in one request; about 100 read units
_FEW_AGENTS = 5  # so many partitions are read for each month; for more agents, all calls of a day are
_CHUNK = 100  # records that are read at once


class Calls:
    """The calls in the table, as one reader may see them. A page examines at most `most` entries of an index."""

    def __init__(self, table: Any, records: Records, reader: Reader, most: int = MOST_ENTRIES) -> None:
        self._table, self._records, self._reader, self._most = table, records, reader, most

    def page(self, query: CallsQuery) -> dict[str, Any]:
        """A page of calls, newest first. It may be short although there is a next one."""
        after = read_cursor(query.cursor, query.filters())
        walk = self.walk(query, after, self._most, query.caller)
        calls, position = self._take(walk, query)
        return {"calls": [row(call, self._reader) for call in calls], "next": write_cursor(position, query.filters())}

    def walk(self, query: SpanQuery, after: Position | None, most: int, caller: str | None = None) -> Walk:
        """The shortest way through an index to the calls that a query may find."""
        span = Span(query.since or "0", query.until or "9")
        agents = self._reader.among(query.agent)
        if caller:
            return Walk(self._table, "by-caller", [Group("", [caller])], span, after, most)
        days = sorted((day for day in self._records.days(span.since[:10]) if day <= span.until), reverse=True)
        if agents is None or len(agents) > _FEW_AGENTS:
            groups = [Group(f"{day}T00:00:00Z", day_partitions(day)) for day in days]
            return Walk(self._table, "by-day", groups, span, after, most)
        months = sorted({day[:7] for day in days}, reverse=True) if agents else []
        groups = [
            Group(f"{month}-01T00:00:00Z", [key for agent in sorted(agents) for key in agent_partitions(agent, month)])
            for month in months
        ]
        return Walk(self._table, "by-agent", groups, span, after, most)

    def _take(self, walk: Walk, query: CallsQuery) -> tuple[list[Call], Position | None]:
        """The calls of one page, and where the next one begins."""
        taken: list[tuple[Entry, Call]] = []
        entries = iter(walk)
        # A full page ends only where another call follows that the reader may see.
        while chunk := list(islice(entries, _CHUNK if query.text else min(_CHUNK, query.limit + 10 - len(taken)))):
            taken += self._read(chunk, query)
            if len(taken) > query.limit:
                del taken[query.limit :]
                return [call for _, call in taken], place(taken[-1][0])
        return [call for _, call in taken], walk.place_after(place(taken[-1][0]) if taken else None)

    def _read(self, entries: list[Entry], query: CallsQuery) -> list[tuple[Entry, Call]]:
        """The calls of these entries that the query finds, each as its record has it now."""
        likely = [each for each in entries if each["item"] != ITEM or self._is_found(listed_call(each), query)]
        records = self._records.get_all(each["conversation_id"] for each in likely)
        read = ((each, records.get(each["conversation_id"])) for each in likely)
        return [
            (entry, call)
            for entry, call in read
            if call
            and call.t_order
            and self._is_found(call, query)
            and has_words(call, query.text, self._reader)
            # A call has an entry for each of its numbers; the one of its main number is its own.
            and (entry["item"] == ITEM or call.caller != query.caller)
        ]

    def is_visible(self, call: Call, query: SpanQuery) -> bool:
        agents = self._reader.among(query.agent)
        return (
            not call.erased_at
            and (agents is None or call.agent_id in agents)
            and (query.since or "0") <= (call.listed_at or "") <= (query.until or "9")
        )

    def _is_found(self, call: Call, query: CallsQuery) -> bool:
        return self.is_visible(call, query) and (
            (query.outcome is None or call.call_successful == query.outcome)
            and (query.audio is None or call.audio == query.audio)
            and _is_between(call.duration_secs, query.min_seconds, query.max_seconds)
        )


def _is_between(seconds: int | None, least: int | None, most: int | None) -> bool:
    if seconds is None:
        return least is None and most is None
    return (least is None or seconds >= least) and (most is None or seconds <= most)


def has_words(call: Call, text: str | None, reader: Reader) -> bool:
    """Whether title and summary, as the reader sees them, have all words of the text. Case and accents are ignored."""
    if text is None:
        return True
    read = _fold(f"{reader.hide(call.title) or ''} {reader.hide(call.summary) or ''}")
    return all(word in read for word in _fold(text).split())


def _fold(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in parts if not unicodedata.combining(each))


def listed_call(entry: Entry) -> Call:
    """What an index says of a call."""
    names = ("agent_id", "duration_secs", "call_successful", "audio", "erased_at", "listed_at")
    return Call(entry["conversation_id"], **{name: entry[name] for name in names if name in entry})
