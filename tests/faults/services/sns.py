"""SNS in memory: topics with queues as subscribers, which get the message itself (raw delivery)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.faults.services.operations import Operations, aws_error
from tests.faults.services.queues import check_message
from tests.faults.services.sqs import Sqs

Attributes = dict[str, dict[str, str]]

MOST_BYTES = 256 << 10  # of a message, as the topic has no MaximumMessageSize


class Subscription(NamedTuple):
    queue_url: str
    filter_policy: dict[str, list[str]]  # what an attribute's value must be one of, by the attribute's name
    dlq_url: str | None

    def accepts(self, attributes: Attributes) -> bool:
        return all(attributes.get(name, {}).get("StringValue") in values for name, values in self.filter_policy.items())


class Sns(Operations):
    """`deliver` brings a message to a queue. A simulator may replace it, to deliver late, twice or not at all."""

    NAMES = ("publish",)

    def __init__(self, clock: Callable[[], float], sqs: Sqs) -> None:
        super().__init__()
        self._clock, self._sqs = clock, sqs
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._number = 0
        self.deliver: Callable[[str, str, Attributes], None] = self.send

    def create_topic(self, arn: str) -> None:
        self._subscriptions.setdefault(arn, [])

    def subscribe(
        self, topic: str, queue: str, filter_policy: dict[str, list[str]] | None = None, redrive_dlq: str | None = None
    ) -> None:
        """Subscribe a queue, and create the topic if there is none. Queues are named by ARN or URL."""
        dlq = redrive_dlq and self._sqs.url_of(redrive_dlq)
        self.create_topic(topic)
        self._subscriptions[topic].append(Subscription(self._sqs.url_of(queue), filter_policy or {}, dlq))

    def send(self, queue_url: str, body: str, attributes: Attributes) -> None:
        """Deliver a message now. The queue's own delay applies."""
        message = {"QueueUrl": queue_url, "MessageBody": body}
        self._sqs.call("send_message", message | ({"MessageAttributes": attributes} if attributes else {}))

    def give_up(self, queue_url: str, body: str, attributes: Attributes, code: str, message: str) -> bool:
        """Send to the subscription's dead-letter queue what could not be delivered; False if it has none."""
        everyone = [each for subscriptions in self._subscriptions.values() for each in subscriptions]
        dlq = next(each.dlq_url for each in everyone if each.queue_url == queue_url)
        if dlq is None:
            return False
        reasons = {"ErrorCode": code, "ErrorMessage": message}
        texts = {name: {"DataType": "String", "StringValue": text} for name, text in reasons.items()}
        self.send(dlq, body, attributes | texts)
        return True

    def _publish(self, TopicArn: str, Message: str, MessageAttributes: Attributes | None = None) -> dict[str, Any]:
        if TopicArn not in self._subscriptions:
            raise aws_error("NotFound", "Publish", "Topic does not exist")
        attributes = MessageAttributes or {}
        check_message("Publish", Message, attributes, "InvalidParameter", MOST_BYTES)
        self._number += 1
        for subscription in self._subscriptions[TopicArn]:
            if subscription.accepts(attributes):
                self.deliver(subscription.queue_url, Message, attributes)
        return {"MessageId": f"published-{self._number}"}
