"""All errors, and what each leads to.

AgenticMemoryError
├── BodyError               ingest: 400, nothing stored
├── SignatureError          ingest: 401, nothing stored
├── UnavailableError        ingest: 503, ElevenLabs may send again
├── AnswerError             another host's answer cannot be used: its client raises an error of its own
├── PoisonError             straight to the dead-letter queue, with its step and error
│   └── RefusedError        Mem0 will never take this request, or this key
└── RetryError              the record fails: SQS brings it back, and at last to the dead-letter queue
    ├── StorageError        S3 refused or did not answer
    ├── LeaseError          another worker has this memory, or nobody knows yet whether it was written
    ├── PendingError        Mem0 has this memory and is not done with it
    ├── EventUnknownError   Mem0 does not know the event of a memory that it took
    ├── ElevenLabsError     ElevenLabs failed or answered something else; recordings: noted in the record instead
    │   ├── KeyRefusedError     its key is wrong, or may not do this
    │   └── NotFoundError       it has no such conversation or recording
    ├── NotSentError        Mem0 has nothing of this memory, or only what the next attempt removes
    └── MemoryBackendError  Mem0 failed, and perhaps has the memory all the same

Whatever else is raised in a record is retried like a RetryError.
"""


class AgenticMemoryError(Exception):
    """Any error of ours. Its text never holds a payload, a secret or a phone number."""


class BodyError(AgenticMemoryError):
    """The request has no body that can be kept; the text names the fault."""


class SignatureError(AgenticMemoryError):
    """The signature is in doubt. `reason`: missing, malformed, expired, future, mismatch or source."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"signature {reason}")
        self.reason = reason


class UnavailableError(AgenticMemoryError):
    """A service that ingest cannot do without did not do its part. `service` names it."""

    def __init__(self, service: str, fault: str) -> None:
        super().__init__(f"{service}: {fault}")
        self.service = service


class AnswerError(AgenticMemoryError):
    """Another host's answer is too large, compressed, or no JSON. The text quotes nothing of it."""


class PoisonError(AgenticMemoryError):
    """A message that no retry can heal. `step` is where it was found, `error` one sentence without any of the input."""

    def __init__(self, step: str, error: str) -> None:
        super().__init__(f"{step}: {error}")
        self.step = step
        self.error = error


class RetryError(AgenticMemoryError):
    """Not now; another attempt may do."""


class StorageError(RetryError):
    """S3 refused or did not answer. AWS's own text is left out: it names the key, and the key is a phone number."""


class LeaseError(RetryError):
    """Whether this memory is written is for another worker, or for later, to say."""


class ElevenLabsError(RetryError):
    """ElevenLabs' API failed, did not answer, or answered what cannot be used. The text quotes nothing of it."""

    def __init__(self, fault: str, status: int | None = None) -> None:
        super().__init__(f"ElevenLabs: {fault}")
        self.status = status

    @property
    def reason(self) -> str:
        """Why one call, or its recording, cannot be had."""
        return f"ElevenLabs answered {self.status}" if self.status else str(self)


class KeyRefusedError(ElevenLabsError):
    """401 or 403: somebody must put the key right. A 403 about one call may be about that call alone."""


class NotFoundError(ElevenLabsError):
    """404 or 422: not there yet, or not any more."""


class NotSentError(RetryError):
    """Mem0 has nothing of the memory, or what the next attempt removes, so that it may be sent again at once."""


class MemoryBackendError(RetryError):
    """Mem0 failed in the middle. Its own text is left out: it may quote the memory."""


class PendingError(RetryError):
    """Mem0 has taken the memory; its event is looked at again later, and the memory not sent again."""


class EventUnknownError(RetryError):
    """Not yet, or not any more: neither says what became of the memory."""


class RefusedError(PoisonError):
    """Mem0 refused for good: 400 and 422 are about the request, 401 and 403 about the key."""
