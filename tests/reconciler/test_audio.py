"""Recordings that no webhook brought."""

import json
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

import archiver.handler
import reconciler.handler
from reconciler.elevenlabs import PARTS
from reconciler.handler import lambda_handler
from scripts.elevenlabs_stand_in import ElevenLabs
from shared.errors import ElevenLabsError, PoisonError
from tests.archiver.conftest import stage
from tests.conftest import Stack, sqs_event
from tests.reconciler.conftest import NOW, conversation, hear
from tests.schedules import Worker, run_all, watch

MP3 = b"ID3\x04" + b"sound" * 1000
LONGER = b"ID3\x04" + b"longer" * 1000
FOLDER = "12025550123"


@pytest.fixture
def announced(aws: Stack, elevenlabs: ElevenLabs, context: Any) -> str:
    """A call that a webhook brought an hour after its end, without its audio: its announcement."""
    data = conversation(has_audio=True)
    elevenlabs.add(data)
    envelope = {"type": "post_call_transcription", "event_timestamp": 1772550278, "data": data}
    archiver.handler.lambda_handler(sqs_event(stage(aws, envelope)), context)
    return json.dumps(aws.announcements()[0])


def test_a_recording_is_fetched_and_archived_byte_for_byte(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3

    hear(announced)

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


def test_an_announcement_that_comes_twice_stores_nothing_twice(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    hear(announced)
    hear(announced)
    archive_all()
    hear(announced)

    assert archive_all() == []
    assert len(aws.versions(f"{FOLDER}/conv_1.mp3")) == 1
    assert len(aws.object_keys("staging/")) == 2


@pytest.mark.parametrize("second", [LONGER, MP3[:100]], ids=["a longer one", "a shorter one"])
def test_of_two_recordings_of_a_call_the_longer_one_is_staged(aws, elevenlabs, announced, second):
    for recording in (MP3, second):
        elevenlabs.audio["conv_1"] = recording
        hear(announced)

    (key,) = [key for key in aws.object_keys("staging/") if key.endswith(".mp3")]
    assert aws.body(key) == max(MP3, second, key=len)
    assert len(aws.take("ArchiveQueueUrl")) == 2


def test_a_recording_that_is_replaced_is_not_tagged_as_the_one_before_was(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    hear(announced)
    (check,) = archive_all()
    assert aws.tags(check["staged_key"]) == {"archived": "true"}

    reconciler.handler.staging().stage_recording("conv_1", None, BytesIO(LONGER), NOW)

    assert (aws.body(check["staged_key"]), aws.tags(check["staged_key"])) == (LONGER, {})


@pytest.mark.parametrize("turns", [[0, 1], [1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 0]])
def test_of_two_recordings_that_are_staged_at_the_same_moment_the_longer_one_wins(aws, elevenlabs, announced, turns):
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


def test_a_webhook_that_came_meanwhile_wins_and_nothing_is_fetched(aws, elevenlabs, announced, context):
    elevenlabs.audio["conv_1"] = MP3
    sent = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    archiver.handler.lambda_handler(sqs_event(stage(aws, sent)), context)

    hear(announced)

    assert [request.route for request in elevenlabs.requests] == []
    assert aws.body(f"{FOLDER}/conv_1.mp3") == b"ID3"


def test_a_recording_that_is_not_there_yet_stays_pending(aws, elevenlabs, announced, archive_all):
    hear(announced)

    assert aws.call("conv_1")["audio"] == "pending"
    elevenlabs.audio["conv_1"] = MP3
    hear(announced)
    archive_all()
    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3


def test_a_recording_is_given_up_a_day_after_it_was_first_looked_for_in_vain(aws, elevenlabs, announced):
    for hours in (0, 23.9):
        hear(announced, NOW + timedelta(days=9, hours=hours))
        assert aws.call("conv_1")["audio"] == "pending"

    hear(announced, NOW + timedelta(days=10))

    assert aws.call("conv_1")["audio"] == "unavailable"
    assert aws.take("AudioDlqUrl") == []


def test_audio_that_comes_after_it_was_given_up_is_archived(aws, elevenlabs, announced, context):
    hear(announced)
    hear(announced, NOW + timedelta(days=2))
    assert aws.call("conv_1")["audio"] == "unavailable"
    sent = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }

    archiver.handler.lambda_handler(sqs_event(stage(aws, sent)), context)

    assert aws.call("conv_1")["audio"] == "archived"


def test_a_call_that_was_not_recorded_is_given_up_at_once(aws, elevenlabs, announced):
    elevenlabs.conversations["conv_1"] |= {"has_audio": False}

    hear(announced)

    assert aws.call("conv_1")["audio"] == "unavailable"


def test_a_deleted_call_is_given_up_after_a_day_for_a_wrong_key_sees_none_either(aws, elevenlabs, announced):
    del elevenlabs.conversations["conv_1"]

    hear(announced)
    assert aws.call("conv_1")["audio"] == "pending"
    hear(announced, NOW + timedelta(days=1))

    assert aws.call("conv_1")["audio"] == "unavailable"


@pytest.mark.parametrize("fault", ["empty", "html", "truncated-json"])
def test_what_is_no_mp3_is_not_staged_and_asked_for_again(aws, elevenlabs, announced, archive_all, fault):
    elevenlabs.audio["conv_1"] = b'{"detail": "no audio"}' if fault == "truncated-json" else MP3
    if fault != "truncated-json":
        elevenlabs.plan("audio", fault)

    hear(announced)

    assert archive_all() == []
    assert aws.call("conv_1")["audio"] == "pending"


@pytest.mark.parametrize("fault", ["cut", "cut_identity"])
def test_a_recording_that_breaks_off_goes_on_at_once_where_it_was(aws, elevenlabs, announced, archive_all, fault):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", fault, fault)

    hear(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3
    first, second, third = elevenlabs.requests
    assert (first.range, second.range, third.range) == (None, f"bytes={len(MP3) // 2}-", f"bytes={len(MP3) * 3 // 4}-")
    assert second.if_range == third.if_range != first.if_range


def test_a_recording_that_changed_when_it_broke_off_is_fetched_anew(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "cut")
    elevenlabs.before_answer = lambda request: elevenlabs.audio.update(conv_1=LONGER) if request.range else None

    hear(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == LONGER


def test_a_recording_that_is_sent_whole_each_time_is_not_put_together(aws, elevenlabs, announced, archive_all):
    elevenlabs.has_ranges = False
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "cut")

    hear(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3


def test_a_recording_that_breaks_off_again_and_again_is_left_to_the_next_pass(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", *["cut"] * 30)

    hear(announced)

    assert archive_all() == []
    assert aws.call("conv_1")["audio_missing_reason"] == "ElevenLabs: the recording broke off: RemoteProtocolError"
    assert len([request for request in elevenlabs.requests if request.route == "audio"]) == PARTS


def test_a_download_leaves_a_third_of_the_functions_time_to_s3_and_the_notes(aws, elevenlabs, announced, context):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "slow:0.1")
    context.get_remaining_time_in_millis = lambda: 1500

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert aws.call("conv_1")["audio_missing_reason"] == "ElevenLabs: the recording: it takes too long"


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop"])
def test_a_short_fault_is_waited_out_and_a_long_one_left_to_the_next_pass(
    aws, elevenlabs, announced, archive_all, fault
):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", *[fault] * 4, fault)

    hear(announced)
    assert aws.call("conv_1")["audio"] == "pending"
    hear(announced)

    assert len(archive_all()) == 1
    assert aws.call("conv_1")["audio"] == "archived"


REASONS = {
    "403": "ElevenLabs answered 403",
    "404": "ElevenLabs answered 404",
    "422": "ElevenLabs answered 422",
    "500": "ElevenLabs answered 500",
    "drop": "ElevenLabs: the recording broke off: RemoteProtocolError",
    "html": "ElevenLabs: the recording is not an MP3",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=REASONS)
def test_whatever_one_recording_meets_for_a_day_it_is_given_up_with_the_reason(
    aws, elevenlabs, announced, fault, reason
):
    for hours in (0, 12, 23.9):
        elevenlabs.plan("audio", *[fault] * (1 if fault in ("403", "404", "422", "html") else 4))
        hear(announced, NOW + timedelta(hours=hours))
        assert aws.call("conv_1")["audio"] == "pending"

    elevenlabs.plan("audio", *[fault] * 4)
    hear(announced, NOW + timedelta(days=1))

    call = aws.call("conv_1")
    assert (call["audio"], call["audio_missing_reason"]) == ("unavailable", reason)
    assert call["audio_missing_since"] == "2026-11-22T10:30:00Z"


def test_a_refused_key_is_the_fault_of_no_recording(aws, elevenlabs, announced):
    elevenlabs.plan("audio", "401", "401")

    hear(announced)
    hear(announced, NOW + timedelta(days=9))

    call = aws.call("conv_1")
    assert (call["audio"], call.get("audio_missing_since")) == ("pending", None)


def test_one_recording_that_is_refused_does_not_count_as_a_refused_key(aws, elevenlabs, announced, context, capsys):
    elevenlabs.plan("audio", "403")

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert "ElevenLabsKeyRefused" not in capsys.readouterr().out


def test_a_lost_answer_changes_nothing_of_a_recording_that_is_given_up(aws, elevenlabs, announced, lost_answers):
    hear(announced)
    hear(announced, NOW + timedelta(days=1))

    assert aws.call("conv_1")["audio"] == "unavailable"
    given_up = reconciler.handler.aws().records.mark_audio_unavailable("conv_1")
    assert given_up is not None
    assert given_up.audio == "unavailable"


def test_audio_that_is_expected_after_all_is_so_though_the_answer_was_lost(aws, elevenlabs, context, lost_answers):
    envelope = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation(has_audio=False)}
    archiver.handler.lambda_handler(sqs_event(stage(aws, envelope)), context)

    expected = reconciler.handler.aws().records.expect_audio("conv_1")

    assert expected is not None
    assert expected.audio == "pending"


def test_a_slow_recording_is_whole(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "slow:0.001")

    hear(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3


def test_a_refused_key_is_one_metric_and_no_retry(aws, elevenlabs, announced, context, capsys):
    elevenlabs.key = "another"

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert '"ElevenLabsKeyRefused":[1.0]' in capsys.readouterr().out
    assert len(elevenlabs.requests) == 1
    assert aws.call("conv_1")["audio"] == "pending"
    assert aws.take("AudioDlqUrl") == []


def test_an_erased_call_is_not_fetched(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    hear(announced)

    assert archive_all() == []
    assert elevenlabs.requests == []


def test_a_call_that_is_erased_while_it_is_fetched_is_not_archived(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    hear(announced)
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    archive_all()

    assert f"{FOLDER}/conv_1.mp3" not in aws.object_keys()


def test_a_message_that_is_no_announcement_is_set_aside(aws, elevenlabs, context):
    assert lambda_handler(sqs_event("not json"), context) == {"batchItemFailures": []}

    assert aws.reasons("AudioDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]


def test_what_is_announced_and_not_archived_is_nothing_to_fetch_for(aws, elevenlabs, announced):
    hear(announced.replace("conv_1", "conv_2"))

    assert elevenlabs.requests == []


def test_poison_is_no_failure_of_elevenlabs():
    assert not issubclass(ElevenLabsError, PoisonError)
