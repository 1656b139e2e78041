"""SQS in memory: standard queues, which answer in a random order.

Where AWS leaves something open, a queue does what is harder for its readers:
- A receipt handle works until the message is received again. Then it is accepted and deletes nothing.
- A message keeps its receive count, its time of sending and so its age when it moves to a dead-letter queue.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from botocore.exceptions import ClientError

from tests.faults.services.operations import Operations, aws_error
from tests.faults.services.queues import MOST_BYTES, Message, Queue, check_message, queue_of

ACCOUNT = "123456789012"
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class Sqs(Operations):
    NAMES = (
        "send_message", "send_message_batch", "receive_message", "delete_message", "change_message_visibility",
        "change_message_visibility_batch", "get_queue_attributes",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        super().__init__()
        self._clock, self._random = clock, random
        self._queues: dict[str, Queue] = {}
        self._number = 0

    # For the simulator and its oracles. A queue is named by its URL, its ARN or its name.

    def create_queue(self, name: str, attributes: dict[str, Any] | None = None) -> str:
        """A queue's URL. RedrivePolicy is a dict, and names the queue by ARN."""
        url = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{name}"
        self._queues[name] = self._queues[url] = queue_of(url, attributes or {})
        return url

    def url_of(self, queue: str) -> str:
        return self._queue(queue).url

    def arn_of(self, queue: str) -> str:
        return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{self.url_of(queue).rpartition('/')[2]}"

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """All messages of a queue, visible or not, as they were received last."""
        return [message.as_received() for message in self._queue(queue).kept(self._clock())]

    def next_change(self, queue: str) -> float | None:
        """When a message can be received: now, or when the next one becomes visible; None if there is none."""
        return self._queue(queue).next_change(self._clock())

    def duplicate(self, queue: str, message: dict[str, Any]) -> None:
        """Make a received message visible at once a second time, as SQS may do.

        The copy is on a server that missed the receipt, so it was received once less. Deleting one leaves the other.
        """
        about = message["Attributes"]
        received = int(about["ApproximateReceiveCount"]) - 1
        first_at = int(about["ApproximateFirstReceiveTimestamp"]) / 1000 if received else 0
        sent_at, attributes = int(about["SentTimestamp"]) / 1000, message.get("MessageAttributes", {})
        self._number += 1
        copy = Message(self._number, message["MessageId"], message["Body"], attributes, sent_at, received, first_at)
        self._queue(queue).put(copy, self._clock())

    # Operations

    def _send_message(
        self, QueueUrl: str, MessageBody: str,
        DelaySeconds: int | None = None, MessageAttributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        queue, attributes, now = self._queue(QueueUrl, "SendMessage"), MessageAttributes or {}, self._clock()
        check_message("SendMessage", MessageBody, attributes, "InvalidParameterValue")
        self._number += 1
        message = Message(self._number, f"message-{self._number}", MessageBody, attributes, now)
        queue.put(message, now + (queue.delay if DelaySeconds is None else DelaySeconds))
        return {"MessageId": message.id}

    def _send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        _check_batch("SendMessageBatch", Entries)
        if sum(len(entry["MessageBody"].encode()) for entry in Entries) > MOST_BYTES:
            raise aws_error("AWS.SimpleQueueService.BatchRequestTooLong", "SendMessageBatch")
        return self._each("send_message", QueueUrl, Entries)

    def _receive_message(
        self, QueueUrl: str, MaxNumberOfMessages: int = 1, VisibilityTimeout: int | None = None,
        WaitTimeSeconds: int = 0, AttributeNames: list[str] | None = None,
        MessageAttributeNames: list[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """It answers at once: a call takes no time here, and what it would wait for is another call's work."""
        if AttributeNames not in (None, ["All"]) or MessageAttributeNames not in (None, ["All"]):
            raise NotImplementedError("Sqs.receive_message: some attributes")
        queue, now = self._queue(QueueUrl, "ReceiveMessage"), self._clock()
        taken = self._take(queue, MaxNumberOfMessages, now)
        for message in taken:  # after all are taken: without a time-out they are visible again at once
            queue.hide(message, now + (queue.visibility if VisibilityTimeout is None else VisibilityTimeout))
        messages = [_asked(message.as_received(), AttributeNames, MessageAttributeNames) for message in taken]
        return {"Messages": messages} if messages else {}

    def _take(self, queue: Queue, most: int, now: float) -> list[Message]:
        """Messages that are visible; those that were received too often go to the dead-letter queue instead."""
        taken: list[Message] = []
        while len(taken) < most and (message := queue.take(self._random, now)):
            if queue.dlq_arn and message.received >= queue.most_receives:
                self._give_up(queue, message, now)
                continue
            message.received += 1
            message.first_received_at = message.first_received_at or now
            message.handle = f"{message.number}.{message.received}"
            taken.append(message)
        return taken

    def _give_up(self, queue: Queue, message: Message, now: float) -> None:
        queue.remove(message)
        message.handle = ""
        self._queue(queue.dlq_arn.rpartition(":")[2]).put(message, now)

    def _delete_message(self, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:
        queue = self._queue(QueueUrl, "DeleteMessage")
        message = _received(queue, ReceiptHandle, "DeleteMessage")
        if message:
            queue.remove(message)
        return {}

    def _change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> dict[str, Any]:
        """AWS refuses the handle of a message that is gone, and changes nothing if the message is visible again."""
        operation, now = "ChangeMessageVisibility", self._clock()
        queue = self._queue(QueueUrl, operation)
        message = _received(queue, ReceiptHandle, operation)
        if message is None:
            reason = "Message does not exist or is not available for visibility timeout change."
            raise aws_error("InvalidParameterValue", operation, reason)
        if message.visible_at > now:
            queue.hide(message, now + VisibilityTimeout)
        return {}

    def _change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        _check_batch("ChangeMessageVisibilityBatch", Entries)
        return self._each("change_message_visibility", QueueUrl, Entries)

    def _get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        queue, now = self._queue(QueueUrl, "GetQueueAttributes"), self._clock()
        counts = dict.fromkeys(COUNTS, 0)
        for message in queue.kept(now):
            counts[COUNTS[0 if message.visible_at <= now else 1 if message.handle else 2]] += 1
        found = counts | {"VisibilityTimeout": queue.visibility}
        if unknown := set(AttributeNames) - found.keys():
            raise NotImplementedError(f"Sqs.get_queue_attributes: {', '.join(sorted(unknown))}")
        return {"Attributes": {name: str(found[name]) for name in AttributeNames}}

    def _each(self, operation: str, url: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch's answer, which lacks the list of those that succeeded or failed if it is empty."""
        answer: dict[str, Any] = {}
        for entry in entries:
            named = {"Id": entry["Id"]}
            parameters = {"QueueUrl": url} | {name: value for name, value in entry.items() if name != "Id"}
            try:
                answer.setdefault("Successful", []).append(named | self.call(operation, parameters))
            except ClientError as error:
                fault = {"SenderFault": True} | error.response["Error"]
                answer.setdefault("Failed", []).append(named | fault)
        return {name: each for name, each in answer.items() if each}

    def _queue(self, queue: str, operation: str = "") -> Queue:
        found = self._queues.get(queue) or self._queues.get(queue.rpartition(":")[2])
        if found is None:
            message = "The specified queue does not exist."
            raise aws_error("AWS.SimpleQueueService.NonExistentQueue", operation, message)
        return found


def _received(queue: Queue, handle: str, operation: str) -> Message | None:
    """The message of a receipt handle, unless it is gone or was received again since."""
    number, _, receipt = handle.partition(".")
    if not (number.isdecimal() and receipt.isdecimal()):
        raise aws_error("ReceiptHandleIsInvalid", operation, "The input receipt handle is invalid.")
    message = queue.messages.get(int(number))
    return message if message and message.handle == handle else None


def _check_batch(operation: str, entries: list[dict[str, Any]]) -> None:
    if not entries:
        raise aws_error("AWS.SimpleQueueService.EmptyBatchRequest", operation)
    if len(entries) > 10:
        raise aws_error("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", operation)
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise aws_error("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", operation)


def _asked(message: dict[str, Any], about: list[str] | None, attributes: list[str] | None) -> dict[str, Any]:
    if about is None:
        del message["Attributes"]
    if attributes is None:
        message.pop("MessageAttributes", None)
    return message
