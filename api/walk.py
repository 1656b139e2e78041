"""Walks through an index, newest call first, with bounded work."""

import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from api.cursor import Position
from shared.indexes import INDEXES

MOST_QUERIES = 400  # of one request: half a read unit and about 5 ms each, eight at a time
_AT_ONCE = 8
Entry = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Partitions of an index whose calls began in the same span of time: a day, a month, or always.

    `start` is the first moment of the span.
    """

    start: str
    keys: Sequence[str]


@dataclass(frozen=True)
class Span:
    """From and to, both included: ISO 8601 UTC, in seconds."""

    since: str = "0"
    until: str = "9"


class Walk:
    """The entries of an index from `after` on, ordered by time and id. It ends early after `most` entries.

    `position` is the place after the last entry; None if the index ends there. Calls that began in the same second are
    in no order in an index, so all of them in a partition are read and then sorted.
    """

    def __init__(
        self, table: Any, index: str, groups: Sequence[Group], span: Span, after: Position | None, most: int,
    ) -> None:  # fmt: skip
        self._client, self._table = table.meta.client, table.name
        self._index, self._span, self._after, self._most = index, span, after, most
        self._until = min(span.until, after.listed_at) if after else span.until
        is_empty = self._until < span.since  # a forged cursor leads to before the span
        self._groups = [group for group in groups if not is_empty and (after is None or (group.start, "") < after)]
        self._queries = self._entries = 0
        self.position = after

    def __iter__(self) -> Iterator[Entry]:
        for group in self._groups:
            if self._queries and self._queries + len(group.keys) > MOST_QUERIES:
                return
            for entry in self._merge(group.keys):
                self.position, self._entries = place(entry), self._entries + 1
                yield entry
                if self._entries >= self._most:
                    return
            self.position = Position(group.start, "")
        self.position = None

    def place_after(self, shown: Position | None) -> Position | None:
        """Where the next page begins, if `shown` is the last call that the reader saw: it names no other call.

        So it may be the end of a minute, and calls that were not shown are examined again. If a whole page was of one
        minute, it is `position`, because the next page must go on.
        """
        if self.position is None or not self.position.conversation_id:
            return self.position
        minute = Position(f"{self.position.listed_at[:17]}60Z", "")
        border = min(minute, shown) if shown else minute
        return border if self._after is None or border < self._after else self.position

    def _merge(self, keys: Sequence[str]) -> Iterator[Entry]:
        self._queries += len(keys)
        first = list(_pool().map(self._query, keys))
        partitions = [self._sorted(key, page) for key, page in zip(keys, first, strict=True)]
        for entry in heapq.merge(*partitions, key=place, reverse=True):
            if self._after is None or place(entry) < self._after:
                yield entry

    def _sorted(self, key: str, page: dict[str, Any]) -> Iterator[Entry]:
        """A partition's entries, those of one second sorted by id."""
        second: list[Entry] = []
        for entry in self._read(key, page):
            if second and entry["listed_at"] != second[0]["listed_at"]:
                yield from sorted(second, key=place, reverse=True)
                second = []
            second.append(entry)
        yield from sorted(second, key=place, reverse=True)

    def _read(self, key: str, page: dict[str, Any]) -> Iterator[Entry]:
        while True:
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            self._queries += 1
            page = self._query(key, ExclusiveStartKey=page["LastEvaluatedKey"])

    def _query(self, key: str, **options: Any) -> dict[str, Any]:
        return dict(
            self._client.query(
                TableName=self._table, IndexName=self._index, ScanIndexForward=False, Limit=self._page_size(options),
                KeyConditionExpression="#key = :key AND listed_at BETWEEN :since AND :until",
                ExpressionAttributeNames={"#key": INDEXES[self._index][0]},
                ExpressionAttributeValues={":key": key, ":since": self._span.since, ":until": self._until}, **options,
            )
        )  # fmt: skip

    def _page_size(self, options: dict[str, Any]) -> int:
        """Few entries at first, because a list often ends early; then many."""
        return min(100 if options else 20, self._most)


def place(entry: Entry) -> Position:
    return Position(entry["listed_at"], entry["conversation_id"])


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, "walk")
