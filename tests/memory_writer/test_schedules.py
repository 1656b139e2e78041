"""Each memory is written exactly once, under random schedules of crashes, duplicates, retries and faults of Mem0."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.core.models import botocore_stubber

import archiver.handler
import memory_writer.handler
from memory_writer.handler import Invocation, make_backend, write
from memory_writer.memory import Memory
from scripts.operations.replay import mark_unknown
from shared.errors import LeaseError
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack, close_clients, forget, sqs_event
from tests.mem0_stand_in import HostedMem0
from tests.schedules import Worker, before_call, run_all, watch

conversations, owners = count(1), count(1)


class Clock:
    """The clock of the workers and of Mem0. It does not move while they run."""

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
worker = st.none() | st.integers(0, 8)  # the external call before which it crashes
rounds = st.lists(st.tuples(st.lists(worker, min_size=1, max_size=3), st.integers(0, 90)), min_size=1, max_size=5)


@given(
    kind=st.sampled_from(["factual", "semantic"]),
    planned=st.lists(faults, max_size=4),
    outcomes=st.lists(events, max_size=3),
    failures=st.integers(0, 2),
    delay=st.sampled_from([0, 1200]),  # seconds until Mem0 lists it: longer than a lease, shorter than the hour
    rounds=rounds,
    turns=st.lists(st.integers(0, 4), max_size=40),
)
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    handled = 0
    for _ in range(20):  # retries of SQS and a redrive, without further faults; once it is handled, it comes twice more
        clock.now += timedelta(minutes=12)
        last = writing(memory, clock)
        run_all([last], [])
        handled += last.error is None
        if handled == 3:
            break

    entry = aws.items()[conversation_id, f"memory#{kind}"]
    assert entry["state"] == "done"
    stored = mem0.memories(user_id)
    assert len(stored) <= 1  # one message leaves one memory, regardless of retries
    if "empty" not in outcomes:  # an event that stored nothing and whose answer was lost looks like no event
        assert (len(stored), mem0.adds(conversation_id, kind)) == (1, 1)
    assert entry["memory_ids"] == [each["id"] for each in stored]
    assert "owner" not in entry


def forget_plans(mem0: HostedMem0) -> None:
    with mem0._lock:
        mem0._faults.clear()
        mem0._outcomes.clear()


def test_no_schedule_loses_a_memory_or_writes_one_twice(aws, mem0, clock):
    check_schedule(aws, mem0, clock)


def make_memory(kind: Any = "semantic") -> Memory:
    """With inference Mem0 answers before it has finished; without, at once. It lists the memory later in both cases."""
    conversation_id = f"conv_{next(conversations)}"
    metadata: dict[str, Any] = {"type": kind, "agent_id": "agent_1", "conversation_id": conversation_id}
    messages = [{"role": "user", "content": "Move my boat."}]
    return Memory(f"user:{conversation_id}", kind, messages, metadata, kind == "semantic")


def retry(memory: Memory, clock: Clock, minutes: int) -> None:
    """Retry the message every 12 minutes for this long, like SQS."""
    for _ in range(minutes // 12):
        clock.now += timedelta(minutes=12)
        run_all([writing(memory, clock)], [])


def test_a_worker_that_stalls_before_it_takes_the_lease_writes_nothing_twice(aws, mem0, clock):
    memory = make_memory()
    mem0.delay = 1200
    run_all([writing(memory, clock, crash_before=2)], [])  # killed between taking the lease and sending
    retry(memory, clock, 48)
    clock.now += timedelta(minutes=13)
    mem0.plan("drop_after")

    stalled, other = writing(memory, clock), writing(memory, clock)
    run_all([stalled, other], [0, 0, *[1] * 20])  # it reads; then the other worker sends, and its answer is lost

    assert isinstance(stalled.error, LeaseError)
    retry(memory, clock, 120)
    conversation_id = str(memory.metadata["conversation_id"])
    assert mem0.adds(conversation_id, "semantic") == 1
    assert aws.items()[conversation_id, "memory#semantic"]["state"] == "done"


@pytest.mark.parametrize("lost", range(3), ids=["the lease", "that it was sent", "that it is done"])
def test_a_worker_recognises_its_own_write_after_a_lost_answer(aws, mem0, clock, lost):
    memory, updates = make_memory(), count()
    client = memory_writer.handler.aws().table.meta.client

    def lose(request: Any, event_name: str, **options: Any) -> Any:
        answer = botocore_stubber(event_name, request, **options)  # DynamoDB executes it
        if next(updates) == lost:
            raise ReadTimeoutError(endpoint_url="https://dynamodb.us-east-1.amazonaws.com")
        return answer

    client.meta.events.register_first("before-send.dynamodb.UpdateItem", lose)
    worker = writing(memory, clock)
    run_all([worker], [])

    conversation_id = str(memory.metadata["conversation_id"])
    assert worker.error is None
    assert next(updates) > 3  # botocore repeated one of them
    assert mem0.adds(conversation_id, "semantic") == 1
    assert aws.items()[conversation_id, "memory#semantic"]["state"] == "done"


def test_a_forced_memory_that_mem0_does_not_list_yet_is_not_written_twice(aws, mem0, clock):
    memory = make_memory("factual")
    mem0.delay = 1200
    run_all([writing(memory, clock)], [])
    conversation_id = str(memory.metadata["conversation_id"])
    assert aws.items()[conversation_id, "memory#factual"]["state"] == "done"

    mark_unknown(memory_writer.handler.aws().table, conversation_id)
    retry(memory, clock, 120)

    assert mem0.adds(conversation_id, "factual") == 1
    assert aws.items()[conversation_id, "memory#factual"]["state"] == "done"


CALLERS = ("+12025550123", "+12025550199")


def told(conversation_id: str, caller: int, at: int) -> dict[str, Any]:
    """A transcript in which every turn and the summary contain the caller's number."""
    data = {
        "conversation_id": conversation_id, "transcript": [{"role": "user", "message": f"I am {CALLERS[caller]}."}],
        "analysis": {"transcript_summary": f"{CALLERS[caller]} called."},
        "metadata": {"phone_call": {"external_number": CALLERS[caller]}},
    }  # fmt: skip
    return {"type": "post_call_transcription", "event_timestamp": at, "data": data}


