"""All errors, and what each leads to.

AgenticMemoryError
├── BodyError               ingest: 400, nothing stored
├── SignatureError          ingest: 401, nothing stored
├── UnavailableError        ingest: 503, ElevenLabs may send again
├── ProblemError            api: an answer with its status and problem details
├── AnswerError             another host's answer cannot be used; the client turns it into its own error
├── PoisonError             sent to the dead-letter queue at once, with its step and error
│   └── RefusedError        Mem0 refused the request or the key; a retry cannot help
└── RetryError              the record fails: SQS retries it, and then moves it to the dead-letter queue
    ├── StorageError        S3 refused or did not answer
    │   └── ColdStorageError    the object must first be restored from an archive class of S3
    ├── LeaseError          another worker holds this memory, or it is not known yet whether it was written
    ├── PendingError        Mem0 accepted this memory and is still processing it
    ├── EventUnknownError   Mem0 does not know the event of a memory that it accepted
    ├── ElevenLabsError     ElevenLabs failed or gave an unusable answer; for recordings, the record notes it
    │   ├── KeyRefusedError     the API key is wrong or lacks a permission
    │   └── NotFoundError       there is no such conversation or recording
    ├── NotSentError        Mem0 has nothing of this memory that the next attempt would not remove
    └── MemoryBackendError  Mem0 failed, and may still have stored the memory

Any other exception in a record is retried like a RetryError.
"""


class AgenticMemoryError(Exception):
    """Base of all our errors. The text never contains a payload, a secret or a phone number."""


class BodyError(AgenticMemoryError):
    """The request's body is empty or cannot be decoded; the text says which."""


class SignatureError(AgenticMemoryError):
    """The signature is not valid. `reason`: missing, malformed, expired, future, mismatch or source."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"signature {reason}")
        self.reason = reason


class UnavailableError(AgenticMemoryError):
    """A service that ingest needs failed or did not answer. `service` names it."""

    def __init__(self, service: str, fault: str) -> None:
        super().__init__(f"{service}: {fault}")
        self.service = service


class ProblemError(AgenticMemoryError):
    """The API cannot answer a request. `detail` is a sentence for its reader that quotes nothing of the request.

    `parameter` names the parameter that was wrong.
    """

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.detail, self.parameter = status, detail, parameter


class AnswerError(AgenticMemoryError):
    """Another host's answer is too large, compressed, or not JSON. The text quotes none of it."""


class PoisonError(AgenticMemoryError):
    """No retry can process this message. `step` says where it failed; `error` is one sentence without the input."""

    def __init__(self, step: str, error: str) -> None:
        super().__init__(f"{step}: {error}")
        self.step = step
        self.error = error


class RetryError(AgenticMemoryError):
    """This attempt failed; a later one may succeed."""


class StorageError(RetryError):
    """S3 refused or did not answer. AWS's own text is left out: it names the key, which contains a phone number."""


class ColdStorageError(StorageError):
    """The object is in a storage class of S3 from which it must first be restored."""


class LeaseError(RetryError):
    """Another worker holds this memory, or a later attempt must find out whether it was written."""


class ElevenLabsError(RetryError):
    """ElevenLabs' API failed, did not answer, or gave an unusable answer. The text quotes none of it."""

    def __init__(self, fault: str, status: int | None = None) -> None:
        super().__init__(f"ElevenLabs: {fault}")
        self.status = status

    @property
    def reason(self) -> str:
        """Why one call or its recording could not be fetched."""
        return f"ElevenLabs answered {self.status}" if self.status else str(self)


class KeyRefusedError(ElevenLabsError):
    """401 or 403: an operator must correct the key. A 403 for one call may concern that call only."""


class NotFoundError(ElevenLabsError):
    """404 or 422: it does not exist yet, or no longer."""


class NotSentError(RetryError):
    """The memory may be sent again at once: Mem0 has nothing of it, or the next attempt removes what it has."""


class MemoryBackendError(RetryError):
    """Mem0 failed during a request. Its own text is left out because it may quote the memory."""


class PendingError(RetryError):
    """Mem0 accepted the memory. Its event is checked again later; the memory is not sent again."""


class EventUnknownError(RetryError):
    """Mem0 does not know the event yet, or no longer: this does not tell whether it has the memory."""


class RefusedError(PoisonError):
    """Mem0 refused permanently: 400 and 422 concern the request, 401 and 403 the key."""
