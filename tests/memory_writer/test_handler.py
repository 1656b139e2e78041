"""The memory writer through its handler, with the real Mem0 on its embedded configuration."""

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import memory_writer.handler
from memory_writer.embedded import embedded_config
from memory_writer.handler import lambda_handler, memory_backend
from memory_writer.memories import build_memories, facts, find_user, turns
from memory_writer.oss import open_memory
from shared.conversation import Conversation, read_conversation
from shared.messages import Announcement
from shared.parts import read_json
from shared.record import Call
from tests.conftest import Stack, fixture_body, forget, sqs_event

FULL_ID = "conv_fixture00000000000000000full"
CALLER = "+12025550123"


@pytest.fixture
def mem0(aws: Stack, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict]]:
    """Point the handler to an empty embedded Mem0; returns what is remembered of a user."""
    config = embedded_config(str(tmp_path / "mem0"))
    secret = boto3.client("secretsmanager").create_secret(Name="memory-config", SecretString=json.dumps(config))
    monkeypatch.setenv("MEMORY_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("DLQ_URL", aws.outputs["MemoryDlqUrl"])
    forget()

    def remembered(user_id: str) -> list[dict]:
        with open_memory(config) as store:
            return store.get_all(filters={"user_id": user_id}, top_k=1000, show_expired=True)["results"]

    return remembered


def put_call(aws: Stack, data: dict, number: str | None = CALLER, order: str = "1-1") -> str:
    """A call's JSON in the archive, as the archiver puts it there; returns its key."""
    key = f"{(number or 'no-phone').lstrip('+')}/{data['conversation_id']}.json"
    named = {"external_number": number, "agent_id": data.get("agent_id"), "order": order}
    aws.s3.put_object(
        Bucket=aws.bucket, Key=key, Body=json.dumps(data).encode(),
        Metadata={name: value for name, value in named.items() if value},
    )  # fmt: skip
    return key


def announce(aws: Stack, data: dict, number: str | None = CALLER, **changes: Any) -> str:
    """Put a call's JSON into the archive and announce it as the archiver does."""
    key = put_call(aws, data, number)
    fields = {
        "event": "transcript_archived", "conversation_id": data["conversation_id"], "agent_id": data.get("agent_id"),
        "external_number": number, "order": "1-1", "source_key": key, "json_key": key, "mp3_key": None,
        "audio": "pending",
    }  # fmt: skip
    return Announcement(**(fields | changes)).to_json()


def full_call() -> dict:
    return json.loads(fixture_body("02"))["data"]


def small_call(**fields: Any) -> dict:
    turn = {"role": "user", "message": "Please move my boat."}
    return {"conversation_id": "conv_1", "agent_id": "agent_1", "transcript": [turn]} | fields


def conversation(**data: Any) -> Conversation:
    return read_conversation(read_json(json.dumps(data).encode()))


def ledger(aws: Stack, conversation_id: str = "conv_1", kind: str = "semantic") -> dict:
    return aws.items().get((conversation_id, f"memory#{kind}"), {})


def test_a_call_is_remembered_by_its_facts_and_its_turns(aws, mem0, remember):
    assert remember(announce(aws, full_call())) == []

    memories = mem0(CALLER)
    factual = [each for each in memories if each["metadata"]["type"] == "factual"]
    assert [each["memory"] for each in factual] == [
        "The caller moved a mooring to Thursday.\n"
        "goal_met: success. The mooring was moved.\n"
        "name_captured: unknown. Name given late in the call."
    ]
    assert factual[0]["metadata"] == {
        "type": "factual", "conversation_id": FULL_ID, "call_duration": 21, "timestamp": "2026-03-03T15:04:05Z",
    }  # fmt: skip
    assert {each["agent_id"] for each in memories} == {"agent_7001fixture0agent0alpha0001"}
    said = [(turn["role"], turn["message"].strip()) for turn in full_call()["transcript"] if turn["message"]]
    semantic = {each["memory"] for each in memories if each["metadata"]["type"] == "semantic"}
    assert semantic == {text for _, text in said if text != "..."}


def test_the_ledger_keeps_what_mem0_answered(aws, mem0, remember):
    remember(announce(aws, full_call()))

    ids = {each["id"] for each in mem0(CALLER)}
    entries = [ledger(aws, FULL_ID, kind) for kind in ("factual", "semantic")]
    assert {each["state"] for each in entries} == {"done"}
    assert {id_ for each in entries for id_ in each["memory_ids"]} == ids
    assert all("owner" not in each and "lease_until" not in each for each in entries)


def test_a_duplicate_or_a_later_version_is_not_remembered_again(aws, mem0, remember):
    remember(announce(aws, small_call()))
    before = mem0(CALLER), aws.items()
    later = small_call(transcript=[{"role": "user", "message": "Another text altogether."}])

    assert remember(announce(aws, small_call())) == []
    assert remember(announce(aws, later)) == []

    assert (mem0(CALLER), aws.items()) == before


def test_two_workers_at_the_same_moment_remember_a_call_once(aws, mem0, context):
    message = announce(aws, full_call())

    def work(number: int) -> dict:
        own = SimpleNamespace(**(vars(context) | {"aws_request_id": f"request-{number}"}))
        return lambda_handler(sqs_event(message), own)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    remaining = work(3)["batchItemFailures"]

    assert remaining == []
    expected = build_memories(json_announcement(message), conversation(**full_call()), CALLER, False)
    assert len(mem0(CALLER)) == sum(len(memory.messages) for memory in expected)


def json_announcement(message: str) -> Announcement:
    return Announcement(**json.loads(message))


def test_the_staged_body_serves_while_the_final_json_cannot_be_written(aws, mem0, remember):
    assert remember(announce_staged(aws, small_call())) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]


