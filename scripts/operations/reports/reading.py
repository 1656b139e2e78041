"""Reads a month from the archive, and of the month before what the index says."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import chain
from multiprocessing.pool import ThreadPool
from typing import Any

from reconciler.elevenlabs import ElevenLabs
from scripts.operations.reconcile import NO_KEY, Gap
from scripts.operations.reports.month import Facts, Month, facts_of_entry, facts_of_rows
from scripts.operations.stack import AT_ONCE, Stack
from scripts.operations.tables.archive import Archive
from scripts.operations.view import View
from shared.indexes import INDEXES
from shared.record import query_pages
from shared.times import utc

SETTLE = timedelta(hours=1)  # what ended in the last hour may still be on its way
PER_SECOND = 5  # requests to ElevenLabs


@dataclass
class Calls:
    """`before` are the calls of the month before, up to the same time if the month is in progress.

    `known_callers` called before the month. `missing` calls are known, but not archived.
    """

    month: list[Facts] = field(default_factory=list)
    before: list[Facts] = field(default_factory=list)
    known_callers: set[str] = field(default_factory=set)
    missing: int = 0
    is_compared: bool = False


@dataclass(frozen=True)
class Reading:
    """`agents` are those that the report is about; all if empty."""

    view: View
    month: Month
    agents: frozenset[str]
    now: datetime

    def read(self, *, elevenlabs: bool) -> Calls:
        """Raises OpsError if ElevenLabs is to be asked, and the stack has no key."""
        with self.view.progress.status("Looking for the calls ..."):
            before, ids = self._listed()
        calls = Calls(before=before)
        archive = Archive(self.view.stack)
        with self.view.bar() as bar, closing(archive.read(archive.known(ids))) as reading:
            tracked = bar.track(reading, total=len(ids), description="Reading")
            calls.month = list(chain.from_iterable(facts_of_rows(each, self.month.zone) for each in tracked))
        with self.view.progress.status("Looking up the callers ..."):
            callers = {each.caller for each in calls.month if each.caller}
            with ThreadPool(AT_ONCE) as pool:
                called = pool.map(self._called_before, callers)
            calls.known_callers = {caller for caller, has_called in zip(callers, called, strict=True) if has_called}
        calls.missing, calls.is_compared = self._missing(), elevenlabs
        if elevenlabs:
            with self.view.progress.status("Comparing with ElevenLabs ..."):
                calls.missing = self._missing_at_elevenlabs()
        return calls

    def _listed(self) -> tuple[list[Facts], list[str]]:
        """The calls of the month before, and the ids of this month's."""
        before, ids = [], []
        elapsed = min(self.now, self.month.end) - self.month.start
        first = self.month.before()
        last = first.end if self.now >= self.month.end else min(first.end, first.start + elapsed)
        for entry in self._entries(first.start, self.month.end):
            facts = facts_of_entry(entry, self.month.zone)
            if facts.at >= self.month.start:
                ids.append(entry["conversation_id"])
            elif facts.at < last:
                before.append(facts)
        return before, list(dict.fromkeys(ids))

    def _entries(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        """What the index has of the chosen agents' calls, by day."""
        first, last = utc(since), utc(until)
        for page in self.view.stack.records.list_all(first[:10]):
            if page and page[0]["listed_at"][:10] > last[:10]:
                return
            for entry in page:
                is_chosen = not self.agents or entry.get("agent_id") in self.agents
                if first <= entry["listed_at"] < last and is_chosen and "erased_at" not in entry:
                    yield entry

    def _called_before(self, caller: str) -> bool:
        return bool(self._keys("by-caller", caller, "0", utc(self.month.start - timedelta(seconds=1)), limit=1))

    def _missing(self) -> int:
        """Recordings of the month whose transcript has not arrived. They name no agent."""
        return 0 if self.agents else len(self._keys("by-state", "parked", utc(self.month.start), utc(self.month.end)))

    def _keys(self, index: str, value: str, since: str, until: str, limit: int = 100) -> list[dict[str, Any]]:
        """What an index has of a value in a time; with a limit of 1, only the first."""
        hash_key, range_key = INDEXES[index]
        query = {
            "IndexName": index, "Limit": limit,
            "KeyConditionExpression": "#hash = :value AND #range BETWEEN :since AND :until",
            "ExpressionAttributeNames": {"#hash": hash_key, "#range": range_key},
            "ExpressionAttributeValues": {":value": value, ":since": since, ":until": until},
        }  # fmt: skip
        pages = query_pages(self.view.stack.table, query)
        return next(pages) if limit == 1 else [item for page in pages for item in page]

    def _missing_at_elevenlabs(self) -> int:
        """The calls of the month that ElevenLabs has and the archive lacks."""
        host, key = elevenlabs_of(self.view.stack)
        api = ElevenLabs(host, key, PER_SECOND)
        try:
            until = min(self.month.end, self.now).astimezone(timezone.utc)
            since = self.month.start.astimezone(timezone.utc)
            agents: list[str | None] = [*sorted(self.agents)] or [None]
            gaps = [Gap(self.view, api, since, until, agent, SETTLE) for agent in agents]
            return sum(gap.compare(lambda _: None, preview=True).missing_calls for gap in gaps)
        finally:
            api.close()


def elevenlabs_of(stack: Stack) -> tuple[str, str]:
    """Where ElevenLabs' API is, and the key. Raises OpsError."""
    return stack.output("ElevenLabsApiHost", NO_KEY), stack.secret("ElevenLabsSecretArn", NO_KEY)
