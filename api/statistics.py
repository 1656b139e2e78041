"""Sums for each day and agent, from the index alone."""

from dataclasses import dataclass
from typing import Any

from api.calls import Calls, listed_call
from api.cursor import read_cursor, write_cursor
from api.parameters import SpanQuery
from api.walk import Entry, place

MOST_ENTRIES = 5000  # of an index in one request; about 300 read units


@dataclass
class Sums:
    calls: int = 0
    seconds: int = 0
    timed: int = 0
    success: int = 0
    failure: int = 0
    unknown: int = 0
    with_audio: int = 0
    cost: int = 0

    def add(self, entry: Entry) -> None:
        """Add a call. One without an outcome counts as unknown."""
        outcome = entry.get("call_successful")
        self.calls += 1
        self.seconds += int(entry.get("duration_secs", 0))
        self.timed += "duration_secs" in entry
        self.success += outcome == "success"
        self.failure += outcome == "failure"
        self.unknown += outcome not in ("success", "failure")
        self.with_audio += entry.get("audio") == "archived"
        self.cost += int(entry.get("cost", 0))

    def row(self, day: str, agent_id: str | None) -> dict[str, Any]:
        return {
            "day": day, "agent_id": agent_id, "calls": self.calls, "minutes": round(self.seconds / 60, 2),
            "success": self.success, "failure": self.failure, "unknown": self.unknown,
            "timed": self.timed, "average_secs": round(self.seconds / self.timed, 1) if self.timed else None,
            "with_audio": self.with_audio, "cost": self.cost,
        }  # fmt: skip


def read_statistics(calls: Calls, query: SpanQuery, most: int = MOST_ENTRIES) -> dict[str, Any]:
    """Rows, newest day first. The last day of an answer may go on in the next: rows of a day and agent are added."""
    walk = calls.walk(query, read_cursor(query.cursor, query.filters()), most)
    sums: dict[tuple[str, str | None], Sums] = {}
    shown = None
    for entry in walk:
        if calls.is_visible(listed_call(entry), query):
            sums.setdefault((entry["listed_at"][:10], entry.get("agent_id")), Sums()).add(entry)
            shown = place(entry)
    rows = [each.row(day, agent_id) for (day, agent_id), each in sums.items()]
    return {"rows": rows, "next": write_cursor(walk.place_after(shown), query.filters())}
