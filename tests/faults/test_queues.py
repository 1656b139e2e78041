"""The in-memory SQS and SNS behave as moto's."""

from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest

from tests.conftest import Stack
from tests.conftest import client as boto3_client
from tests.faults.comparison import answer_of, assert_same
from tests.faults.queue_steps import ATTRIBUTES, FILTERS, QueueSide, QueueSteps, in_moto
from tests.faults.services.client import Client
from tests.faults.services.sns import Sns
from tests.faults.services.sqs import Sqs


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

    for step in QueueSteps(seed).make(200):
        assert_same(ours, theirs, [step])
        clock.now += random.choice((0.5, 0.5, 0.5, 5.5, 31.25, 31.25, 950.25))
