"""The in-memory SQS and SNS behave as moto's."""

from random import Random
from typing import Any

import pytest

from tests.conftest import Stack
from tests.conftest import client as boto3_client
from tests.faults.services.client import Client
from tests.faults.services.comparison import answer_of, assert_same
from tests.faults.services.queue_steps import ATTRIBUTES, FILTERS, QueueSide, QueueSteps, in_moto
from tests.faults.services.sns import Sns
from tests.faults.services.sqs import Sqs

DAY = 86400


class Clock:
    """The time of both sides, which is never exactly the end of a time-out, where moto is an instant late."""

    def __init__(self) -> None:
        self.now = 1_772_550_000.0

    def seconds(self, _: Any = None) -> float:
        return self.now

    def milliseconds(self, _: Any = None) -> float:
        return self.now * 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("moto.sqs.models.unix_time", clock.seconds)
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", clock.milliseconds)
    return clock


@pytest.fixture
def ours(clock: Clock) -> QueueSide:
    sqs = Sqs(clock.seconds, Random(1))
    sns = Sns(clock.seconds, sqs)
    urls = {name: sqs.create_queue(name, attributes) for name, attributes in ATTRIBUTES.items()}
    for name, policy in FILTERS.items():
        sns.subscribe("calls", urls[name], policy)
    return QueueSide(Client("sqs", sqs.call), Client("sns", sns.call), "calls", urls)


@pytest.fixture
def theirs(clock: Clock, aws: Stack) -> QueueSide:
    return in_moto(aws.sqs, boto3_client("sns"))


@pytest.mark.parametrize("seed", range(6))
def test_messages_come_go_and_come_back_at_the_same_times(
    ours: QueueSide, theirs: QueueSide, clock: Clock, seed: int
) -> None:
    random = Random(seed)

    def wait() -> None:
        clock.now += random.choice((0.5, 0.5, 4.7, 9.7, 29.7, 31, 850)) + random.random() / 10

    assert_same(ours, theirs, QueueSteps(seed).make(200), then=wait)


BATCH = [{"Id": str(number), "MessageBody": "x"} for number in range(11)]
EMPTY = {"event": {"DataType": "String", "StringValue": ""}}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown queue": ("send_message", {"QueueUrl": "Nothing", "MessageBody": "x"}),
    "a receipt from an unknown queue": ("receive_message", {"QueueUrl": "Nothing"}),
    "a message of more than 1 MiB": ("send_message", {"MessageBody": "x" * ((1 << 20) + 1)}),
    "a message of 1 MiB": ("send_message", {"MessageBody": "x" * (1 << 20)}),
    "a batch of nothing": ("send_message_batch", {"Entries": []}),
    "a batch of eleven": ("send_message_batch", {"Entries": BATCH}),
    "a batch with an id twice": ("send_message_batch", {"Entries": [*BATCH[:2], BATCH[0]]}),
    "a batch of more than 1 MiB": (
        "send_message_batch", {"Entries": [{"Id": str(number), "MessageBody": "x" * (600 << 10)} for number in (1, 2)]},
    ),
    "a deletion by no handle": ("delete_message", {"ReceiptHandle": "no handle"}),
    "a time-out by no handle": ("change_message_visibility", {"ReceiptHandle": "no handle", "VisibilityTimeout": 0}),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "parameters"), WRONG.values(), ids=WRONG)
def test_wrong_requests_are_answered_with_the_same_error(
    ours: QueueSide, theirs: QueueSide, operation: str, parameters: dict[str, Any]
) -> None:
    found, expected = (
        answer_of(lambda s=side: _code(getattr(s.sqs, operation)(**{"QueueUrl": s.urls["All"]} | parameters)))
        for side in (ours, theirs)
    )

    assert found == expected


@pytest.mark.parametrize("parameters", [
    {"TopicArn": "arn:aws:sns:us-east-1:123456789012:nothing"}, {"MessageAttributes": EMPTY},
    {"Message": "x" * (256 << 10)}, {"Message": "x" * ((256 << 10) + 1)},
], ids=["topic", "attribute", "256 KiB", "more"])  # fmt: skip
def test_wrong_publications_are_answered_with_the_same_error(
    ours: QueueSide, theirs: QueueSide, parameters: dict[str, Any]
) -> None:
    found, expected = (
        answer_of(lambda s=side: _code(s.sns.publish(**{"TopicArn": s.topic, "Message": "x"} | parameters)))
        for side in (ours, theirs)
    )

    assert found == expected


def _code(answer: dict[str, Any]) -> None:
    """Answers are compared by the messages that come; here only the errors count."""


@pytest.mark.parametrize(("service", "operation", "parameters", "code"), [
    ("sqs", "send_message", {"MessageBody": ""}, "InvalidParameterValue"),
    ("sqs", "send_message", {"MessageBody": "x", "MessageAttributes": EMPTY}, "InvalidParameterValue"),
    ("sqs", "change_message_visibility_batch", {"Entries": []}, "AWS.SimpleQueueService.EmptyBatchRequest"),
    ("sns", "publish", {"Message": ""}, "InvalidParameter"),
])  # fmt: skip
def test_empty_requests_that_moto_takes_are_refused(
    ours: QueueSide, service: str, operation: str, parameters: dict[str, Any], code: str
) -> None:
    """ "The minimum size is one character"; "name, type, value and the message body must not be empty or null"."""
    target = {"QueueUrl": ours.urls["All"]} if service == "sqs" else {"TopicArn": ours.topic}

    assert answer_of(lambda: getattr(getattr(ours, service), operation)(**target | parameters)) == ("error", code)


def test_an_older_receipt_handle_deletes_nothing_and_is_no_error(ours: QueueSide, clock: Clock) -> None:
    """moto deletes. "You must provide the most recently received ReceiptHandle for the message (otherwise, the request
    succeeds, but the message will not be deleted)" (SQS, API reference of DeleteMessage).
    """
    ours.send("Work", 1, MessageBody="x")
    ours.receive("Work")
    old = ours.handles["Work", "x"]
    clock.now += 31
    ours.receive("Work")

    ours.sqs.delete_message(QueueUrl=ours.urls["Work"], ReceiptHandle=old)
    assert ours.counts("Work")["ApproximateNumberOfMessagesNotVisible"] == "1"
    ours.delete("Work", "x")
    assert set(ours.counts("Work").values()) == {"0"}


def test_the_age_of_a_dead_letter_counts_from_its_first_sending(ours: QueueSide, clock: Clock) -> None:
    """moto never deletes old messages. "The expiration of a message is always based on its original enqueue timestamp.
    When a message is moved to a dead-letter queue, the enqueue timestamp is unchanged" (SQS, Developer Guide).
    """
    ours.send("Work", 1, MessageBody="x")
    for _ in range(4):
        clock.now += DAY * 0.9
        ours.receive("Work")

    assert ours.counts("Dead")["ApproximateNumberOfMessages"] == "1"
    clock.now += DAY * 0.5
    assert set(ours.counts("Dead").values()) == {"0"}
    assert ours.receive("Dead") == []


def test_a_time_out_that_is_over_cannot_be_changed(ours: QueueSide, clock: Clock) -> None:
    """moto hides the message again. For AWS, "the specified message isn't in flight"; here it stays visible."""
    ours.send("Work", 1, MessageBody="x")
    ours.receive("Work")
    clock.now += 31

    ours.sqs.change_message_visibility(
        QueueUrl=ours.urls["Work"], ReceiptHandle=ours.handles["Work", "x"], VisibilityTimeout=100
    )

    assert ours.counts("Work")["ApproximateNumberOfMessages"] == "1"
