"""Recordings that no webhook delivered are fetched and archived."""

from io import BytesIO

import pytest

import archiver.handler
import reconciler.handler
from reconciler.handler import lambda_handler
from shared.errors import ElevenLabsError, PoisonError
from tests.archiver.conftest import stage
from tests.conftest import sqs_event
from tests.reconciler.conftest import FOLDER, LONGER, MP3, NOW, handle_announcement
from tests.schedules import Worker, run_all, watch


def test_a_recording_is_fetched_and_archived_byte_for_byte(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3

    handle_announcement(announced)

    (check,) = archive_all()
    assert check["staged_key"].startswith("staging/2026/11/22/10/")
    assert check["staged_key"].endswith(".mp3")
    staged = aws.head(check["staged_key"])
    assert staged["ContentType"] == "audio/mpeg"
    assert staged["Metadata"] == {
        "conversation_id": "conv_1", "agent_id": "agent_7001fixture0agent0alpha0001", "origin": "api",
    }  # fmt: skip
    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3
    assert aws.tags(f"{FOLDER}/conv_1.mp3") == {"tier": "archive"}
    assert (aws.call("conv_1")["audio"], aws.call("conv_1")["mp3_key"]) == ("archived", f"{FOLDER}/conv_1.mp3")
    assert aws.tags(check["staged_key"]) == {"archived": "true"}
    assert [each["event"] for each in aws.announcements()] == ["audio_archived"]


def test_a_repeated_announcement_stores_nothing_twice(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    handle_announcement(announced)
    handle_announcement(announced)
    archive_all()
    handle_announcement(announced)

    assert archive_all() == []
    assert len(aws.versions(f"{FOLDER}/conv_1.mp3")) == 1
    assert len(aws.object_keys("staging/")) == 2


@pytest.mark.parametrize("second", [LONGER, MP3[:100]], ids=["a longer one", "a shorter one"])
def test_of_two_recordings_of_a_call_the_longer_one_is_staged(aws, elevenlabs, announced, second):
    for recording in (MP3, second):
        elevenlabs.audio["conv_1"] = recording
        handle_announcement(announced)

    (key,) = [key for key in aws.object_keys("staging/") if key.endswith(".mp3")]
    assert aws.body(key) == max(MP3, second, key=len)
    assert len(aws.take("ArchiveQueueUrl")) == 2


def test_a_replaced_recording_does_not_keep_the_previous_ones_tag(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    handle_announcement(announced)
    (check,) = archive_all()
    assert aws.tags(check["staged_key"]) == {"archived": "true"}

    reconciler.handler.staging().stage_recording("conv_1", None, BytesIO(LONGER), NOW)

    assert (aws.body(check["staged_key"]), aws.tags(check["staged_key"])) == (LONGER, {})


@pytest.mark.parametrize("turns", [[0, 1], [1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 0]])
def test_of_two_recordings_staged_concurrently_the_longer_one_wins(aws, elevenlabs, announced, turns):
    staging = reconciler.handler.staging()
    watch(reconciler.handler.aws().bucket._s3)
    workers = [
        Worker(lambda sound=sound: staging.stage_recording("conv_1", None, BytesIO(sound), NOW))
        for sound in (MP3, LONGER)
    ]

    run_all(workers, turns)

    assert [worker.error for worker in workers] == [None, None]
    (key,) = [key for key in aws.object_keys("staging/") if key.endswith(".mp3")]
    assert aws.body(key) == LONGER


def test_if_a_webhook_arrives_first_nothing_is_fetched(aws, elevenlabs, announced, context):
    elevenlabs.audio["conv_1"] = MP3
    sent = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    archiver.handler.lambda_handler(sqs_event(stage(aws, sent)), context)

    handle_announcement(announced)

    assert [request.route for request in elevenlabs.requests] == []
    assert aws.body(f"{FOLDER}/conv_1.mp3") == b"ID3"


def test_an_erased_call_is_not_fetched(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    handle_announcement(announced)

    assert archive_all() == []
    assert elevenlabs.requests == []


def test_a_call_that_is_erased_while_it_is_fetched_is_not_archived(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    handle_announcement(announced)
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    archive_all()

    assert f"{FOLDER}/conv_1.mp3" not in aws.object_keys()


def test_a_message_that_is_not_an_announcement_goes_to_the_dlq(aws, elevenlabs, context):
    assert lambda_handler(sqs_event("not json"), context) == {"batchItemFailures": []}

    assert aws.reasons("AudioDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]


def test_nothing_is_fetched_for_a_call_that_is_not_archived(aws, elevenlabs, announced):
    handle_announcement(announced.replace("conv_1", "conv_2"))

    assert elevenlabs.requests == []


def test_poison_is_not_an_error_of_elevenlabs():
    assert not issubclass(ElevenLabsError, PoisonError)
