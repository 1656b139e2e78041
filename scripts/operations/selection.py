"""The calls, or the payloads, that a command works on."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Annotated

import typer

from scripts.aws_session import OpsError
from scripts.operations.stack import Stack
from scripts.operations.view import TIMES, parse_time
from shared.call import Call
from shared.caller import normalise
from shared.keys import NO_PHONE, STAGING, is_id, staged_delivery_id
from shared.times import utc

Since = Annotated[str, typer.Option(metavar="TIME", help=f"Only what came since then. Examples: {TIMES}.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="Only what came before then.")]
Caller = Annotated[str, typer.Option(help="The calls of this number. no-phone: the calls without a number.")]
Agent = Annotated[str, typer.Option(help="Only calls of this agent, by its id.")]
CallId = Annotated[str, typer.Option(help="One call, by its conversation id.")]
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Chosen:
    """A choice of calls: those of a time range, those of one caller, or one call; of all agents, or of one."""

    stack: Stack
    since: str = ""
    until: str = ""
    caller: str = ""
    agent: str = ""
    conversation: str = ""

    def __post_init__(self) -> None:
        """Raises OpsError if nothing is chosen, and for a choice that nothing can match."""
        if not (self.since or self.caller or self.conversation):
            narrowing = ". --agent and --until are not enough" if self.agent or self.until else ""
            raise OpsError(f"Which calls? Select them with --since or --caller, or give one conversation{narrowing}.")
        if self.conversation and not is_id(self.conversation):
            hint = f" For a caller: --caller {self.conversation}." if normalise(self.conversation) else ""
            raise OpsError(
                f"{self.conversation!r} is not a conversation id. An id has only letters, digits, _ and -.{hint}"
            )
        if self.caller not in ("", NO_PHONE) and not self._digits:
            raise OpsError(f"{self.caller!r} is not a phone number. Write it as +12025550123, or no-phone.")
        since, until = self._range
        if since >= until:
            raise OpsError("--since must be earlier than --until.")

    def calls(self) -> Iterator[Call]:
        """The records of the calls that have one."""
        return (call for call in self._found() if self.fits(call))

    def days(self) -> dict[str, list[str]]:
        """The ids of the calls that may fit, by the day that they are listed under, the earliest first.

        Of a time range, only the index is read, so that a year of calls fits into memory.
        """
        if self.caller or self.conversation:
            listed = {
                call.conversation_id: str(call.listed_at)[:10]
                for call in self.calls()
                if call.listed_at and not call.erased_at
            }
        else:
            first, last = map(utc, self._range)
            listed = {
                each["conversation_id"]: each["listed_at"][:10]
                for page in self.stack.records.list_all()
                for each in page
                if first <= each["archived_at"] < last
                and self.agent in ("", each.get("agent_id"))
                and "erased_at" not in each
            }
        days: dict[str, list[str]] = {}
        for conversation_id, day in sorted(listed.items(), key=lambda each: each[1]):
            days.setdefault(day, []).append(conversation_id)
        return days

    def staged(self) -> Iterator[tuple[str, datetime]]:
        """The payloads with their time of receipt: those that the records name, or all of the time range."""
        if self.caller or self.conversation or self.agent:
            keys = sorted({key for call in self.calls() for key in call.staged_keys})
            return ((key, received_at(key)) for key in keys if self.stack.bucket.exists(key))  # they expire
        return self._staged_between(*self._range)

    @cached_property
    def _range(self) -> tuple[datetime, datetime]:
        return parse_time(self.since) if self.since else _FIRST, parse_time(self.until) if self.until else _LAST

    @cached_property
    def _digits(self) -> str:
        """The digits by which the caller's calls are found; empty if it is not a number."""
        return (normalise(self.caller) or "").lstrip("+")

    def _found(self) -> Iterator[Call]:
        if self.conversation:
            found = self.stack.records.get(self.conversation)
            return iter([found] if found else [])
        if self.caller == NO_PHONE:
            return self._calls_without_number()
        return self.stack.records.find_by_caller(self._digits) if self.caller else self._calls_between(*self._range)

    def fits(self, call: Call) -> bool:
        since, until = self._range
        archived_at = datetime.fromisoformat(call.archived_at) if call.archived_at else None
        in_range = since <= archived_at < until if archived_at else not (self.since or self.until)
        is_of = not self.caller or (
            call.folder == NO_PHONE if self.caller == NO_PHONE else self._digits in call.numbers
        )
        return in_range and is_of and self.agent in ("", call.agent_id)

    def _calls_without_number(self) -> Iterator[Call]:
        """The calls in the folder no-phone. Some of them may have a number by now."""
        pages = self.stack.bucket.pages(f"{NO_PHONE}/", "")
        ids = list(dict.fromkeys(item["Key"].split("/")[1].split(".")[0] for page in pages for item in page))
        for start in range(0, len(ids), 100):
            yield from self.stack.records.get_all(ids[start : start + 100]).values()

    def _calls_between(self, since: datetime, until: datetime) -> Iterator[Call]:
        first, last = utc(since), utc(until)
        return self.stack.records.find_all(lambda listed: first <= listed["archived_at"] < last)

    def _staged_between(self, since: datetime, until: datetime) -> Iterator[tuple[str, datetime]]:
        end = f"{STAGING}/{until:%Y/%m/%d/%H}/~"
        for page in self.stack.bucket.pages(f"{STAGING}/", f"{STAGING}/{since:%Y/%m/%d/%H}/"):
            for item in page:
                if item["Key"] > end:
                    return
                if since <= item["LastModified"] < until and is_staged(item["Key"]):
                    yield item["Key"], item["LastModified"]


def received_at(staged_key: str) -> datetime:
    """The hour in which the body was received; its key names it."""
    _, year, month, day, hour, *_ = staged_key.split("/")
    return datetime(int(year), int(month), int(day), tzinfo=timezone.utc) + timedelta(hours=int(hour))


def is_staged(key: str) -> bool:
    return staged_delivery_id(key) is not None
