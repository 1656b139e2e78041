"""Whose words are remembered: later versions, staged bodies, and objects that are gone."""

import json
from typing import Any

import pytest

from tests.conftest import Stack
from tests.memory_writer.conftest import CALLER, STAGED, announce, announce_staged, put_call, small_call

OTHER = "+12025550199"


def other_words(**fields: Any) -> dict:
    return small_call(agent_id="agent_2", transcript=[{"role": "user", "message": "I sold my house."}], **fields)


def note(aws: Stack, **values: str) -> None:
    """Write the call's record."""
    item = {"conversation_id": "conv_1", "item": "call", **values}
    aws.dynamodb.put_item(TableName="conversations", Item={name: {"S": text} for name, text in item.items()})


def test_a_later_version_is_remembered_for_its_own_caller(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    named = {"external_number": OTHER, "agent_id": "agent_2", "order": "1-2"}
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=json.dumps(other_words()).encode(), Metadata=named)

    assert remember(message) == []

    assert mem0(CALLER) == []
    assert [(each["memory"], each["agent_id"]) for each in mem0(OTHER)] == [("I sold my house.", "agent_2")]


def test_a_later_version_without_a_caller_is_not_remembered(aws, mem0, remember):
    message = announce(aws, small_call())
    key = json.loads(message)["json_key"]
    aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=json.dumps(other_words()).encode(), Metadata={"order": "1-2"})

    assert remember(message) == []

    assert mem0(CALLER) == []


def test_a_staged_body_is_remembered_for_its_own_caller_and_not_a_later_versions(aws, mem0, remember):
    message = announce_staged(aws, small_call())
    note(aws, json_key=put_call(aws, other_words(), OTHER, "1-2"), external_number=OTHER)

    assert remember(message) == []

    assert [each["memory"] for each in mem0(CALLER)] == ["Please move my boat."]
    assert mem0(OTHER) == []


def test_if_the_staged_body_is_gone_the_records_json_is_read(aws, mem0, remember):
    message = announce_staged(aws, small_call())
    aws.s3.delete_object(Bucket=aws.bucket, Key=STAGED)
    note(aws, json_key=put_call(aws, other_words(), OTHER, "1-2"), external_number=OTHER)

    assert remember(message) == []

    assert mem0(CALLER) == []
    assert [each["memory"] for each in mem0(OTHER)] == ["I sold my house."]
    assert aws.reasons("MemoryDlqUrl") == []


@pytest.mark.parametrize("values", [{}, {"json_key": "12025550123/conv_gone.json"}], ids=["no key", "no object"])
def test_a_call_without_any_object_goes_to_the_dlq(aws, mem0, remember, values):
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
def test_a_staged_body_without_the_call_goes_to_the_dlq(aws, mem0, remember, body, reason):
    message = announce_staged(aws, small_call())
    aws.s3.put_object(Bucket=aws.bucket, Key=STAGED, Body=json.dumps(body).encode())

    assert remember(message) == []

    ((_, error),) = aws.reasons("MemoryDlqUrl")
    assert error.endswith(reason)
