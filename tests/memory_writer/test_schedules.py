"""Each memory is written exactly once, under every schedule of crashes, duplicates, retries and faults of Mem0."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memory_writer.handler
from memory_writer.handler import Invocation, make_backend, write
from memory_writer.memory import Memory
from tests.conftest import Stack, close_clients, forget
from tests.mem0_stand_in import HostedMem0
from tests.schedules import Worker, before_call, run_all, watch

conversations, owners = count(1), count(1)


class Clock:
    """The time of workers and of Mem0: it stands still while they run."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)

    def seconds(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mem0(aws: Stack, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedMem0]:
    with HostedMem0(key="m0-test", clock=clock.seconds) as stand_in:
        secret = boto3.client("secretsmanager").create_secret(Name="mem0-key", SecretString="m0-test")
        environment = {"MEMORY_BACKEND": "platform", "MEM0_HOST": stand_in.url, "MEMORY_SECRET_ARN": secret["ARN"]}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("memory_writer.remember.POLL", 0.001)
        monkeypatch.setattr("memory_writer.remember.TIME_FOR_AN_EVENT", 0.02)
        forget()
        watch(memory_writer.handler.aws().table.meta.client)
        memory_writer.handler.make_backend("m0-test")._http.event_hooks = {"request": [before_call]}
        yield stand_in
        close_clients()
    forget()


def writing(memory: Memory, clock: Clock, crash_before: int | None = None) -> Worker:
    invocation = Invocation(f"request-{next(owners)}", lambda: clock.now, lambda: 120.0)
    return Worker(lambda: write(memory, make_backend("m0-test"), invocation), crash_before)


faults = st.sampled_from(
    ["ok", "refuse:0.001", "refuse:60", "error_before", "error_after", "drop_before", "drop_after"]
)
events = st.sampled_from(["SUCCEEDED", "empty", "slow:2", "slow:100000"])
worker = st.none() | st.integers(0, 8)  # before which call to the outside it crashes
rounds = st.lists(st.tuples(st.lists(worker, min_size=1, max_size=3), st.integers(0, 90)), min_size=1, max_size=5)


@given(
    kind=st.sampled_from(["factual", "semantic"]),
    planned=st.lists(faults, max_size=4),
    outcomes=st.lists(events, max_size=3),
    failures=st.integers(0, 2),
    delay=st.sampled_from([0, 1200]),  # seconds until Mem0 shows it: longer than a lease, shorter than the hour
    rounds=rounds,
    turns=st.lists(st.integers(0, 4), max_size=40),
)
@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def check_schedule(
    aws: Stack, mem0: HostedMem0, clock: Clock, kind: Any, planned: list[str], outcomes: list[str], failures: int,
    delay: int, rounds: list[tuple[list[int | None], int]], turns: list[int],
) -> None:  # fmt: skip
    conversation_id = f"conv_{next(conversations)}"
    metadata: dict[str, Any] = {"type": kind, "agent_id": "agent_1", "conversation_id": conversation_id}
    user_id = f"user:{conversation_id}"
    memory = Memory(user_id, kind, [{"role": "user", "content": "Move my boat."}], metadata, kind == "semantic")
    forget_plans(mem0)
    mem0.delay = delay
    mem0.plan(*planned)
    mem0.plan_events(*["FAILED"] * failures, *outcomes)

    for workers, minutes in rounds:
        run_all([writing(memory, clock, crash) for crash in workers], turns)
        clock.now += timedelta(minutes=minutes)
    forget_plans(mem0)
    for _ in range(20):  # SQS, and a redrive: no more faults, but the same rules
        clock.now += timedelta(minutes=12)
        run_all([writing(memory, clock)], [])

    entry = aws.items()[conversation_id, f"memory#{kind}"]
    assert entry["state"] == "done"
    stored = mem0.memories(user_id)
    assert len(stored) <= 1  # one message leaves one memory, however often it was tried
    if "empty" not in outcomes:  # an event that stored nothing, and whose answer was lost, cannot be told from none
        assert (len(stored), mem0.adds(conversation_id, kind)) == (1, 1)
    assert entry["memory_ids"] == [each["id"] for each in stored]
    assert "owner" not in entry


def forget_plans(mem0: HostedMem0) -> None:
    with mem0._lock:
        mem0._faults.clear()
        mem0._outcomes.clear()


def test_no_schedule_loses_a_memory_or_writes_one_twice(aws, mem0, clock):
    check_schedule(aws, mem0, clock)
