"""The dead-letter queues: what is in them, and how a message goes back or away.

SQS's own redrive (StartMessageMoveTask) takes only messages that SQS itself moved. Ours also come from SNS and from the
functions. So each message is received, sent to its source queue, and then deleted. A message that is sent twice does no
harm.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, cached_property, partial
from typing import Any, Literal

from scripts.aws_session import OpsError
from scripts.operations.logs import last_reasons
from scripts.operations.selection import is_staged
from scripts.operations.stack import Stack
from scripts.operations.staged import calls_in
from scripts.operations.view import View, delay_ctrl_c
from shared.unnamed import Unnamed

HIDDEN_SECONDS = 900  # how long a received message stays hidden from others if this process dies
WAIT_SECONDS = 1  # for messages; SQS may overlook some if it answers at once
QUEUES = {
    "archive": ("ArchiveDlqUrl", "ArchiveQueueUrl"),
    "memory": ("MemoryDlqUrl", "MemoryQueueUrl"),
    "audio": ("AudioDlqUrl", "AudioQueueUrl"),
    "transcribe": ("TranscribeDlqUrl", "TranscribeQueueUrl"),
    "text": ("TextDlqUrl", "TextQueueUrl"),
}
NO_QUEUE = {
    "audio": "The stack has no audio queue. Deploy the stack with the parameter ElevenLabsApiKey.",
    "transcribe": "The stack has no transcribe queue. Deploy the stack with the parameter Transcribe.",
}
BY_SNS, BY_ATTEMPTS, DONE = "delivery by SNS", "all attempts failed", "already done"
# Steps of messages that may succeed later: once the stack's settings are right, or with another job.
CONFIGURATION = ("mem0", "configuration", "transcription")
DONE_TEXT = "The work is done, and only the message is left."
GONE_TEXT = "The payload is no longer in staging/, and only the message is left."
Cure = Literal["redrive", "poison", "done"]


@dataclass(frozen=True)
class DeadLetter:
    """A message of a dead-letter queue, and why it is there."""

    stack: Stack
    queue: str
    message: dict[str, Any]
    logged: Callable[[], dict[str, str]]  # the reasons in the function's log, by delivery or call

    @property
    def sent_at(self) -> datetime:
        return _sent_at(self.message)

    @cached_property
    def body(self) -> str:
        """Our message. SNS puts what it could not deliver into an envelope, unless delivery is raw."""
        content = _object(self.message["Body"])
        return str(content["Message"]) if content.get("Type") == "Notification" else str(self.message["Body"])

    @cached_property
    def content(self) -> dict[str, Any]:
        return _object(self.body)

    @property
    def delivery(self) -> str:
        """What the message is about: a delivery, a call, or else the message itself."""
        content = self.content
        return str(content.get("delivery_id") or content.get("conversation_id") or self.message["MessageId"])

    @property
    def staged_key(self) -> str:
        """The key of the payload that a claim check names; empty if the message names none."""
        key = str(self.content.get("staged_key"))
        return key if is_staged(key) else ""

    @cached_property
    def calls(self) -> list[str]:
        """The ids of its calls. A claim check names none: they are in its payload."""
        if "conversation_id" in self.content:
            return [str(self.content["conversation_id"])]
        return calls_in(self.stack, self.staged_key) if self.staged_key else []

    @cached_property
    def fault(self) -> tuple[str, str]:
        """Step and error: as the function or SNS attached them, else as the function logged them."""
        attached = self._attached
        if "error" in attached:
            return attached.get("step", "-"), attached["error"]
        if by_sns := attached.get("ErrorMessage") or attached.get("ErrorCode"):
            return BY_SNS, by_sns
        if self.delivery in self.logged():
            return BY_ATTEMPTS, self.logged()[self.delivery]
        if self.is_done:
            return DONE, f"{DONE_TEXT if self.has_payload else GONE_TEXT} A redrive changes nothing."
        return BY_ATTEMPTS, "The function's log has no reason. The function was killed, or the log is deleted."

    @property
    def is_poison(self) -> bool:
        """Whether its function set it aside because no retry can help."""
        return "error" in self._attached and self._attached.get("step") not in CONFIGURATION

    @property
    def cure(self) -> Cure:
        """What to do with it: redrive it once the cause is fixed, or drop a poison message or what is done."""
        if self.is_poison:
            return "poison"
        return "done" if self.fault[0] == DONE else "redrive"

    @cached_property
    def _attached(self) -> dict[str, str]:
        """The attributes that a function or SNS attached."""
        attributes = self.message.get("MessageAttributes", {})
        return {name: str(value.get("StringValue", "")) for name, value in attributes.items()}

    @cached_property
    def has_payload(self) -> bool:
        """Whether it is a claim check whose payload is still there."""
        return bool(self.staged_key) and self.stack.bucket.exists(self.staged_key)

    @property
    def is_done(self) -> bool:
        """Whether a claim check's payload is archived, or gone."""
        return bool(self.staged_key) and self.stack.bucket.is_archived(self.staged_key)


