"""The hosted platform as the backend, with a stand-in that the real mem0.MemoryClient accepts too."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import boto3
import pytest

from memory_writer.handler import Invocation, handle_record, lambda_handler
from memory_writer.platform import PlatformBackend
from shared.errors import PoisonError
from shared.record import Records
from tests.conftest import Stack, close_clients, forget, sqs_event
from tests.mem0_stand_in import HostedMem0
from tests.memory_writer.conftest import CALLER, FULL_ID, announce, full_call, ledger, small_call
from tests.processes import LONGEST


@pytest.fixture
def mem0(aws: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedMem0]:
    """The stand-in; the handler has its address and key."""
    with HostedMem0(key="m0-test") as stand_in:
        secret = boto3.client("secretsmanager").create_secret(Name="mem0-key", SecretString="m0-test\n")
        environment = {
            "MEMORY_BACKEND": "platform", "MEM0_HOST": stand_in.url, "MEMORY_SECRET_ARN": secret["ARN"],
            "DLQ_URL": aws.outputs["MemoryDlqUrl"], "MEMORY_INFERENCE": "true",
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("memory_writer.remember.POLL", 0.01)
        forget()
        yield stand_in
        close_clients()
    forget()


def adds(mem0: HostedMem0, conversation_id: str = "conv_1") -> list[int]:
    return [mem0.adds(conversation_id, kind) for kind in ("factual", "semantic")]


def call() -> dict:
    return small_call(analysis={"transcript_summary": "A boat is moved."})


def test_memories_from_our_client_are_readable_by_mem0s_own(aws, mem0, remember, monkeypatch, tmp_path):
    monkeypatch.setenv("MEM0_TELEMETRY", "False")
    monkeypatch.setenv("MEM0_DIR", str(tmp_path))
    from mem0 import MemoryClient

    assert remember(announce(aws, full_call())) == []

    client = MemoryClient(api_key="m0-test", host=mem0.url)
    found = client.get_all(filters={"AND": [{"user_id": CALLER}, {"metadata": {"conversation_id": FULL_ID}}]})[
        "results"
    ]
    shared = {
        "agent_id": "agent_7001fixture0agent0alpha0001", "conversation_id": FULL_ID, "call_duration": 21,
        "timestamp": "2026-03-03T15:04:05Z",
    }  # fmt: skip
    assert {json.dumps(each["metadata"], sort_keys=True) for each in found} == {
        json.dumps(shared | {"type": kind}, sort_keys=True) for kind in ("factual", "semantic")
    }
    (factual,) = (each for each in found if each["metadata"]["type"] == "factual")
    assert factual["memory"].startswith("The caller moved a mooring to Thursday.\ngoal_met: success.")
    client.client.close()


def test_the_ledger_keeps_a_receipt_of_each_memory(aws, mem0, remember):
    assert remember(announce(aws, call())) == []

    for kind in ("factual", "semantic"):
        entry = ledger(aws, kind=kind)
        ids = [each["id"] for each in mem0.memories(CALLER) if each["metadata"]["type"] == kind]
        assert (entry["state"], entry["memory_ids"], entry["memories"]) == ("done", ids, len(ids))
        assert entry["event_id"]
        assert entry["done_at"] >= entry["started"]


def test_an_erased_calls_memories_are_deleted_by_the_ids_in_the_ledger(aws, mem0, remember):
    message = announce(aws, call())
    remember(message)
    Records(boto3.resource("dynamodb").Table("conversations")).erase("conv_1", "2026-11-22T10:00:00Z")
    mem0.plan("error_after", route="delete")

    assert remember(message) == ["message-1"]
    assert remember(message) == []

    assert mem0.memories(CALLER) == []
    assert ledger(aws) == {}


def test_an_erased_calls_memory_that_mem0_still_processes_is_deleted_by_a_later_attempt(aws, mem0, remember):
    message = announce(aws, call())
    remember(message)
    mem0.resume()  # it has answered with the ids, and nobody can delete the memories yet
    Records(boto3.resource("dynamodb").Table("conversations")).erase("conv_1", "2026-11-22T10:00:00Z")

    assert remember(message) == ["message-1"]
    assert ledger(aws)["memory_ids"]
    mem0.settle()
    assert remember(message) == []

    assert mem0.memories(CALLER) == []
    assert ledger(aws) == {}


def test_all_memories_of_a_user_are_listed_and_deleted_and_deleting_again_is_harmless(mem0):
    backend = PlatformBackend(mem0.url, "m0-test", 5)
    for user_id in (CALLER, "+12025550142"):
        body = {"messages": [{"role": "user", "content": "One."}] * 150, "user_id": user_id, "infer": False}
        backend._request("POST", "/v3/memories/add/", json=body)
    ids = backend.list_user(CALLER)

    backend.delete([ids[0], ids[0], "gone"])
    assert sorted(backend.list_user(CALLER)) == sorted(ids[1:])
    backend.delete_user(CALLER)
    backend.delete_user(CALLER)

    assert len(ids) == 150
    assert (backend.list_user(CALLER), len(mem0.memories("+12025550142"))) == ([], 150)


def test_facts_are_stored_verbatim_and_turns_with_inference(aws, mem0, remember):
    remember(announce(aws, call()))

    sent = [body for _, path, body in mem0.requests if path.startswith("/v3/memories/add/")]
    assert {body["metadata"]["type"]: body["infer"] for body in sent} == {"factual": False, "semantic": True}
    assert all(set(body) == {"messages", "user_id", "metadata", "infer"} for body in sent)


def test_a_slow_event_is_checked_again_later_and_nothing_is_sent_again(aws, mem0, remember, monkeypatch):
    monkeypatch.setattr("memory_writer.remember.TIME_FOR_AN_EVENT", 0)
    mem0.plan_events("running:2", type="semantic")
    message = announce(aws, call())

    assert remember(message) == ["message-1"]
    assert ledger(aws)["state"] == "sent"
    assert "owner" not in ledger(aws)

    while remember(message):
        pass
    assert ledger(aws)["state"] == "done"
    assert adds(mem0) == [1, 1]


def test_a_memory_with_an_unknown_event_is_searched_for_and_never_sent_again(aws, mem0, remember):
    remember(announce(aws, call()))
    ids = ledger(aws)["memory_ids"]
    for event_id in list(mem0._events):
        mem0._events[f"forgotten-{event_id}"] = mem0._events.pop(event_id)
    aws.dynamodb.update_item(
        TableName="conversations",
        Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "memory#semantic"}},
        UpdateExpression="SET #state = :sent REMOVE memory_ids",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":sent": {"S": "sent"}},
    )

    assert remember(announce(aws, call())) == []

    assert (ledger(aws)["state"], ledger(aws)["memory_ids"]) == ("done", ids)
    assert adds(mem0) == [1, 1]


def test_a_memory_that_mem0_lost_goes_to_the_dlq_with_a_reason_after_the_hour(aws, mem0, monkeypatch):
    monkeypatch.setattr("memory_writer.remember.TIME_FOR_AN_EVENT", 0)
    mem0.plan_events("running:9", type="semantic")
    message, now = announce(aws, call()), datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)
    assert not at(aws, message, now)
    mem0._events.clear()

    assert not at(aws, message, now + timedelta(minutes=59))
    with pytest.raises(PoisonError, match="has neither its event nor the memory"):
        handle(aws, message, now + timedelta(minutes=61))

    assert [path for _, path, _ in mem0.requests].count("/v3/memories/add/") == 2  # one for each memory
    assert ledger(aws)["state"] == "sent"


def test_an_event_that_fails_is_tried_three_times_and_then_goes_to_the_dlq(aws, mem0, remember):
    mem0.plan_events("FAILED", "FAILED", "FAILED", type="semantic")
    message = announce(aws, call())

    assert [remember(message) for _ in range(3)] == [["message-1"], ["message-1"], []]

    assert aws.reasons("MemoryDlqUrl") == [("mem0", "Mem0 failed to process this memory 3 times.")]
    assert ledger(aws, kind="factual")["state"] == "done"


def test_an_event_without_results_is_done(aws, mem0, remember):
    mem0.plan_events("empty", type="semantic")

    assert remember(announce(aws, call())) == []

    assert (ledger(aws)["state"], ledger(aws)["memories"]) == ("done", 0)


@pytest.mark.parametrize("fault", ["bad", "invalid", "unauthorised", "forbidden"])
def test_a_request_that_mem0_refuses_goes_to_the_dlq_at_once_with_a_reason(aws, mem0, remember, fault):
    mem0.plan(fault, type="semantic")
    message = announce(aws, call())

    assert remember(message) == []

    ((step, error),) = aws.reasons("MemoryDlqUrl")
    assert step == "mem0"
    assert error.startswith("Mem0 refused the ")
    assert ledger(aws)["state"] == "idle"
    assert [path for _, path, _ in mem0.requests].count("/v3/memories/add/") == 2  # one for each memory

    assert remember(message) == []
    assert adds(mem0) == [1, 1]


def test_a_corrected_key_takes_effect_at_once(aws, mem0, remember):
    mem0.key = "m0-another"
    message = announce(aws, call())
    assert remember(message) == []
    ((_, error),) = aws.reasons("MemoryDlqUrl")
    assert error.startswith("Mem0 refused the key (401).")

    boto3.client("secretsmanager").put_secret_value(SecretId="mem0-key", SecretString="m0-another")

    assert remember(message) == []
    assert adds(mem0) == [1, 1]


def test_a_short_rate_limit_is_waited_for(aws, mem0, remember):
    mem0.plan("refuse:0.05", type="semantic")

    assert remember(announce(aws, call())) == []

    assert adds(mem0) == [1, 1]


def test_a_long_rate_limit_leaves_the_memory_idle_for_the_next_attempt(aws, mem0, remember):
    mem0.plan("refuse:60", type="semantic")
    message = announce(aws, call())

    assert remember(message) == ["message-1"]
    assert ledger(aws)["state"] == "idle"

    assert remember(message) == []
    assert adds(mem0) == [1, 1]


def test_one_redrive_completes_what_failed_while_mem0_was_down(aws, mem0, remember, monkeypatch):
    monkeypatch.setenv("MEM0_HOST", "http://127.0.0.1:9")
    forget()
    message = announce(aws, call())
    assert [remember(message) for _ in range(3)] == [["message-1"]] * 3
    assert [ledger(aws, kind=kind)["state"] for kind in ("factual", "semantic")] == ["idle", "idle"]

    monkeypatch.setenv("MEM0_HOST", mem0.url)
    forget()

    assert remember(message) == []
    assert adds(mem0) == [1, 1]


def test_a_call_of_35_minutes_and_300_turns_is_remembered(aws, mem0, remember):
    turns = [{"role": ("agent", "user")[n % 2], "message": f"Turn {n} of a long call 🙂 سلام."} for n in range(300)]

    assert remember(announce(aws, small_call(transcript=turns, metadata={"call_duration_secs": 2100}))) == []

    (sent,) = (body for _, path, body in mem0.requests if path.startswith("/v3/memories/add/"))
    assert [message["content"] for message in sent["messages"]] == [turn["message"] for turn in turns]
    assert sent["metadata"]["call_duration"] == 2100


def at(aws: Stack, message: str, moment: datetime) -> bool:
    """Whether the message is processed at this time; if not, SQS would retry it."""
    try:
        handle(aws, message, moment)
    except Exception:
        return False
    return True


def handle(aws: Stack, message: str, moment: datetime) -> None:
    invocation = Invocation(f"request-{moment.isoformat()}", lambda: moment, lambda: 120.0)
    handle_record(SimpleNamespace(body=message), invocation)


@pytest.mark.parametrize("fault", ["error_after", "drop_after"])
def test_after_a_lost_answer_the_memory_is_searched_for_and_never_sent_again(aws, mem0, fault):
    mem0.plan(fault, type="semantic")
    message, now = announce(aws, call()), datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)

    assert not at(aws, message, now)
    assert ledger(aws)["state"] == "sending"
    assert at(aws, message, now + timedelta(minutes=12))

    assert adds(mem0) == [1, 1]
    assert ledger(aws)["state"] == "done"


def test_an_answer_that_comes_too_late_is_a_lost_one(aws, mem0, monkeypatch):
    monkeypatch.setenv("MEMORY_TIMEOUT_SECONDS", "1")  # a quarter of it is for the answer
    forget()
    mem0.plan("hang_after:1", type="semantic")
    message, now = announce(aws, call()), datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)

    assert not at(aws, message, now)
    assert ledger(aws)["state"] == "sending"
    assert at(aws, message, now + timedelta(minutes=12))
    assert adds(mem0) == [1, 1]


@pytest.mark.parametrize("fault", ["error_before", "drop_before"])
def test_a_memory_that_never_arrived_is_sent_again_after_an_hour(aws, mem0, fault):
    mem0.plan(fault, type="semantic")
    message, now = announce(aws, call()), datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)

    handled = [at(aws, message, now + timedelta(minutes=12 * attempt)) for attempt in range(6)]

    assert handled == [False] * 5 + [True]
    assert adds(mem0) == [1, 1]


@pytest.mark.parametrize("before", ["error_before", "refuse:60"])  # sending, idle
def test_the_hour_starts_again_when_the_memory_is_sent_again(aws, mem0, before):
    mem0.plan(before, "error_before", type="semantic")
    message, now = announce(aws, call()), datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)
    assert not at(aws, message, now)

    assert not at(aws, message, now + timedelta(minutes=61))
    assert not at(aws, message, now + timedelta(minutes=120))

    assert ledger(aws)["state"] == "sending"
    assert ledger(aws)["started"] == "2026-11-22T11:01:00.000000Z"
    assert at(aws, message, now + timedelta(minutes=122))


def test_nothing_is_sent_without_time_for_the_answer(aws, mem0, context):
    hurried = SimpleNamespace(**(vars(context) | {"get_remaining_time_in_millis": lambda: 20_000}))

    assert lambda_handler(sqs_event(announce(aws, call())), hurried)["batchItemFailures"]

    assert mem0.requests == []
    assert ledger(aws)["state"] == "idle"


def test_errors_quote_neither_the_call_nor_the_key(aws, mem0, remember, logs):
    for fault in ("bad", "error_after", "drop_after", "refuse:60", "unauthorised"):
        mem0.plan(fault, fault)
        remember(announce(aws, small_call(conversation_id=f"conv_{fault[:4]}")))

    assert "Mem0" in logs.getvalue()
    for private in ("2025550123", "boat", "m0-test"):
        assert private not in logs.getvalue()


def test_the_platform_imports_nothing_of_mem0():
    import subprocess
    import sys

    code = "import memory_writer.handler, memory_writer.platform, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONGEST
    ).stdout.split()
    assert [name for name in modules if name.startswith(("mem0", "qdrant", "filelock"))] == []
