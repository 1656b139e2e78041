"""Downloads that are interrupted or slow, and answers that are not an MP3."""

import pytest

from reconciler.elevenlabs import PARTS
from reconciler.handler import lambda_handler
from tests.conftest import sqs_event
from tests.reconciler.conftest import FOLDER, LONGER, MP3, handle_announcement


@pytest.mark.parametrize("fault", ["empty", "html", "truncated-json"])
def test_an_answer_that_is_not_an_mp3_is_not_staged_and_requested_again(aws, elevenlabs, announced, archive_all, fault):
    elevenlabs.audio["conv_1"] = b'{"detail": "no audio"}' if fault == "truncated-json" else MP3
    if fault != "truncated-json":
        elevenlabs.plan("audio", fault)

    handle_announcement(announced)

    assert archive_all() == []
    assert aws.call("conv_1")["audio"] == "pending"


@pytest.mark.parametrize("fault", ["cut", "cut_identity"])
def test_an_interrupted_download_continues_at_once(aws, elevenlabs, announced, archive_all, fault):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", fault, fault)

    handle_announcement(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3
    first, second, third = elevenlabs.requests
    assert (first.range, second.range, third.range) == (None, f"bytes={len(MP3) // 2}-", f"bytes={len(MP3) * 3 // 4}-")
    assert second.if_range == third.if_range != first.if_range


def test_a_recording_that_changed_during_an_interruption_is_fetched_again(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "cut")
    elevenlabs.before_answer = lambda request: elevenlabs.audio.update(conv_1=LONGER) if request.range else None

    handle_announcement(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == LONGER


def test_full_answers_are_not_joined(aws, elevenlabs, announced, archive_all):
    elevenlabs.has_ranges = False
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "cut")

    handle_announcement(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3


def test_a_download_that_is_interrupted_too_often_is_left_to_the_next_pass(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", *["cut"] * 30)

    handle_announcement(announced)

    assert archive_all() == []
    assert aws.call("conv_1")["audio_missing_reason"] == "ElevenLabs: the recording broke off: RemoteProtocolError"
    assert len([request for request in elevenlabs.requests if request.route == "audio"]) == PARTS


def test_a_download_leaves_a_third_of_the_functions_time_for_s3_and_the_record(aws, elevenlabs, announced, context):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "slow:0.1")
    context.get_remaining_time_in_millis = lambda: 1500

    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}

    assert aws.call("conv_1")["audio_missing_reason"] == "ElevenLabs: the recording: it takes too long"


def test_a_slow_download_is_complete(aws, elevenlabs, announced, archive_all):
    elevenlabs.audio["conv_1"] = MP3
    elevenlabs.plan("audio", "slow:0.001")

    handle_announcement(announced)
    archive_all()

    assert aws.body(f"{FOLDER}/conv_1.mp3") == MP3
