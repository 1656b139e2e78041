"""Staged bodies that are not archived: where each of them is, and what to do about it.

A call whose body was never processed has no record. Its body is found by its time of receipt; or by the notes of the
hourly run, by the dead letters of the archiver, and among the bodies that are newer than the last hourly run.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from scripts.operations.dead_letters import DeadLetter, DeadLetterQueue
from scripts.operations.logs import last_reasons
from scripts.operations.selection import is_staged, received_at
from scripts.operations.stack import AT_ONCE
from scripts.operations.staged import calls_in
from scripts.operations.view import View
from shared.keys import STAGING, staged_delivery_id
from shared.unnamed import Unnamed

RECENT_HOURS = 3  # the hourly run notes unfinished bodies of the hours before; all attempts end within two hours
MOST_RECENT = 5000  # bodies of these hours that are looked at
NOT_ERASED = "erasure not finished"
PARKED = "its audio is parked, and no transcript came"


@dataclass(frozen=True)
class Unfinished:
    """A staged body that is not archived. `problem` and `cure` are empty if nothing needs to be done."""

    key: str
    calls: list[str]
    state: str
    problem: str = ""
    cure: str = ""


class UnfinishedBodies:
    """Finds unfinished bodies of one stack. The dead letters are read once, and stay in their queue."""

    def __init__(self, view: View, now: datetime) -> None:
        self._stack, self._bucket, self._now = view.stack, view.stack.bucket, now
        self._notes = Unnamed(view.stack.table)
        self.skipped = 0  # recent bodies that were too many to be looked at
        with DeadLetterQueue(view.stack, "archive").letters(view) as letters:
            self._dead: dict[str, DeadLetter] = {each.staged_key: each for each in letters if each.staged_key}

    def unfinished_of(self, staged: Iterable[tuple[str, datetime]]) -> list[Unfinished]:
        """The unfinished ones of these staged bodies, given by key and time of receipt."""
        candidates = dict(staged)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            archived = pool.map(self._bucket.is_archived, candidates)
            unfinished = [key for key, is_archived in zip(candidates, archived, strict=True) if not is_archived]
            calls = pool.map(lambda key: calls_in(self._stack, key), unfinished)
            return [self._examine(key, candidates[key], found) for key, found in zip(unfinished, calls, strict=True)]

    def of_call(self, conversation_id: str) -> list[Unfinished]:
        """The unfinished bodies of one call, whether or not it has a record."""
        noted = {*self._dead, *filter(is_staged, self._notes.keys())}
        candidates = {key: received_at(key) for key in sorted(noted)} | dict(self._recent())
        return [each for each in self.unfinished_of(candidates.items()) if conversation_id in each.calls]

    def _recent(self) -> Iterator[tuple[str, datetime]]:
        """The newest bodies, the latest hour first."""
        left = MOST_RECENT
        for hours in range(RECENT_HOURS):
            prefix = f"{STAGING}/{self._now - timedelta(hours=hours):%Y/%m/%d/%H}/"
            for page in self._bucket.pages(prefix, ""):
                bodies = [(item["Key"], item["LastModified"]) for item in page if is_staged(item["Key"])]
                yield from bodies[:left]
                self.skipped += len(bodies[left:])
                left -= len(bodies[:left])

    def _examine(self, key: str, at: datetime, calls: list[str]) -> Unfinished:
        is_late = self._now - at > self._attempt
        if self._are_erased(calls):
            return Unfinished(key, calls, "still there", NOT_ERASED) if is_late else Unfinished(key, calls, "staged")
        if letter := self._dead.get(key):
            return Unfinished(key, calls, "in ArchiveDlq", ": ".join(letter.fault), _cure(letter))
        if key in self._dropped:
            return Unfinished(key, calls, "dropped")
        if self._is_parked(key, calls):
            return Unfinished(key, calls, "parked", PARKED, "ops reconcile")
        if is_late and self._queue_is_empty:
            problem = "not archived, and ArchiveQueue has no message. The hourly run will send one"
            return Unfinished(key, calls, "staged, without a message", problem, f"ops replay --key {key} --yes")
        if error := self._errors.get(str(staged_delivery_id(key))):
            problem = f"not archived. The last attempt failed: {error}"
            return Unfinished(key, calls, "staged, being retried", problem, "ops status")
        if is_late:
            problem = f"not archived after more than one attempt ({self._attempt.seconds} s)"
            return Unfinished(key, calls, "staged, waiting", problem, "ops status")
        return Unfinished(key, calls, "staged")

    def _are_erased(self, calls: list[str]) -> bool:
        """Whether all calls of a body are erased: the archiver discards it, or else an erasure must delete it."""
        records = [self._stack.records.get(call) for call in calls]
        return bool(records) and all(record and record.erased_at for record in records)

    def _is_parked(self, key: str, calls: list[str]) -> bool:
        found = [call for call in map(self._stack.records.get, calls) if call and call.t_order is None]
        return any(key == parked.staged_key for call in found for parked in call.waiting)

    @cached_property
    def _dropped(self) -> set[str]:
        return self._notes.dropped()

    @cached_property
    def _errors(self) -> dict[str, str]:
        """Why deliveries failed the last time, as the archiver logged it."""
        return last_reasons(self._stack, "archive", self._now - timedelta(hours=RECENT_HOURS))

    @cached_property
    def _queue(self) -> dict[str, int]:
        return self._stack.queue(self._stack.output("ArchiveQueueUrl"))

    @property
    def _queue_is_empty(self) -> bool:
        return not any(count for name, count in self._queue.items() if name != "visibility_seconds")

    @property
    def _attempt(self) -> timedelta:
        """How long an attempt takes until the next one starts."""
        return timedelta(seconds=self._queue["visibility_seconds"])


def _cure(letter: DeadLetter) -> str:
    redrive = "Fix the cause, then run: ops dlq redrive archive --yes"
    return redrive if letter.cure == "redrive" else "ops dlq show archive"
