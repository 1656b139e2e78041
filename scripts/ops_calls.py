"""The calls, or the staged bodies, that a command is about."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, get_args

import typer

from scripts.ops_stack import OpsError, Stack
from scripts.ops_view import moment
from shared.keys import STAGING, is_id, staged_delivery_id
from shared.messages import Audio
from shared.record import Call
from shared.times import utc

_TIME = "2026-11-22, 2026-11-22T10:00, or 36h for hours ago"
Since = Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help=f"What came since then: {_TIME}.")]
Until = Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="What came before then.")]
Caller = Annotated[str, typer.Option(help="The calls of this number, or no-phone.")]
Agent = Annotated[str, typer.Option(help="Only calls of this agent, by its id.")]
CallId = Annotated[str, typer.Option(help="One call, by its conversation id.")]


@dataclass(frozen=True)
class Chosen:
    """A choice of calls: those that came in a time range, one caller's, or one; of all agents, or one's."""

    stack: Stack
    since: datetime | None = None
    until: datetime | None = None
    caller: str = ""
    agent: str = ""
    conversation: str = ""

    def __post_init__(self) -> None:
        """Raises OpsError for no choice at all, and for one that nothing can match."""
        if not (self.since or self.caller or self.conversation):
            raise OpsError("Which calls? Choose them with --since, --caller or --conversation.")
        if self.conversation and not is_id(self.conversation):
            raise OpsError(f"{self.conversation!r} is no conversation id: letters, digits, _ and - only.")
        if self.since and self.until and self.since >= self.until:
            raise OpsError("There is nothing between --since and --until: the first must be the earlier one.")

    def calls(self) -> Iterator[Call]:
        """The records of the calls, as far as they have one."""
        return (call for call in self._found() if self._fits(call))

    def staged(self) -> Iterator[tuple[str, datetime]]:
        """The staged bodies with their time of receipt: those that the records name, or those of the time range."""
        if self.caller or self.conversation or self.agent:
            keys = sorted({key for call in self.calls() for key in call.staged_keys})
            return ((key, received_at(key)) for key in keys)
        return self._staged_between(self.since or received_at("staging/1970/01/01/00/"), self.until)

    def _found(self) -> Iterator[Call]:
        if self.conversation:
            found = self.stack.records.get(self.conversation)
            return iter([found] if found else [])
        return self._calls_of(self.caller) if self.caller else self._calls_between()

    def _fits(self, call: Call) -> bool:
        archived_at = datetime.fromisoformat(call.archived_at) if call.archived_at else None
        return (
            self.agent in ("", call.agent_id)
            and (self.since is None or (archived_at is not None and archived_at >= self.since))
            and (self.until is None or (archived_at is not None and archived_at < self.until))
        )

    def _calls_of(self, caller: str) -> Iterator[Call]:
        folder = caller.lstrip("+")
        for page in self.stack.bucket.pages(f"{folder}/", ""):
            ids = dict.fromkeys(item["Key"].split("/")[1].split(".")[0] for item in page)
            for start in range(0, len(ids), 100):
                yield from self.stack.records.get_all(list(ids)[start : start + 100]).values()

    def _calls_between(self) -> Iterator[Call]:
        since, until = utc(self.since) if self.since else "0", utc(self.until) if self.until else "9"
        for audio in get_args(Audio):
            yield from self.stack.records.find_by_audio(audio, since, until)

    def _staged_between(self, since: datetime, until: datetime | None) -> Iterator[tuple[str, datetime]]:
        end = f"{STAGING}/{until:%Y/%m/%d/%H}/~" if until else "~"
        for page in self.stack.bucket.pages(f"{STAGING}/", f"{STAGING}/{since.astimezone(timezone.utc):%Y/%m/%d/%H}/"):
            for item in page:
                if item["Key"] > end:
                    return
                if item["LastModified"] >= since and (until is None or item["LastModified"] < until):
                    yield item["Key"], item["LastModified"]


def received_at(staged_key: str) -> datetime:
    """The hour in which it was received, by its key."""
    _, year, month, day, hour, *_ = staged_key.split("/")
    return datetime(int(year), int(month), int(day), tzinfo=timezone.utc) + timedelta(hours=int(hour))


def is_staged(key: str) -> bool:
    return staged_delivery_id(key) is not None
