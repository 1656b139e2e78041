"""Calls without words are found by those of their recording."""

import pytest

from shared import keys
from shared.call import Transcription
from tests.indexer.conftest import STARTED, announced, said
from tests.transcriber.conftest import RESULT, spoken

KEY = keys.call_transcription("12025550123", "conv_1")
HEARD = [("conv_1", "1-1~1-2", "Hello."), ("conv_1", "1-1~1-2", "My refund?")]


@pytest.fixture
def call(aws, records):
    """A call whose recording is transcribed; returns its announcement."""

    def make(*words: str, result: bytes | None = RESULT, order: str = "1-2") -> str:
        data = {
            "conversation_id": "conv_1", "agent_id": "agent_1",
            "transcript": [{"role": "user", "message": each} for each in words],
            "metadata": {"start_time_unix_secs": STARTED},
        }  # fmt: skip
        message = announced(aws, records, data)
        records.add_staged("conv_1", None, "now", event_key=KEY)
        aws.dynamodb.update_item(
            TableName=aws.outputs["ConversationTableName"],
            Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
            UpdateExpression="SET folder = :folder", ExpressionAttributeValues={":folder": {"S": "12025550123"}},
        )  # fmt: skip
        if result is not None:
            aws.s3.put_object(Bucket=aws.bucket, Key=KEY, Body=result, Metadata={"order": order})
        return message

    return make


def test_the_words_of_a_recording_are_indexed_where_elevenlabs_sent_none(aws, index, call):
    assert index(call("...")) == []

    assert said(aws) == HEARD
    assert aws.call("conv_1")["text_order"] == "1-1~1-2"


def test_elevenlabs_words_are_the_ones_that_are_indexed(aws, index, call):
    assert index(call("My boat.")) == []

    assert said(aws) == [("conv_1", "1-1", "My boat.")]


@pytest.mark.parametrize("result", [None, b"{}"], ids=["not written yet", "without words"])
def test_without_a_result_the_call_has_no_words(aws, index, call, result):
    assert index(call(result=result)) == []

    assert said(aws) == []
    assert aws.call("conv_1")["text_order"] == "1-1"


def test_words_that_come_later_replace_the_call_without_words(aws, index, call):
    index(call(result=None))

    assert index(call()) == []
    assert index(call(result=None)) == []  # an announcement that was late

    assert said(aws) == HEARD
    assert aws.call("conv_1")["text_order"] == "1-1~1-2"


def test_a_newer_recording_has_a_newer_version(aws, index, call):
    index(call())

    index(call(result=spoken(("spk_0", "New", 0)), order="1-3"))

    assert aws.call("conv_1")["text_order"] == "1-1~1-3"
    assert ("conv_1", "1-1~1-3", "New") in said(aws)


def test_what_the_record_says_of_the_job_does_not_matter(aws, index, call, records):
    message = call()
    records.note_transcription("conv_1", Transcription("started", "job", "1-3", 1, "now"), None)

    index(message)

    assert said(aws) == HEARD