class HiddenMessages:
    """All messages of a queue, hidden from other readers. `release` shows those that are still in the queue again."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs, self._url = sqs, url
        self._received: dict[str, dict[str, Any]] = {}  # by receipt handle: copies of a message have the same MessageId

    @property
    def all(self) -> list[dict[str, Any]]:
        return list(self._received.values())

    def receive(self) -> bool:
        """Receive all messages; returns False if the queue fills faster than it can be read.

        SQS may answer once that a queue is empty although it is not. Reading ends after half of HIDDEN_SECONDS.
        """
        empty_answers, end = 0, time.monotonic() + HIDDEN_SECONDS / 2
        while empty_answers < 2 and time.monotonic() < end:
            with delay_ctrl_c():
                answer = self._sqs.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=10, VisibilityTimeout=HIDDEN_SECONDS,
                    WaitTimeSeconds=WAIT_SECONDS, AttributeNames=["All"], MessageAttributeNames=["All"],
                )  # fmt: skip
                known = len(self._received)
                self._received |= {each["ReceiptHandle"]: each for each in answer.get("Messages", [])}
            empty_answers = 0 if len(self._received) > known else empty_answers + 1
        return empty_answers >= 2

    def delete(self, message: dict[str, Any]) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        del self._received[message["ReceiptHandle"]]

    def release(self) -> None:
        """SQS answers for each message separately: it refuses one that is no longer hidden, which is no error."""
        handles = [message["ReceiptHandle"] for message in self.all]
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(handles[start : start + 10])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


class DeadLetterQueue:
    """A dead-letter queue and the queue that its messages came from."""

    def __init__(self, stack: Stack, name: str) -> None:
        if name not in QUEUES:
            raise OpsError(f"There is no queue {name!r}. Choose one of {', '.join(QUEUES)}.")
        self.stack, self.name, self._sqs = stack, name, stack.client("sqs")
        self._dead, self._source = (stack.output(each, NO_QUEUE.get(name, "")) for each in QUEUES[name])
        self._hidden = HiddenMessages(self._sqs, self._dead)

    @contextmanager
    def letters(self, view: View) -> Iterator[list[DeadLetter]]:
        """All its messages, hidden from others until the end of the block."""
        try:
            with view.progress.status(f"Reading the dead-letter queue {self.name} ..."):
                self._hidden.receive()
            messages = self._hidden.all
            since = min(map(_sent_at, messages), default=datetime.now(timezone.utc)) - timedelta(days=1)
            logged = cache(partial(last_reasons, self.stack, self.name, since))
            yield [DeadLetter(self.stack, self.name, message, logged) for message in messages]
        finally:
            with delay_ctrl_c():
                self._hidden.release()

    def redrive(self, letter: DeadLetter) -> None:
        self._sqs.send_message(QueueUrl=self._source, MessageBody=letter.body, DelaySeconds=0)
        self._hidden.delete(letter.message)

    def drop(self, letter: DeadLetter) -> None:
        """Delete a message. An unfinished payload is noted first, so that no hourly run sends it again."""
        if self.name == "archive" and letter.staged_key and not letter.is_done:
            Unnamed(self.stack.table).note_dropped(letter.staged_key, datetime.now(timezone.utc))
        self._hidden.delete(letter.message)


def _sent_at(message: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, timezone.utc)


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
