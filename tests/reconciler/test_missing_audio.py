"""Archived calls whose recording is missing are requested again."""

import json
from datetime import datetime, timedelta, timezone
from itertools import count

import pytest

import reconciler.handler
from archiver.handler import lambda_handler
from reconciler.handler import reconcile
from shared.times import utc
from tests.archiver.conftest import stage
from tests.conftest import sqs_event
from tests.reconciler.conftest import HOUR, NOW, conversation, run
from tests.schedules import Crash


def audio_asked_for(aws) -> list[str]:
    return [json.loads(message["Body"])["conversation_id"] for message in aws.take("AudioQueueUrl")]


def test_recordings_that_are_being_fetched_are_not_requested_every_hour(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    asked = []
    for hours in range(1, 6):
        run(NOW + hours * HOUR)
        asked.append(len(audio_asked_for(aws)))

    assert asked == [1, 0, 0, 1, 0]


def test_audio_that_is_still_missing_is_requested_again(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    report = run(NOW + HOUR)

    assert report["missing_audio"] == 1
    assert audio_asked_for(aws) == ["conv_1"]


def test_a_recording_missing_for_longer_than_the_window_is_requested_too(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    report = run(NOW + timedelta(days=9))

    assert (report["missing_audio"], audio_asked_for(aws)) == (1, ["conv_1"])
    assert report["oldest"] == utc(NOW - 3 * HOUR)


@pytest.fixture
def without_audio(aws, elevenlabs, archive_all):
    """A call archived without its recording; the pass an hour later requests it."""
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()


def test_a_recording_marked_unavailable_during_a_pass_is_not_requested_again(aws, without_audio):
    times = count()

    def give_up() -> bool:
        if next(times) == 1:  # after the list is read and the missing recordings are known
            reconciler.handler.aws().records.mark_audio_unavailable("conv_1")
        return True

    reconcile(NOW + HOUR, give_up)

    assert (aws.call("conv_1")["audio"], audio_asked_for(aws)) == ("unavailable", [])


def test_a_request_is_noted_before_it_is_sent_and_repeated_later_after_a_crash(aws, without_audio):
    def crash(**_: object) -> None:
        raise Crash

    events = reconciler.handler.aws().sqs.meta.events
    events.register_first("before-call.sqs.SendMessage", crash, unique_id="crash")
    with pytest.raises(Crash):
        run(NOW + HOUR)
    events.unregister("before-call.sqs.SendMessage", unique_id="crash")
    assert aws.call("conv_1")["audio_asked_at"] == utc(NOW + HOUR)

    asked = []
    for hours in range(2, 6):
        run(NOW + hours * HOUR)
        asked.append(len(audio_asked_for(aws)))

    assert asked == [0, 0, 1, 0]


def test_a_recording_is_requested_although_the_answer_to_the_note_was_lost(aws, without_audio, lost_answers):
    run(NOW + HOUR)

    assert audio_asked_for(aws) == ["conv_1"]


def test_audio_that_is_parked_for_a_day_is_counted(aws, context, capsys):
    audio = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    lambda_handler(sqs_event(stage(aws, audio)), context)
    now = datetime.now(timezone.utc)

    assert [run(now + timedelta(hours=hours))["parked_long"] for hours in (23, 25)] == [0, 1]

    lambda_handler(sqs_event(stage(aws, {"type": "post_call_transcription", "data": conversation()})), context)
    assert run(now + timedelta(hours=26))["parked_long"] == 0


def test_a_call_without_audio_is_complete(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=False))
    run()
    archive_all()

    assert run(NOW + HOUR)["missing_audio"] == 0
    assert audio_asked_for(aws) == []
