"""Effectively once: Mem0 adds again whatever it is sent again, so the ledger decides whether anything is sent."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from memory_writer.ledger import Line, iso
from memory_writer.memory import Answer, Memory, MemoryBackend
from shared.aws_errors import AwsError, error_code
from shared.errors import (
    EventUnknownError,
    LeaseError,
    MemoryBackendError,
    NotSentError,
    PendingError,
    PoisonError,
    RefusedError,
    RetryError,
)

FAILURES = 3
TIME_FOR_AN_EVENT = 20  # seconds that one invocation waits for it
POLL = 1.0


@dataclass(frozen=True)
class Writer:
    """Writes memories through one backend.

    `unknown` is how long a memory whose answer was lost is looked for before it is sent again. `seconds_left` says how
    long this invocation may still take, `post_seconds` how much of that it takes to send a memory and write that down.
    """

    backend: MemoryBackend
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]
    unknown: timedelta
    post_seconds: float

    def remember(self, memory: Memory, line: Line) -> str:
        """Write `memory` unless it is written; returns the metric of what became of it.

        Raises RefusedError or PoisonError for what no retry can heal, RetryError for what may be decided later.
        """
        before = line.read().state
        if before == "done":
            return "MemoryAlreadyWritten"
        line.acquire(self.clock())
        failed: Exception | None = None
        try:
            outcome = self._settle(memory, line, before)
        except Exception as error:
            failed = error
        if failed:  # out here, for whatever fails now must not quote it in its traceback
            line.release()
            raise failed if isinstance(failed, RetryError | PoisonError) else MemoryBackendError(name(failed))
        line.release(state="done", done_at=iso(self.clock()), **outcome)
        return "MemorySkipped" if "reason" in outcome else "MemoryWritten"

    def _settle(self, memory: Memory, line: Line, before: str | None) -> dict[str, Any]:
        """What the ledger is to keep of a memory that is written, or need not be."""
        if not memory.messages:
            return {"reason": "nothing_to_say"}
        if before == "sent":
            return receipt(self._follow(self._ask(memory, line), line))
        if before == "sending":  # somebody sent it and did not live to say so
            found = self._find(memory)
            if found:
                return receipt(Answer("SUCCEEDED", memory_ids=found))
            if self._recent(line):
                raise LeaseError("it is not known yet whether Mem0 has this memory")
            line.note(started=iso(self.clock()))
        answer = self._post(memory, line, again=before is not None)
        if answer.status == "PENDING":
            line.note(state="sent", event_id=answer.event_id)
        return receipt(self._follow(answer, line))

    def _post(self, memory: Memory, line: Line, *, again: bool) -> Answer:
        """Send it. Only what was certainly not taken goes back to idle; else `sending` stays."""
        try:
            if self.seconds_left() < self.post_seconds:
                raise NotSentError("too little time is left to wait for Mem0's answer")
            return self.backend.add(memory, again=again)
        except (NotSentError, RefusedError):
            line.note(state="idle")
            raise

    def _follow(self, answer: Answer, line: Line) -> Answer:
        """Wait for the event's end. FAILED is tried again three times at most."""
        give_up = time.monotonic() + min(TIME_FOR_AN_EVENT, self.seconds_left() - 5)
        while answer.status == "PENDING" and time.monotonic() < give_up:
            time.sleep(POLL)
            answer = self.backend.look(str(answer.event_id))
        if answer.status == "PENDING":
            raise PendingError("Mem0 is still working on this memory")
        if answer.status == "FAILED":
            failures = int(line.entry.failures or 0) + 1
            line.note(state="idle", failures=failures)
            if failures >= FAILURES:
                raise PoisonError("mem0", f"Mem0 ended this memory's event with FAILED, {FAILURES} times.")
            raise RetryError("Mem0 ended this memory's event with FAILED")
        return answer

    def _ask(self, memory: Memory, line: Line) -> Answer:
        """How the event of a sent memory stands. It is never posted again, even if Mem0 does not know the event."""
        try:
            return self.backend.look(str(line.entry.event_id))
        except EventUnknownError:
            found = self._find(memory)
            if found:
                return Answer("SUCCEEDED", line.entry.event_id, found)
            if self._recent(line):
                raise
            raise PoisonError(
                "mem0", "Mem0 took this memory once, and knows neither its event nor the memory now."
            ) from None

    def _recent(self, line: Line) -> bool:
        """Whether the memory was sent so lately that Mem0 may not show it yet."""
        return (line.entry.started or "") > iso(self.clock() - self.unknown)

    def _find(self, memory: Memory) -> list[str]:
        try:
            return self.backend.find(memory)
        except NotSentError as error:  # true of the question, not of the memory
            raise MemoryBackendError(str(error)) from None


def receipt(answer: Answer) -> dict[str, Any]:
    """What Mem0 answered, as the ledger keeps it."""
    kept = {"memory_ids": answer.memory_ids, "memories": len(answer.memory_ids)}
    return kept | ({"event_id": answer.event_id} if answer.event_id else {})


def name(error: Exception) -> str:
    """All of a backend's error that may be logged: its text may quote the memory."""
    return error_code(error) if isinstance(error, AwsError) else type(error).__name__
