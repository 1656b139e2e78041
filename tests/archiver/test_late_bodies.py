"""Bodies of an erased call that arrive late."""

import json

import pytest
from botocore.exceptions import ClientError

import archiver.handler
from tests.archiver.conftest import (
    audio,
    envelope,
    erase,
    refuse,
    stage,
    stage_recording,
    staged_key,
    transcript,
)


def test_no_event_of_an_erased_call_is_archived(aws, archive):
    aws.dynamodb.put_item(
        TableName="conversations",
        Item={name: {"S": text} for name, text in
              {"conversation_id": "conv_1", "item": "call", "erased_at": "2026-11-22T10:00:00Z"}.items()},
    )  # fmt: skip
    before = aws.items()

    failed = archive(
        *(stage(aws, body) for body in (transcript(), audio(), envelope({"conversation_id": "conv_1"}, "x")))
    )

    assert failed == []
    assert aws.object_keys() == aws.object_keys("staging/") == set()
    assert {key: item for key, item in aws.items().items() if key[0] not in ("#discarded", "#days")} == before
    assert aws.announcements() == []


@pytest.mark.parametrize("late", [transcript(), audio(), envelope({"conversation_id": "conv_1"}, "x")])
def test_a_late_body_of_an_erased_call_is_deleted_and_its_second_claim_check_dropped(aws, archive, late):
    erase(aws)
    check = stage(aws, late)
    aws.s3.put_object(Bucket=aws.bucket, Key=staged_key(check), Body=json.dumps(late).encode())

    assert archive(check) == []
    assert archive(check) == []

    assert "Versions" not in aws.s3.list_object_versions(Bucket=aws.bucket)
    assert aws.reasons() == []


def test_a_retry_deletes_a_late_body_after_a_crash(aws, archive):
    erase(aws)
    check = stage(aws, transcript())
    events = archiver.handler.aws().bucket._s3.meta.events

    def crash(**_: object) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": ""}}, "DeleteObject")

    events.register("before-call.s3.DeleteObject", crash)
    assert archive(check) == ["message-1"]
    events.unregister("before-call.s3.DeleteObject", crash)

    assert archive(check) == []
    assert aws.object_keys("staging/") == set()


def test_a_recording_that_was_fetched_for_an_erased_call_is_deleted(aws, archive):
    erase(aws)

    assert archive(stage_recording(aws, "conv_1", b"ID3 sound")) == []

    assert aws.object_keys("staging/") == set()


def test_a_late_body_that_cannot_be_deleted_yet_expires(aws, archive):
    erase(aws)
    check = stage(aws, transcript())
    refuse("DeleteObject", on=".json")

    assert archive(check) == []

    assert aws.tags(staged_key(check)) == {"archived": "true"}
