"""Effectively once: Mem0 adds again whatever it is sent again, so the ledger decides whether anything is sent."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from memory_writer.ledger import Entry, Ledger, iso
from memory_writer.memory import Memory, MemoryBackend
from shared.aws_errors import AwsError, error_code
from shared.errors import LeaseError, MemoryBackendError, NotSentError, RetryError
from shared.observability import count, logger


@dataclass(frozen=True)
class Writer:
    """Writes memories through one backend under one ledger.

    `unknown` is how long a memory whose answer was lost is looked for before it is sent again.
    """

    backend: MemoryBackend
    ledger: Ledger
    unknown: timedelta

    def remember(self, memory: Memory, now: datetime) -> None:
        """Write `memory` unless it is written. Raises LeaseError while that is not known, or for another to say."""
        conversation_id = str(memory.metadata["conversation_id"])
        seen = self.ledger.read(conversation_id, memory.type)
        if seen.state == "done":
            return count("MemoryAlreadyWritten")
        held = self.ledger.acquire(conversation_id, memory.type, seen, now)
        try:
            outcome = self._write(memory, conversation_id, seen, held, now)
        except RetryError as error:
            self.ledger.release(conversation_id, memory.type, held, sent=not isinstance(error, NotSentError))
            raise
        except Exception as error:
            self.ledger.release(conversation_id, memory.type, held, sent=True)
            raise MemoryBackendError(name(error)) from None
        self.ledger.finish(conversation_id, memory.type, held, outcome)
        count("MemoryWritten" if "memory_ids" in outcome else "MemorySkipped", reason=memory.type)
        logger.info("Memory done", conversation_id=conversation_id, memory_type=memory.type)

    def _write(self, memory: Memory, conversation_id: str, seen: Entry, held: Entry, now: datetime) -> dict[str, Any]:
        """What the ledger is to keep: Mem0's ids, or the reason why there are none."""
        if not memory.messages:
            return {"reason": "nothing_to_say", "done_at": iso(now)}
        if seen.state == "sending":  # somebody sent it and did not live to say so
            found = self._find(memory)
            if found:
                return {"memory_ids": found, "done_at": iso(now)}
            if (seen.started or "") > iso(now - self.unknown):
                raise LeaseError("it is not known yet whether Mem0 has this memory")
            self.ledger.restart(conversation_id, memory.type, held, now)
        return {"memory_ids": self.backend.add(memory), "done_at": iso(now)}

    def _find(self, memory: Memory) -> list[str]:
        try:
            return self.backend.find(memory)
        except NotSentError as error:  # true of the question, not of the memory
            raise MemoryBackendError(str(error)) from None


def name(error: Exception) -> str:
    """All of a backend's error that may be logged: its text may quote the memory."""
    return error_code(error) if isinstance(error, AwsError) else type(error).__name__
