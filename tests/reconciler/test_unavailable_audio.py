"""Recordings that cannot be fetched: retried for a day, then marked as unavailable."""

from datetime import timedelta

import pytest

import archiver.handler
import reconciler.handler
from reconciler.handler import lambda_handler
from tests.archiver.conftest import stage
from tests.conftest import sqs_event
from tests.reconciler.conftest import FOLDER, MP3, NOW, conversation, handle_announcement


def test_a_recording_that_is_not_ready_stays_pending(aws, elevenlabs, announced, archive_all):
    handle_announcement(announced)

    assert aws.call("conv_1")["audio"] == "pending"
    elevenlabs.audio["conv_1"] = MP3
    handle_announcement(announced)
    archive_all()
    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3


def test_a_recording_is_unavailable_a_day_after_the_first_failed_request(aws, elevenlabs, announced):
    for hours in (0, 23.9):
        handle_announcement(announced, NOW + timedelta(days=9, hours=hours))
        assert aws.call("conv_1")["audio"] == "pending"

    handle_announcement(announced, NOW + timedelta(days=10))

    assert aws.call("conv_1")["audio"] == "unavailable"
    assert aws.take("AudioDlqUrl") == []


def test_audio_that_arrives_after_it_was_marked_unavailable_is_archived(aws, elevenlabs, announced, context):
    handle_announcement(announced)
    handle_announcement(announced, NOW + timedelta(days=2))
    assert aws.call("conv_1")["audio"] == "unavailable"
    sent = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }

    archiver.handler.lambda_handler(sqs_event(stage(aws, sent)), context)

    assert aws.call("conv_1")["audio"] == "archived"


def test_the_audio_of_a_call_that_was_not_recorded_is_unavailable_at_once(aws, elevenlabs, announced):
    elevenlabs.conversations["conv_1"] |= {"has_audio": False}

    handle_announcement(announced)

    assert aws.call("conv_1")["audio"] == "unavailable"


def test_the_audio_of_a_deleted_call_is_unavailable_after_a_day(aws, elevenlabs, announced):
    del elevenlabs.conversations["conv_1"]

    handle_announcement(announced)
    assert aws.call("conv_1")["audio"] == "pending"
    handle_announcement(announced, NOW + timedelta(days=1))

    assert aws.call("conv_1")["audio"] == "unavailable"


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop"])
def test_a_short_fault_is_retried_and_a_long_one_left_to_the_next_pass(aws, elevenlabs, announced, archive_all, fault):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", *[fault] * 4, fault)

    handle_announcement(announced)
    assert aws.call("conv_1")["audio"] == "pending"
    handle_announcement(announced)

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
def test_after_a_day_of_any_fault_a_recording_is_unavailable_with_the_reason(aws, elevenlabs, announced, fault, reason):
    for hours in (0, 12, 23.9):
        elevenlabs.plan("audio", *[fault] * (1 if fault in ("403", "404", "422", "html") else 4))
        handle_announcement(announced, NOW + timedelta(hours=hours))
        assert aws.call("conv_1")["audio"] == "pending"

    elevenlabs.plan("audio", *[fault] * 4)
    handle_announcement(announced, NOW + timedelta(days=1))

    call = aws.call("conv_1")
    assert (call["audio"], call["audio_missing_reason"]) == ("unavailable", reason)
    assert call["audio_missing_since"] == "2026-11-22T10:30:00Z"


def test_a_refused_key_makes_no_recording_unavailable(aws, elevenlabs, announced):
    elevenlabs.plan("audio", "401", "401")

    handle_announcement(announced)
    handle_announcement(announced, NOW + timedelta(days=9))

    call = aws.call("conv_1")
    assert (call["audio"], call.get("audio_missing_since")) == ("pending", None)


def test_one_recording_that_is_refused_does_not_count_as_a_refused_key(aws, elevenlabs, announced, context, capsys):
    elevenlabs.plan("audio", "403")

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert "ElevenLabsKeyRefused" not in capsys.readouterr().out


def test_a_recording_is_marked_unavailable_although_the_answer_was_lost(aws, elevenlabs, announced, lost_answers):
    handle_announcement(announced)
    handle_announcement(announced, NOW + timedelta(days=1))

    assert aws.call("conv_1")["audio"] == "unavailable"
    given_up = reconciler.handler.aws().records.mark_audio_unavailable("conv_1")
    assert given_up is not None
    assert given_up.audio == "unavailable"


def test_audio_is_marked_as_expected_although_the_answer_was_lost(aws, elevenlabs, context, lost_answers):
    envelope = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation(has_audio=False)}
    archiver.handler.lambda_handler(sqs_event(stage(aws, envelope)), context)

    expected = reconciler.handler.aws().records.expect_audio("conv_1")

    assert expected is not None
    assert expected.audio == "pending"


def test_a_refused_key_is_one_metric_and_no_retry(aws, elevenlabs, announced, context, capsys):
    elevenlabs.key = "another"

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert '"ElevenLabsKeyRefused":[1.0]' in capsys.readouterr().out
    assert len(elevenlabs.requests) == 1
    assert aws.call("conv_1")["audio"] == "pending"
    assert aws.take("AudioDlqUrl") == []