OTHER = "+12025550199"
STAGED = "staging/2026/11/22/10/" + "0" * 64 + ".json"


def announce_staged(aws: Stack, data: dict) -> str:
    """Stage a call of CALLER and announce it as the archiver does while its final JSON cannot be written."""
    body = {"type": "post_call_transcription", "data": data}
    aws.s3.put_object(Bucket=aws.bucket, Key=STAGED, Body=json.dumps(body).encode())
    return announce(aws, data, json_key=None, source_key=STAGED)


def other_words(**fields: Any) -> dict:
    return small_call(agent_id="agent_2", transcript=[{"role": "user", "message": "I sold my house."}], **fields)


def note(aws: Stack, **values: str) -> None:
    """Write the call's record."""
    item = {"conversation_id": "conv_1", "item": "call", **values}
    aws.dynamodb.put_item(TableName="conversations", Item={name: {"S": text} for name, text in item.items()})


def test_the_words_of_a_later_version_are_remembered_for_its_own_caller(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    named = {"external_number": OTHER, "agent_id": "agent_2", "order": "1-2"}
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=json.dumps(other_words()).encode(), Metadata=named)

    assert remember(message) == []

    assert mem0(CALLER) == []
    assert [(each["memory"], each["agent_id"]) for each in mem0(OTHER)] == [("I sold my house.", "agent_2")]


def test_a_later_version_without_a_caller_is_remembered_for_nobody(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=json.dumps(other_words()).encode(), Metadata={"order": "1-2"})

    assert remember(message) == []

    assert mem0(CALLER) == []


def test_a_staged_body_is_remembered_for_its_own_caller_whoever_called_by_a_later_version(aws, mem0, remember):
    message = announce_staged(aws, small_call())
    note(aws, json_key=put_call(aws, other_words(), OTHER, "1-2"), external_number=OTHER)

    assert remember(message) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]
    assert mem0(OTHER) == []


def test_a_staged_body_that_is_gone_is_replaced_by_what_the_record_names(aws, mem0, remember):
    message = announce_staged(aws, small_call())
    aws.s3.delete_object(Bucket=aws.bucket, Key=STAGED)
    note(aws, json_key=put_call(aws, other_words(), OTHER, "1-2"), external_number=OTHER)

    assert remember(message) == []

    assert mem0(CALLER) == []
    assert [each["memory"] for each in mem0(OTHER)] == ["I sold my house."]
    assert aws.reasons("MemoryDlqUrl") == []


@pytest.mark.parametrize("values", [{}, {"json_key": "12025550123/conv_gone.json"}], ids=["no key", "no object"])
def test_a_call_of_which_nothing_is_left_goes_to_the_dlq(aws, mem0, remember, values):
    message = announce_staged(aws, small_call())
    aws.s3.delete_object(Bucket=aws.bucket, Key=STAGED)
    note(aws, **values)

    assert remember(message) == []

    assert aws.reasons("MemoryDlqUrl") == [
        ("source", "The object under the announcement's source_key no longer exists.")
    ]


