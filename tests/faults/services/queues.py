"""One standard queue of SQS, and its messages."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.faults.services.operations import aws_error

DAY = 86400
MOST_BYTES = 1 << 20  # of a message
KNOWN = {"VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds", "RedrivePolicy"}


@dataclass(slots=True, eq=False)
class Message:
    """One copy of a message. Copies that SQS delivers twice have one `id`, and a `number` each."""

    number: int
    id: str
    body: str
    attributes: dict[str, Any]
    sent_at: float
    received: int = 0  # how often
    first_received_at: float = 0
    handle: str = ""  # of the last receipt in the queue where it is now
    visible_at: float = 0
    is_ready: bool = False

    def as_received(self) -> dict[str, Any]:
        """The message as SQS answers it if it is asked for all attributes."""
        about = {
            "SentTimestamp": str(int(self.sent_at * 1000)), "ApproximateReceiveCount": str(self.received),
            "ApproximateFirstReceiveTimestamp": str(int(self.first_received_at * 1000)),
        }  # fmt: skip
        answer = {"MessageId": self.id, "ReceiptHandle": self.handle, "Body": self.body, "Attributes": about}
        return answer | {"MessageAttributes": self.attributes} if self.attributes else answer


@dataclass(slots=True, eq=False)
class Queue:
    """`ready` messages are visible, and `hidden` has the others by the time at which they become visible.

    Both may still hold a message that is no longer there, or that has another time by now.
    """

    url: str
    visibility: int = 30
    retention: int = 4 * DAY
    delay: int = 0
    dlq_arn: str = ""
    most_receives: int = 0
    messages: dict[int, Message] = field(default_factory=dict)  # by number
    ready: list[Message] = field(default_factory=list)
    hidden: list[tuple[float, int, Message]] = field(default_factory=list)
    hides: int = 0  # so far; of two messages with the same time, the first that was hidden is visible first

    def put(self, message: Message, visible_at: float) -> None:
        self.messages[message.number] = message
        self.hide(message, visible_at)

    def hide(self, message: Message, until: float) -> None:
        message.visible_at, message.is_ready = until, False
        self.hides += 1
        heappush(self.hidden, (until, self.hides, message))

    def remove(self, message: Message) -> None:
        message.is_ready = False
        del self.messages[message.number]

    def take(self, random: Random, now: float) -> Message | None:
        """A random visible message, which the caller hides or removes."""
        self._show(now)
        ready = self.ready
        while ready:
            at = int(random.random() * len(ready)) if len(ready) > 1 else 0
            message, last = ready[at], ready.pop()
            if last is not message:
                ready[at] = last
            if message.is_ready:
                message.is_ready = False
                if message.sent_at + self.retention > now:
                    return message
                self.remove(message)
        return None

    def next_change(self, now: float) -> float | None:
        self._show(now)
        while self.ready and not self.ready[-1].is_ready:
            self.ready.pop()
        if self.ready:
            return now
        while self.hidden and not self._is_hidden(self.hidden[0]):
            heappop(self.hidden)
        return self.hidden[0][0] if self.hidden else None

    def kept(self, now: float) -> list[Message]:
        """All its messages, without those that are older than the retention period."""
        for message in list(self.messages.values()):
            if message.sent_at + self.retention <= now:
                self.remove(message)
        return list(self.messages.values())

    def _show(self, now: float) -> None:
        while self.hidden and self.hidden[0][0] <= now:
            entry = heappop(self.hidden)
            if self._is_hidden(entry):
                entry[2].is_ready = True
                self.ready.append(entry[2])

    def _is_hidden(self, entry: tuple[float, int, Message]) -> bool:
        at, _, message = entry
        return message.visible_at == at and not message.is_ready and self.messages.get(message.number) is message


def queue_of(url: str, attributes: dict[str, Any]) -> Queue:
    if attributes.keys() - KNOWN:
        raise NotImplementedError(f"attributes of a queue: {sorted(attributes)}")
    redrive = attributes.get("RedrivePolicy", {"deadLetterTargetArn": "", "maxReceiveCount": 0})
    names = ("VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds")
    visibility, retention, delay = (
        int(attributes.get(name, default)) for name, default in zip(names, (30, 4 * DAY, 0), strict=True)
    )
    return Queue(url, visibility, retention, delay, redrive["deadLetterTargetArn"], int(redrive["maxReceiveCount"]))


def check_message(
    operation: str, body: str, attributes: dict[str, dict[str, str]], code: str, most: int = MOST_BYTES
) -> None:  # fmt: skip
    """Refuse what SQS and SNS refuse with `code`: a message without text, an attribute without text, and too much."""
    size = len(body.encode())
    for name, value in attributes.items():
        if value.keys() != {"DataType", "StringValue"} or value["DataType"] != "String":
            raise NotImplementedError(f"a message attribute {sorted(value)}")
        if not value["StringValue"]:
            raise aws_error(code, operation, f"Message attribute '{name}' must contain a non-empty value")
        size += len(name.encode()) + len("String") + len(value["StringValue"].encode())
    if not body or size > most:
        raise aws_error(code, operation, f"The message has {size} bytes, not 1 to {most}")
