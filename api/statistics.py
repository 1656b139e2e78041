"""Sums for each day and agent, counted by Athena from the rows that stand for whole calls."""

from collections.abc import Collection
from typing import Any

from api.athena import Athena, Row, RunningError
from api.cursor import SumsCursor, read, write
from api.parameters import SpanQuery
from api.sql import MOST_SUMS, sum_calls
from shared.errors import ProblemError
from shared.times import LAST_SECOND, unix_seconds


def read_statistics(
    athena: Athena, table: str, agents: Collection[str] | None, query: SpanQuery, deadline: float
) -> dict[str, Any]:
    """Rows, newest day first. `next` is null, or asks again for what was not counted before the deadline."""
    cursor = read(SumsCursor, query.cursor, query.filters())
    first = athena.first_day() if agents is None or agents else None
    if first is None:
        return {"rows": [], "next": None, "bytes": 0}
    since, until = unix_seconds(query.since), unix_seconds(query.until, LAST_SECOND)
    days = (max(first, (query.since or first)[:10]), (query.until or "9999-12-31")[:10])
    try:
        found = athena.run(sum_calls(table, days, since, until, agents), deadline, cursor.query if cursor else None)
    except RunningError as running:
        return {"rows": [], "next": write(SumsCursor(query=running.id), query.filters()), "bytes": 0}
    if len(found.rows) > MOST_SUMS:
        raise ProblemError(400, f"These are more than {MOST_SUMS:,} days and agents. Ask for fewer days.", "from")
    return {"rows": [_sums(row) for row in found.rows], "next": None, "bytes": found.bytes}


def _sums(row: Row) -> dict[str, Any]:
    """A call without an outcome counts as unknown."""
    day, agent_id, *numbers = row
    calls, seconds, timed, success, failure, with_audio, cost = (int(float(each or 0)) for each in numbers)
    return {
        "day": day, "agent_id": agent_id, "calls": calls, "minutes": round(seconds / 60, 2), "success": success,
        "failure": failure, "unknown": calls - success - failure, "timed": timed,
        "average_secs": round(seconds / timed, 1) if timed else None, "with_audio": with_audio, "cost": cost,
    }  # fmt: skip