def test_an_erased_call_whose_staged_body_is_gone_is_dropped(aws, mem0, remember):
    message = announce_staged(aws, small_call())
    aws.s3.delete_object(Bucket=aws.bucket, Key=STAGED)
    note(aws, erased_at="2026-11-22T10:00:00Z", json_key=put_call(aws, other_words(), OTHER, "1-2"))

    assert remember(message) == []

    assert mem0(CALLER) == mem0(OTHER) == []
    assert aws.reasons("MemoryDlqUrl") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"type": "post_call_transcription", "data": {"conversation_id": "conv_2"}}, "does not contain the call."),
        ({"type": "post_call_audio", "data": {"conversation_id": "conv_1"}}, "does not contain the call."),
        (7, "The body is JSON, but not an object."),
    ],
    ids=["another call", "audio", "no event"],
)
def test_a_staged_body_that_does_not_hold_the_call_goes_to_the_dlq(aws, mem0, remember, body, reason):
    message = announce_staged(aws, small_call())
    aws.s3.put_object(Bucket=aws.bucket, Key=STAGED, Body=json.dumps(body).encode())

    assert remember(message) == []

    ((_, error),) = aws.reasons("MemoryDlqUrl")
    assert error.endswith(reason)


def interrupted(aws: Stack, minutes_ago: float) -> None:
    """The ledger as a worker leaves it that died while it sent the semantic memory."""
    started = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    item = {
        "conversation_id": "conv_1", "item": "memory#semantic", "state": "sending", "owner": "request-0",
        "started": started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "lease_until": (started + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }  # fmt: skip
    aws.dynamodb.put_item(TableName="conversations", Item={name: {"S": text} for name, text in item.items()})


def write_without_ledger(aws: Stack) -> None:
    message = json_announcement(announce(aws, small_call()))
    _, semantic = build_memories(message, conversation(**small_call()), CALLER, False)
    memory_backend().add(semantic, again=False)


@pytest.mark.parametrize("minutes_ago", [4, 61])
def test_what_mem0_got_before_a_crash_is_found_and_not_sent_again(aws, mem0, remember, minutes_ago):
    write_without_ledger(aws)
    interrupted(aws, minutes_ago)

    assert remember(announce(aws, small_call())) == []

    (memory,) = mem0(CALLER)
    assert ledger(aws)["memory_ids"] == [memory["id"]]


def test_what_mem0_does_not_have_is_sent_again_only_after_an_hour(aws, mem0, remember):
    interrupted(aws, minutes_ago=4)
    assert remember(announce(aws, small_call())) == ["message-1"]
    assert mem0(CALLER) == []
    assert ledger(aws)["state"] == "sending"

    interrupted(aws, minutes_ago=61)
    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def test_a_memory_that_another_worker_has_is_left_to_it(aws, mem0, remember):
    interrupted(aws, minutes_ago=1)
    before = ledger(aws)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws) == before
    assert mem0(CALLER) == []


@contextmanager
def configured(**changes: Any) -> Iterator[None]:
    """Mem0 configured otherwise, for a while."""
    secrets_manager = boto3.client("secretsmanager")
    before = secrets_manager.get_secret_value(SecretId="memory-config")["SecretString"]
    secrets_manager.put_secret_value(SecretId="memory-config", SecretString=json.dumps(json.loads(before) | changes))
    forget()
    yield
    secrets_manager.put_secret_value(SecretId="memory-config", SecretString=before)
    forget()


def test_a_configuration_that_mem0_does_not_take_is_said_and_leaves_nothing_undecided(aws, mem0, remember):
    with configured(vector_store={"provider": "no such store", "config": {}}):
        assert remember(announce(aws, small_call())) == []
    assert ledger(aws)["state"] == "idle"
    assert aws.reasons("MemoryDlqUrl") == [
        ("mem0", "mem0 does not accept the configuration in the stack's parameter MemoryConfig.")
    ]

    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def test_a_memory_that_a_crash_left_in_parts_ends_whole_and_once(aws, mem0, remember):
    write_without_ledger(aws)
    interrupted(aws, minutes_ago=61)
    more = [{"role": "user", "message": "Please move my boat."}, {"role": "agent", "message": "To which berth?"}]

    assert remember(announce(aws, small_call(transcript=more))) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["Please move my boat.", "To which berth?"]


def test_a_mem0_that_cannot_be_asked_stays_undecided(aws, mem0, remember):
    interrupted(aws, minutes_ago=61)

    with configured(vector_store={"provider": "no such store", "config": {}}):
        assert remember(announce(aws, small_call())) == []

    assert ledger(aws)["state"] == "sending"
    assert "owner" not in ledger(aws)


