"""Random steps on queues that are like the template's: one with a dead-letter queue, one that delays, and a topic."""

import json
from collections import Counter
from random import Random
from typing import Any

from tests.faults.services.comparison import Step

DEAD, WORK, LATE, ALL = "Dead", "Work", "Late", "All"
QUEUES = (WORK, WORK, DEAD, LATE, ALL)  # Work more often
MOST = 3  # receipts
ARN = "arn:aws:sqs:us-east-1:123456789012:"
REDRIVE = {"deadLetterTargetArn": f"{ARN}{DEAD}", "maxReceiveCount": MOST}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    DEAD: {}, WORK: {"VisibilityTimeout": 30, "RedrivePolicy": REDRIVE}, ALL: {},
    LATE: {"DelaySeconds": 900, "VisibilityTimeout": 1800},
}  # fmt: skip
FILTERS = {WORK: {"event": ["one", "two"]}, LATE: {"event": ["one"], "audio": ["pending"]}, ALL: None}
COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]


class QueueSide:
    """`handles` has the last receipt handle of each message, which is named by its queue and its body."""

    def __init__(self, sqs: Any, sns: Any, topic: str, urls: dict[str, str]) -> None:
        self.sqs, self.sns, self.topic, self.urls = sqs, sns, topic, urls
        self.handles: dict[tuple[str, str], str] = {}
        self.receipts = Counter[tuple[str, str]]()

    def counts(self, queue: str) -> dict[str, str]:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=COUNTS)
        return {name: answer["Attributes"][name] for name in COUNTS}

    def send(self, queue: str, count: int, **message: Any) -> None:
        if self._has_room(queue, count):
            self.sqs.send_message(QueueUrl=self.urls[queue], **message)

    def send_batch(self, queue: str, entries: list[dict[str, Any]]) -> Any:
        if self._has_room(queue, len(entries)):
            return _read(self.sqs.send_message_batch(QueueUrl=self.urls[queue], Entries=entries))

    def publish(self, **message: Any) -> None:
        if all(self._has_room(queue, 1) for queue in FILTERS):
            self.sns.publish(TopicArn=self.topic, **message)

    def receive(self, queue: str, **options: Any) -> list[Any]:
        """All that is visible, which is at most ten messages, without their order and their ids."""
        answer = self.sqs.receive_message(QueueUrl=self.urls[queue], MaxNumberOfMessages=10, **options)
        messages = sorted(answer.get("Messages", []), key=lambda each: str(each["Body"]))
        self._forget_dead(queue)
        for each in messages:
            self.handles[queue, each["Body"]] = each["ReceiptHandle"]
            self.receipts[queue, each["Body"]] += 1
        return [_known(each) for each in messages]

    def _forget_dead(self, queue: str) -> None:
        """Forget messages that may have moved to the dead-letter queue: moto refuses their handles, but not others'."""
        if queue == WORK:
            for name in [name for name, count in self.receipts.items() if name[0] == WORK and count >= MOST]:
                self.handles.pop(name, None)

    def delete(self, queue: str, body: str) -> None:
        if handle := self.handles.get((queue, body)):
            self.sqs.delete_message(QueueUrl=self.urls[queue], ReceiptHandle=handle)

    def hide(self, queue: str, seconds: int, *, together: bool) -> Any:
        """Change the visibility of what is received now: message by message, or in a batch that has a wrong handle."""
        bodies = [message["Body"] for message in self.receive(queue)][:9]
        handles = [self.handles[queue, body] for body in bodies]
        if together:
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for number, handle in enumerate([*handles, "no handle"])
            ]
            return _read(self.sqs.change_message_visibility_batch(QueueUrl=self.urls[queue], Entries=entries))
        for handle in handles:
            self.sqs.change_message_visibility(
                QueueUrl=self.urls[queue], ReceiptHandle=handle, VisibilityTimeout=seconds
            )

    def _has_room(self, queue: str, count: int) -> bool:
        """So that one receive_message answers all that is visible, also in the dead-letter queue."""
        names = {WORK, DEAD} if queue in (WORK, DEAD) else {queue}
        return sum(int(number) for name in names for number in self.counts(name).values()) + count <= 10


