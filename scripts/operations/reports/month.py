"""A month in a time zone, and what a report needs to know of each of its calls."""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from api.access import CALLS, Reader
from scripts.aws_session import OpsError
from scripts.operations.tables.archive import Read
from shared.caller import found_by

_hide = Reader("ops report", frozenset({CALLS})).hide  # masks what looks like a phone number


@dataclass(frozen=True)
class Month:
    first: date
    zone: ZoneInfo

    @property
    def start(self) -> datetime:
        return datetime(self.first.year, self.first.month, 1, tzinfo=self.zone)

    @property
    def end(self) -> datetime:
        return self._next().start

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=day) for day in range((self._next().first - self.first).days)]

    @property
    def name(self) -> str:
        return f"{calendar.month_name[self.first.month]} {self.first.year}"

    def before(self) -> Self:
        return type(self)((self.first - timedelta(days=1)).replace(day=1), self.zone)

    def _next(self) -> Self:
        return type(self)((self.first + timedelta(days=31)).replace(day=1), self.zone)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def read_month(text: str, zone: str, now: datetime) -> Month:
    """The month such as 2026-10; the last one that is over if the text is empty. Raises OpsError."""
    try:
        in_zone = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise OpsError(f"{zone!r} is not a time zone. Write it as Europe/Berlin, or leave --timezone out.") from None
    this = Month(now.astimezone(in_zone).date().replace(day=1), in_zone)
    if not text:
        return this.before()
    try:
        found = Month(datetime.strptime(text, "%Y-%m").replace(tzinfo=timezone.utc).date(), in_zone)
        if f"{found}" != text or not 1970 < found.first.year < 9000:
            raise ValueError
    except ValueError:
        raise OpsError(f"{text!r} is not a month. Write it as 2026-10.") from None
    if found.first > this.first:
        raise OpsError(f"{found.name} has not begun. The latest month with calls can be {this}.")
    return found


@dataclass(frozen=True, slots=True)
class Facts:
    """What counts of a call. `at` is its start in the report's time zone, or its archival if the start is unknown.

    `criteria` are names and results. `tools` are names, whether they failed (None: no answer), and seconds.
    """

    at: datetime
    agent_id: str | None = None
    agent_name: str | None = None
    caller: str | None = None
    seconds: int | None = None
    outcome: str = "unknown"
    cost: int | None = None
    language: str | None = None
    reason: str | None = None
    origin: str | None = None
    audio: str | None = None
    memories: tuple[str | None, str | None] = (None, None)
    has_json: bool = True
    bytes: int = 0
    criteria: tuple[tuple[str, str | None], ...] = ()
    tools: tuple[tuple[str, bool | None, float | None], ...] = ()


def facts_of_entry(entry: dict[str, Any], zone: ZoneInfo) -> Facts:
    """What the index says."""
    seconds, cost = (None if entry.get(name) is None else int(entry[name]) for name in ("duration_secs", "cost"))
    return Facts(
        _local(entry["listed_at"], zone), entry.get("agent_id"), None, digits(entry.get("external_number")), seconds,
        outcome(entry.get("call_successful")), cost,
    )  # fmt: skip


def facts_of_rows(read: Read, zone: ZoneInfo) -> Iterator[Facts]:
    """What the call's rows say; nothing if the call is erased."""
    if read.rows is None:
        return
    call, rows = read.known.call, read.rows.call
    yield Facts(
        _local(str(call.listed_at or call.archived_at), zone), call.agent_id, _hide(rows.agent_name),
        digits(rows.caller), rows.seconds, outcome(rows.outcome), rows.cost, _hide(rows.language),
        _hide(rows.termination_reason), rows.origin, rows.audio, (rows.memory_factual, rows.memory_semantic),
        rows.has_json, rows.bytes or 0,
        tuple((str(_hide(each.criterion)), each.result) for each in read.rows.evaluation),
        tuple((_hide(each.tool) or "", each.is_error, each.latency_secs) for each in read.rows.tools),
    )  # fmt: skip


def digits(number: str | None) -> str | None:
    """The digits by which the caller's calls are found."""
    return found_by(number) if number else None


def outcome(told: str | None) -> str:
    return told if told in ("success", "failure") else "unknown"


def _local(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).astimezone(zone)