def test_a_configuration_that_is_no_json_is_said(aws, remember, monkeypatch):
    secret = boto3.client("secretsmanager").create_secret(Name="memory-config", SecretString="{provider: qdrant}")
    monkeypatch.setenv("MEMORY_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("DLQ_URL", aws.outputs["MemoryDlqUrl"])
    forget()

    assert remember(announce(aws, small_call())) == []

    assert aws.reasons("MemoryDlqUrl") == [("configuration", "The stack's parameter MemoryConfig is not JSON.")]


def test_a_library_that_fails_in_the_middle_is_tried_again_and_not_quoted(aws, mem0, remember, logs, monkeypatch):
    monkeypatch.setenv("MEMORY_INFERENCE", "true")
    nobody = {"openai_base_url": "http://127.0.0.1:9", "api_key": "sk-hidden", "model": "m"}

    with configured(llm={"provider": "openai", "config": nobody}):
        assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws)["state"] == "idle"
    assert "owner" not in ledger(aws)
    assert "mem0 failed: LLMError" in logs.getvalue()
    for private in ("sk-hidden", "boat"):
        assert private not in logs.getvalue()


def test_a_crash_after_mem0_answered_is_found_out(aws, mem0, remember):
    """The answer is lost between Mem0 and the ledger: DynamoDB is gone for the last update."""
    client = memory_writer.handler.aws().table.meta.client
    calls = count()

    def refuse(params: dict, **_: Any) -> None:
        if b"memory#semantic" in params["body"] and next(calls) == 1:  # it is acquired, and finished
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "UpdateItem")

    client.meta.events.register("before-call.dynamodb.UpdateItem", refuse, unique_id="refuse")
    transcript = [{"role": "user", "message": "Please move my boat."}]
    call = small_call(analysis={"transcript_summary": "A boat is moved."}, transcript=transcript)
    assert remember(announce(aws, call)) == ["message-1"]
    client.meta.events.unregister("before-call.dynamodb.UpdateItem", unique_id="refuse")
    assert ledger(aws)["state"] == "sending"

    let_the_lease_run_out(aws)
    assert remember(announce(aws, call)) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["A boat is moved.", "Please move my boat."]


def let_the_lease_run_out(aws: Stack) -> None:
    aws.dynamodb.update_item(
        TableName="conversations",
        Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "memory#semantic"}},
        UpdateExpression="SET lease_until = :past",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00.000000Z"}},
    )


def test_a_folder_that_others_keep_locked_leaves_nothing_undecided(aws, mem0, remember, monkeypatch):
    config = json.loads(memory_writer.handler.aws().read_secret(memory_writer.handler.settings().memory_secret_arn))
    monkeypatch.setattr("memory_writer.oss.LOCK_SECONDS", 0.1)

    with open_memory(config):
        assert remember(announce(aws, small_call())) == ["message-1"]
    assert ledger(aws)["state"] == "idle"

    assert remember(announce(aws, small_call())) == []
    assert len(mem0(CALLER)) == 1


def test_half_an_emoji_does_not_cost_the_memory(aws, mem0, remember):
    call = small_call(transcript=[{"role": "user", "message": "half \ud83d"}], analysis={"summary": "\udc00"})

    assert remember(announce(aws, call)) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["?", "half ?"]


