"""Effectively once: Mem0 stores a repeated memory twice, so the ledger decides whether a memory is sent."""

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
TIME_FOR_AN_EVENT = 20  # seconds that one invocation waits
POLL = 1.0


@dataclass(frozen=True)
class Writer:
    """Writes memories through one backend.

    If an answer was lost, the memory is searched for during `unknown` before it is sent again. `seconds_left` is the
    invocation's remaining time; `post_seconds` is needed to send a memory and update the ledger.
    """

    backend: MemoryBackend
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]
    unknown: timedelta
    post_seconds: float

    def remember(self, memory: Memory, line: Line) -> str:
        """Write `memory` unless it is already written; returns the metric to count.

        Raises RefusedError or PoisonError if no retry can help, and RetryError if one may.
        """
        before = line.read().state
        if before == "done":
            return "MemoryAlreadyWritten"
        line.acquire(self.clock())
        failed: Exception | None = None
        try:
            outcome = self._write(memory, line, before)
        except Exception as error:
            failed = error
        if failed:  # outside the except block, so that no traceback quotes the error
            line.release()
            raise failed if isinstance(failed, RetryError | PoisonError) else MemoryBackendError(name(failed))
        line.release(state="done", done_at=iso(self.clock()), **outcome)
        return "MemorySkipped" if "reason" in outcome else "MemoryWritten"

    def _write(self, memory: Memory, line: Line, before: str | None) -> dict[str, Any]:
        """Write the memory unless Mem0 has it; returns the fields for the ledger."""
        if not memory.messages:
            return {"reason": "nothing_to_say"}
        if before == "sent":
            return receipt(self._wait(self._sent_before(memory, line), line))
        if before == "sending":  # another worker crashed after it may have sent it
            found = self._find(memory)
            if found:
                return receipt(Answer("SUCCEEDED", memory_ids=found))
            if self._recent(line):
                raise LeaseError("it is not known yet whether Mem0 has this memory")
            line.note(started=iso(self.clock()))
        answer = self._post(memory, line, again=before is not None)
        if answer.status == "PENDING":
            line.note(state="sent", event_id=answer.event_id)
        return receipt(self._wait(answer, line))

    def _post(self, memory: Memory, line: Line, *, again: bool) -> Answer:
        """Send the memory. If Mem0 certainly does not have it, the line becomes idle; otherwise it stays `sending`."""
        try:
            if self.seconds_left() < self.post_seconds:
                raise NotSentError("too little time is left to wait for Mem0's answer")
            return self.backend.add(memory, again=again)
        except (NotSentError, RefusedError):
            line.note(state="idle")
            raise

    def _wait(self, answer: Answer, line: Line) -> Answer:
        """Wait until the event ends. FAILED is retried, at most three times."""
        deadline = time.monotonic() + min(TIME_FOR_AN_EVENT, self.seconds_left() - 5)
        while answer.status == "PENDING" and time.monotonic() < deadline:
            time.sleep(POLL)
            answer = self.backend.check_event(str(answer.event_id))
        if answer.status == "PENDING":
            raise PendingError("Mem0 is still processing this memory")
        if answer.status == "FAILED":
            failures = int(line.entry.failures or 0) + 1
            line.note(state="idle", failures=failures)
            if failures >= FAILURES:
                raise PoisonError("mem0", f"Mem0 failed to process this memory {FAILURES} times.")
            raise RetryError("Mem0 failed to process this memory")
        return answer

    def _sent_before(self, memory: Memory, line: Line) -> Answer:
        """The state of a sent memory. It is never sent again, even if Mem0 does not know its event."""
        try:
            return self.backend.check_event(str(line.entry.event_id))
        except EventUnknownError:
            found = self._find(memory)
            if found:
                return Answer("SUCCEEDED", line.entry.event_id, found)
            if self._recent(line):
                raise
            raise PoisonError(
                "mem0", "Mem0 accepted this memory earlier, but now has neither its event nor the memory."
            ) from None

    def _recent(self, line: Line) -> bool:
        """Whether the memory was sent so recently that Mem0 may not list it yet."""
        return (line.entry.started or "") > iso(self.clock() - self.unknown)

    def _find(self, memory: Memory) -> list[str]:
        try:
            return self.backend.find(memory)
        except NotSentError as error:  # it concerns this search, not the memory
            raise MemoryBackendError(str(error)) from None


def receipt(answer: Answer) -> dict[str, Any]:
    """Mem0's answer, as the ledger stores it."""
    kept = {"memory_ids": answer.memory_ids, "memories": len(answer.memory_ids)}
    return kept | ({"event_id": answer.event_id} if answer.event_id else {})


def name(error: Exception) -> str:
    """The part of a backend's error that may be logged; its text may quote the memory."""
    return error_code(error) if isinstance(error, AwsError) else type(error).__name__
