"""An announced call becomes its memories, once."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import memory_writer.handler
from memory_writer.handler import lambda_handler
from memory_writer.memories import build_memories
from tests.conftest import sqs_event
from tests.memory_writer.conftest import (
    CALLER,
    FULL_ID,
    announce,
    announce_staged,
    conversation,
    full_call,
    json_announcement,
    ledger,
    small_call,
)


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


def test_two_concurrent_workers_remember_a_call_once(aws, mem0, context):
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


def test_the_staged_body_is_read_if_the_final_json_cannot_be_written(aws, mem0, remember):
    assert remember(announce_staged(aws, small_call())) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]


def test_a_call_with_half_an_emoji_is_remembered(aws, mem0, remember):
    call = small_call(transcript=[{"role": "user", "message": "half \ud83d"}], analysis={"summary": "\udc00"})

    assert remember(announce(aws, call)) == []

    assert sorted(each["memory"] for each in mem0(CALLER)) == ["?", "half ?"]


@pytest.mark.parametrize(
    "nothing_said",
    [
        {"transcript": None}, {"transcript": []}, {"transcript": [{"role": "user", "message": "..."}]},
        {"transcript": [{"role": "agent", "message": None, "tool_calls": [{"tool_name": "find"}]}]},
        {"transcript": [{"role": "system", "message": "not one of the two"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_call_with_nothing_to_say_is_done_with_a_reason(aws, mem0, remember, nothing_said):
    assert remember(announce(aws, small_call(**nothing_said))) == []

    assert mem0(CALLER) == []
    assert [ledger(aws, kind=kind)["reason"] for kind in ("factual", "semantic")] == ["nothing_to_say"] * 2


def test_a_call_without_a_user_id_is_not_remembered(aws, mem0, remember, logs):
    assert remember(announce(aws, small_call(), number=None)) == []

    assert aws.items() == {}
    assert "No user id: skipping memory" in logs.getvalue()


def test_a_call_of_a_client_with_spaces_in_its_id_is_remembered(aws, mem0, remember):
    assert remember(announce(aws, small_call(user_id="two words"), number=None)) == []

    assert len(mem0("user:two%20words")) == 1


@pytest.mark.parametrize("message", ["", "not json", "[]", '{"version": 1, "event": "transcript_archived"}'])
def test_a_message_that_is_not_an_announcement_goes_to_the_dlq_with_its_reason(aws, mem0, remember, message):
    assert remember(message) == []

    assert aws.reasons("MemoryDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]


@pytest.mark.parametrize(
    "changes",
    [
        {"conversation_id": ""}, {"conversation_id": "+12025550123"}, {"conversation_id": "x" * 3000},
        {"conversation_id": "../conv_1"}, {"source_key": ""}, {"source_key": "x" * 3000},
        {"source_key": "../conv_1.json"}, {"source_key": "no-phone/conv_1.mp3"},
    ],
    ids=lambda changes: str(changes)[:40],
)  # fmt: skip
def test_an_announcement_with_an_invalid_id_or_key_goes_to_the_dlq(aws, mem0, remember, logs, changes):
    assert remember(announce(aws, small_call(), **changes)) == []

    assert aws.reasons("MemoryDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]
    assert "+12025550123" not in logs.getvalue()


def test_an_announcement_without_its_object_goes_to_the_dlq(aws, mem0, remember):
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


def test_the_memories_of_a_call_that_is_erased_later_are_deleted(aws, mem0, remember):
    other = small_call(conversation_id="conv_2")
    message = announce(aws, small_call())
    remember(message, announce(aws, other))
    memory_writer.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")

    assert remember(message) == []
    assert remember(message) == []

    assert {each["metadata"]["conversation_id"] for each in mem0(CALLER)} == {"conv_2"}
    assert ledger(aws) == ledger(aws, kind="factual") == {}


def test_logs_contain_no_number_and_no_transcript(aws, mem0, remember, logs, capfd):
    remember(announce(aws, full_call()), announce(aws, small_call(), source_key="gone"))

    logged = logs.getvalue() + "".join(capfd.readouterr())
    assert "Memory done" in logged
    for private in ("2025550123", "mooring", "boat"):
        assert private not in logged


def test_a_call_whose_json_is_compressed_is_remembered_like_any_other(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    compressed, metadata = gzip.compress(json.dumps(small_call()).encode()), aws.head(key)["Metadata"]
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=compressed, ContentEncoding="gzip", Metadata=metadata)

    assert remember(message) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]