def record_of(message: str) -> SQSRecord:
    return SQSRecord(sqs_event(message)["Records"][0])


def archiving(check: str, crash_before: int | None = None) -> Worker:
    return Worker(lambda: archiver.handler.handle_record(record_of(check)), crash_before)


def remembering(message: str, clock: Clock, crash_before: int | None = None) -> Worker:
    invocation = Invocation(f"request-{next(owners)}", lambda: clock.now, lambda: 120.0)
    return Worker(lambda: memory_writer.handler.handle_record(record_of(message), invocation), crash_before)


class FinalsRefused:
    """S3 refuses this number of final objects, so that calls are announced from their staged bodies."""

    def __init__(self) -> None:
        self.times = 0
        archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", self._refuse)

    def _refuse(self, params: dict[str, Any], **_: Any) -> None:
        if self.times and "/staging/" not in params["url"]:
            self.times -= 1
            raise ClientError({"Error": {"Code": "InternalError"}}, "PutObject")


@given(
    times=st.permutations([1772550278, 1772550279]),
    refused=st.integers(0, 4),
    expired=st.booleans(),  # the staged bodies are deleted before the last announcements are read
    rounds=st.lists(st.lists(st.tuples(st.integers(0, 5), worker), min_size=1, max_size=3), min_size=1, max_size=4),
    turns=st.lists(st.integers(0, 4), max_size=40),
)
@settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def check_callers(
    aws: Stack, mem0: HostedMem0, clock: Clock, finals: FinalsRefused, times: list[int], refused: int, expired: bool,
    rounds: list[list[tuple[int, int | None]]], turns: list[int],
) -> None:  # fmt: skip
    conversation_id = f"conv_{next(conversations)}"
    checks = [stage(aws, told(conversation_id, caller, at)) for caller, at in enumerate(times)]
    announced: list[str] = []
    finals.times = refused
    for planned in rounds:
        workers = [
            archiving(checks[act], crash) if act < 2 else remembering(announced[act % len(announced)], clock, crash)
            for act, crash in planned
            if act < 2 or announced
        ]
        run_all(workers, turns)
        announced += [message["Body"] for message in aws.take("Announcements")]
        clock.now += timedelta(minutes=12)
    finals.times = 0
    for check in checks:
        run_all([archiving(check)], [])
        if expired:
            aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check))
    announced += [message["Body"] for message in aws.take("Announcements")]

    for message in announced * 2:  # SQS retries them
        clock.now += timedelta(minutes=61)
        last = remembering(message, clock)
        run_all([last], [])

        assert last.error is None
    told_of = [(each["user_id"], each["memory"]) for number in CALLERS for each in mem0.memories(number)]
    assert all(number in memory for number, memory in told_of)
    assert {aws.items()[conversation_id, f"memory#{kind}"]["state"] for kind in ("factual", "semantic")} == {"done"}
    assert sorted(mem0.adds(conversation_id, kind) for kind in ("factual", "semantic")) == [1, 1]


def test_no_schedule_gives_one_callers_words_to_another(aws, mem0, clock):
    ours, theirs = memory_writer.handler.aws(), archiver.handler.aws()
    watch(ours.bucket._s3, theirs.bucket._s3, theirs.table.meta.client, theirs.sqs)
    watch(archiver.handler.sns())

    check_callers(aws, mem0, clock, FinalsRefused())