@pytest.mark.parametrize(
    "silent",
    [
        {"transcript": None}, {"transcript": []}, {"transcript": [{"role": "user", "message": "..."}]},
        {"transcript": [{"role": "agent", "message": None, "tool_calls": [{"tool_name": "find"}]}]},
        {"transcript": [{"role": "system", "message": "not one of the two"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_call_with_nothing_to_say_is_done_and_says_why(aws, mem0, remember, silent):
    assert remember(announce(aws, small_call(**silent))) == []

    assert mem0(CALLER) == []
    assert [ledger(aws, kind=kind)["reason"] for kind in ("factual", "semantic")] == ["nothing_to_say"] * 2


@pytest.mark.parametrize(
    ("number", "fields", "user_id"),
    [
        ("+12025550123", {"user_id": "crm-1"}, "+12025550123"),
        ("12025550123", {}, "12025550123"),
        (None, {"user_id": "crm-1"}, "user:crm-1"),
        (None, {"user_id": "+12025550123"}, "user:+12025550123"),
        (None, {"conversation_initiation_client_data": {"user_id": "web-1"}}, "user:web-1"),
        (None, {"user_id": "two words"}, "user:two%20words"),
        (None, {"user_id": ""}, None),
        (None, {}, None),
    ],
    ids=str,
)  # fmt: skip
def test_memories_belong_to_the_caller_and_never_to_a_number_that_a_client_named(number, fields, user_id):
    assert find_user(Call("conv_1", external_number=number), conversation(**fields)) == user_id


def test_a_call_of_nobody_is_remembered_for_nobody(aws, mem0, remember, logs):
    assert remember(announce(aws, small_call(), number=None)) == []

    assert aws.items() == {}
    assert "No user id: skipping memory" in logs.getvalue()


def test_a_call_of_a_client_with_spaces_in_its_id_is_remembered(aws, mem0, remember):
    assert remember(announce(aws, small_call(user_id="two words"), number=None)) == []

    assert len(mem0("user:two%20words")) == 1


def test_turns_keep_their_roles_and_order_and_leave_out_what_was_not_understood():
    transcript = [
        {"role": "agent", "message": " Hello. "}, {"role": "user", "message": "..."}, {"role": "user", "message": "…"},
        {"role": "user", "content": "سلام 🙂"}, {"role": "agent", "message": None}, None,
        {"role": "agent", "message": ""},
    ]  # fmt: skip

    assert turns(conversation(transcript=transcript)) == [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "سلام 🙂"},
    ]


@pytest.mark.parametrize(
    ("analysis", "text"),
    [
        ({"summary": "Sam called.", "evaluation": {"rationale": "Greeted."}}, "Sam called.\nevaluation: Greeted."),
        ({"transcript_summary": "Sam called."}, "Sam called."),
        ({"evaluation_criteria_results": {"a": {"result": "success", "rationale": None}, "b": {}}}, "a: success."),
    ],
    ids=["legacy", "summary only", "criteria only"],
)
def test_facts_are_the_summary_and_a_line_for_each_criterion(analysis, text):
    assert facts(conversation(analysis=analysis)) == [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("analysis", [None, {}, {"transcript_summary": " "}], ids=str)
def test_no_analysis_gives_no_facts(analysis):
    assert facts(conversation(analysis=analysis)) == []


@pytest.mark.parametrize("message", ["", "not json", "[]", '{"version": 1, "event": "transcript_archived"}'])
def test_what_is_no_announcement_goes_to_the_dlq_with_its_reason(aws, mem0, remember, message):
    assert remember(message) == []

    assert aws.reasons("MemoryDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]


def test_an_announced_object_that_is_gone_goes_to_the_dlq(aws, mem0, remember):
    assert remember(announce(aws, small_call(), source_key="12025550123/other.json")) == []

    assert aws.reasons("MemoryDlqUrl") == [
        ("source", "The object under the announcement's source_key no longer exists.")
    ]


def test_an_erased_call_is_not_remembered(aws, mem0, remember):
    tombstone = {"conversation_id": "conv_1", "item": "call", "erased_at": "2026-11-22T10:00:00Z"}
    aws.dynamodb.put_item(TableName="conversations", Item={name: {"S": text} for name, text in tombstone.items()})

    assert remember(announce(aws, small_call())) == []

    assert mem0(CALLER) == []
    assert ledger(aws) == {}


def test_a_call_that_was_erased_after_it_was_remembered_is_forgotten(aws, mem0, remember):
    other = small_call(conversation_id="conv_2")
    message = announce(aws, small_call())
    remember(message, announce(aws, other))
    memory_writer.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")

    assert remember(message) == []
    assert remember(message) == []

    assert {each["metadata"]["conversation_id"] for each in mem0(CALLER)} == {"conv_2"}
    assert ledger(aws) == ledger(aws, kind="factual") == {}


def test_logs_hold_no_number_and_nothing_of_what_was_said(aws, mem0, remember, logs, capfd):
    remember(announce(aws, full_call()), announce(aws, small_call(), source_key="gone"))

    logged = logs.getvalue() + "".join(capfd.readouterr())
    assert "Memory done" in logged
    for private in ("2025550123", "mooring", "boat"):
        assert private not in logged


def started(aws: Stack) -> datetime:
    return datetime.fromisoformat(ledger(aws)["started"])


def test_the_hour_is_counted_from_the_first_sending_however_often_it_is_looked_for(aws, mem0, remember):
    interrupted(aws, minutes_ago=4)
    before = started(aws)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert started(aws) == before


def test_a_memory_that_another_worker_takes_at_the_same_moment_is_left_to_it(aws, mem0, remember):
    calls = count()

    def take(params: dict, **_: Any) -> None:
        if b"memory#semantic" in params["body"] and next(calls) == 0:  # it is about to be acquired
            interrupted(aws, minutes_ago=0)

    memory_writer.handler.aws().table.meta.client.meta.events.register("before-call.dynamodb.UpdateItem", take)

    assert remember(announce(aws, small_call())) == ["message-1"]

    assert ledger(aws)["owner"] == "request-0"
    assert mem0(CALLER) == []


def test_a_call_whose_json_is_compressed_is_remembered_like_any_other(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    compressed, metadata = gzip.compress(json.dumps(small_call()).encode()), aws.head(key)["Metadata"]
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=compressed, ContentEncoding="gzip", Metadata=metadata)

    assert remember(message) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]