class QueueSteps:
    def __init__(self, seed: int) -> None:
        self._random, self._number = Random(seed), 0

    def make(self, count: int) -> list[tuple[str, Step]]:
        kinds = (self._send, self._batch, self._publish, self._receive, self._delete, self._hide, self._count)
        return [self._random.choices(kinds, (3, 1, 3, 6, 4, 2, 1))[0]() for _ in range(count)]

    def _send(self) -> tuple[str, Step]:
        queue, message = self._one(QUEUES), self._message("MessageBody")
        if self._chance():
            message |= {"DelaySeconds": self._one((0, 20, 900))}
        return f"send {queue} {message}", lambda side: side.send(queue, 1, **message)

    def _batch(self) -> tuple[str, Step]:
        queue = self._one(QUEUES)
        entries = [{"Id": str(number)} | self._message("MessageBody") for number in range(self._one((1, 2, 3)))]
        return f"send {queue} {entries}", lambda side: side.send_batch(queue, entries)

    def _publish(self) -> tuple[str, Step]:
        message = self._message("Message")
        return f"publish {message}", lambda side: side.publish(**message)

    def _receive(self) -> tuple[str, Step]:
        queue, options = self._one(QUEUES), {}
        if self._chance():
            options |= {"VisibilityTimeout": self._one((0, 10, 60))}
        if self._chance():
            options |= {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
        return f"receive {queue} {options}", lambda side: side.receive(queue, **options)

    def _delete(self) -> tuple[str, Step]:
        """By its last handle. By an older one moto deletes, too, which AWS does not promise."""
        queue, body = self._one(QUEUES), f"body {self._random.randint(max(1, self._number - 8), self._number + 1)}"
        return f"delete {queue} {body}", lambda side: side.delete(queue, body)

    def _hide(self) -> tuple[str, Step]:
        queue, seconds, together = self._one(QUEUES), self._one((0, 5, 100)), self._chance()
        return f"hide {queue} {seconds} {together=}", lambda side: side.hide(queue, seconds, together=together)

    def _count(self) -> tuple[str, Step]:
        return "count", lambda side: [side.counts(queue) for queue in ATTRIBUTES]

    def _message(self, name: str) -> dict[str, Any]:
        self._number += 1
        texts = {"event": self._one(("one", "two", "three")), "audio": self._one(("pending", "none"))}
        texts = {name: text for name, text in texts.items() if self._random.random() < 0.8}
        attributes = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
        return {name: f"body {self._number}"} | ({"MessageAttributes": attributes} if attributes else {})

    def _one(self, choices: tuple[Any, ...]) -> Any:
        return self._random.choice(choices)

    def _chance(self) -> bool:
        return self._random.random() < 0.5


def _known(message: dict[str, Any]) -> dict[str, Any]:
    about = message.get("Attributes", {})
    names = ("SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp")
    return {
        "Body": message["Body"], "Attributes": {name: about.get(name) for name in names},
        "MessageAttributes": message.get("MessageAttributes", {}),
    }  # fmt: skip


def _read(answer: dict[str, Any]) -> Any:
    """Which entries of a batch succeeded, and which failed and why."""
    done, failed = answer.get("Successful", []), answer.get("Failed", [])
    return [each["Id"] for each in done], [(each["Id"], each["Code"]) for each in failed]


def in_moto(sqs: Any, sns: Any) -> QueueSide:
    urls = {}
    for name, attributes in ATTRIBUTES.items():
        texts = {key: json.dumps(value) if key == "RedrivePolicy" else str(value) for key, value in attributes.items()}
        urls[name] = sqs.create_queue(QueueName=name, Attributes=texts)["QueueUrl"]
    topic = sns.create_topic(Name="calls")["TopicArn"]
    for name, policy in FILTERS.items():
        attributes = {"RawMessageDelivery": "true"} | ({"FilterPolicy": json.dumps(policy)} if policy else {})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{ARN}{name}", Attributes=attributes)
    return QueueSide(sqs, sns, topic, urls)
