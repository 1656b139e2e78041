"""Calls whose words were heard by Amazon Transcribe."""

import json

import pytest

from api.recorded import Recorded
from tests.alarms import Deployed
from tests.api.conftest import Get, token
from tests.conftest import Stack
from tests.transcriber.conftest import RESULT, SUBTITLES, archive, spoken


def transcribed(aws: Stack, result: bytes = RESULT, *, words: str = "") -> None:
    """A call as the archiver and the transcriber leave it."""
    archive(aws, words=words)
    kept = {"12025550123/conv_1.transcribe.json": result, "12025550123/conv_1.vtt": SUBTITLES}
    for key, body in kept.items():
        aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=body)
    aws.dynamodb.update_item(
        TableName=aws.outputs["ConversationTableName"],
        Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
        UpdateExpression="SET event_keys = :keys", ExpressionAttributeValues={":keys": {"SS": list(kept)}},
    )  # fmt: skip


def test_a_call_without_words_has_those_of_its_recording(aws, get: Get) -> None:
    transcribed(aws)

    answer = get("/calls/conv_1/transcript")

    assert answer["source"] == "transcribe"
    assert [(turn["index"], turn["role"], turn["message"], turn["at_secs"]) for turn in answer["turns"]] == [
        (0, "speaker_0", "Hello.", 0.2), (1, "speaker_1", "My refund?", 1.5),
    ]  # fmt: skip


def test_a_call_with_words_of_its_own_keeps_them(aws, get: Get) -> None:
    transcribed(aws, words="Where is my refund?")

    answer = get("/calls/conv_1/transcript")

    assert "source" not in answer
    assert [turn["message"] for turn in answer["turns"]] == ["Where is my refund?"]


@pytest.mark.parametrize("result", [b"not json", b"{}"])
def test_a_result_without_words_changes_nothing(aws, get: Get, result: bytes) -> None:
    transcribed(aws, result)

    assert get("/calls/conv_1/transcript") == {"turns": []}


def test_numbers_that_were_said_are_masked_like_those_in_transcripts(aws, get: Get) -> None:
    transcribed(aws, spoken(("spk_0", "+12025550123", 0.1)))

    (turn,) = get("/calls/conv_1/transcript", authorizer=token("calls:read"))["turns"]

    assert turn["message"] == "+120…123"


def test_a_calls_files_name_the_words_and_the_subtitles(aws, get: Get) -> None:
    transcribed(aws)

    kinds = {file["kind"]: file["name"] for file in get("/calls/conv_1")["files"]}

    assert (kinds["transcription"], kinds["subtitles"]) == ("conv_1.transcribe.json", "conv_1.vtt")


def test_readers_may_not_read_what_amazon_transcribe_works_on() -> None:
    (role,) = (each for name, each in Deployed().of("AWS::IAM::Role").items() if name == "ReadRole")

    denied = [each for each in role["Policies"][0]["PolicyDocument"]["Statement"] if each["Effect"] == "Deny"]

    assert denied[0]["Resource"] == ["Bucket.Arn/staging/*", "Bucket.Arn/transcribe/*"]


@pytest.mark.parametrize(
    ("turns", "has"), [([], False), ([{"message": "..."}, {"message": "Hi"}], True), ([{}], False)]
)
def test_words_are_letters_or_digits(turns, has) -> None:
    assert Recorded(json.dumps({"transcript": turns}).encode(), lambda text: text).has_words() is has
