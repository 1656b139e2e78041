"""Audio: parked, inside a transcript, or fetched."""

import base64
import json
from datetime import timedelta

import pytest

import archiver.handler
from tests.archiver.conftest import (
    FULL,
    NOW,
    allow,
    audio,
    refuse,
    stage,
    stage_recording,
    staged_key,
    transcript,
)
from tests.conftest import fixture_body


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_audio_inside_an_older_transcript_is_kept(aws, archive, order):
    inline = base64.b64encode(b"ID3 sound").decode()
    checks = [stage(aws, transcript(at=1, full_audio=inline)), stage(aws, transcript(at=2, status="new"))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"
    assert aws.json(f"{FULL}/conv_1.json")["status"] == "new"
    assert aws.call("conv_1")["audio"] == "archived"
    assert "audio_archived" in {each["event"] for each in aws.announcements()}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_of_two_parked_audios_the_newer_is_archived(aws, archive, order):
    checks = [stage(aws, audio(content=b"old", at=1772550281)), stage(aws, audio(content=b"new", at=1772550282))]
    for index in order:
        assert archive(checks[index]) == []

    archive(stage(aws, transcript()))

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"
    assert aws.tags(staged_key(checks[1])) == {"archived": "true"}


def test_a_duplicate_of_archived_audio_leaves_nothing_parked_or_waiting(aws, archive):
    check = stage(aws, audio())
    archive(stage(aws, transcript()), check)
    call, versions = aws.call("conv_1"), aws.versions()

    assert archive(check) == []

    assert aws.call("conv_1") == call
    assert aws.versions() == versions


def test_a_newer_transcript_with_audio_makes_it_pending(aws, archive):
    archive(stage(aws, transcript(at=1, has_audio=False)))
    archive(stage(aws, transcript(at=2, has_audio=True)))

    assert aws.call("conv_1")["audio"] == "pending"
    assert [each["audio"] for each in aws.announcements()] == ["none", "pending"]


@pytest.mark.parametrize(
    ("has_audio", "expected"), [({}, "pending"), ({"has_audio": True}, "pending"), ({"has_audio": False}, "none")]
)
def test_the_record_says_whether_audio_is_expected(aws, archive, has_audio, expected):
    archive(stage(aws, transcript(**has_audio)))

    assert aws.call("conv_1")["audio"] == expected


def test_inline_audio_is_stored_as_mp3_and_removed_from_the_json(aws, archive):
    archive(stage(aws, fixture_body("07")))

    folder, conversation_id = "12025550167", "conv_fixture00000000000000legacy7"
    sent = json.loads(fixture_body("07"))
    assert aws.body(f"{folder}/{conversation_id}.mp3") == base64.b64decode(sent.pop("full_audio"))
    assert aws.json(f"{folder}/{conversation_id}.json") == sent
    assert aws.call(conversation_id)["audio"] == "archived"
    assert [each["event"] for each in aws.announcements()] == ["audio_archived", "transcript_archived"]


@pytest.mark.parametrize("full_audio", ["no base64!", "QUJ", 7, {"a": 1}], ids=repr)
def test_a_call_with_invalid_inline_audio_is_archived(aws, archive, logs, full_audio):
    body = transcript(full_audio=full_audio)

    assert archive(stage(aws, body)) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert aws.json(f"{FULL}/conv_1.json") == body["data"]
    assert "full_audio is not base64" in logs.getvalue()


def test_a_fault_of_parked_audio_does_not_delay_its_transcript(aws, archive):
    parked, check = stage(aws, audio()), stage(aws, transcript())
    archive(parked)
    refuse("PutObject", on=".mp3")

    assert archive(check) == ["message-1"]
    assert [each["event"] for each in aws.announcements()] == ["transcript_archived"]

    allow("PutObject")
    assert archive(check) == []
    assert aws.call("conv_1")["audio"] == "archived"


def test_parked_audio_without_its_body_is_pending_again_and_its_transcript_archived(aws, archive):
    parked = stage(aws, audio())
    archive(parked)
    aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(parked))

    assert archive(stage(aws, transcript())) == []

    assert aws.reasons() == []
    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert [(each["event"], each["audio"]) for each in aws.announcements()] == [("transcript_archived", "pending")]
    assert not {"parked", "waiting"} & set(aws.call("conv_1"))


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "by itself"])
def test_a_call_that_is_erased_while_its_audio_is_written_gets_no_more_fields(aws, archive, inline):
    archive(stage(aws, transcript(at=1)))

    def erase(**_: object) -> None:
        aws.dynamodb.update_item(
            TableName="conversations",
            Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
            UpdateExpression="SET erased_at = :now",
            ExpressionAttributeValues={":now": {"S": "2026-11-22T10:00:00Z"}},
        )

    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", erase)

    archive(stage(aws, transcript(at=2, full_audio=base64.b64encode(b"ID3 sound").decode()) if inline else audio()))

    assert "mp3_key" not in aws.call("conv_1")


@pytest.mark.parametrize("recording_first", [False, True])
def test_a_fetched_recording_and_its_call_are_joined_in_either_order(aws, archive, recording_first):
    checks = [stage(aws, transcript()), stage_recording(aws, "conv_1", b"ID3 fetched")]

    for check in reversed(checks) if recording_first else checks:
        assert archive(check) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 fetched"
    head = aws.head("12025550123/conv_1.mp3")
    assert head["ContentType"] == "audio/mpeg"
    assert head["Metadata"]["order"].startswith(f"0-{len(b'ID3 fetched'):013d}-")
    assert aws.call("conv_1")["audio"] == "archived"
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


@pytest.mark.parametrize("recording_first", [False, True])
def test_a_webhooks_audio_wins_over_a_fetched_recording(aws, archive, recording_first):
    archive(stage(aws, transcript()))
    checks = [stage(aws, audio(content=b"ID3 sent")), stage_recording(aws, "conv_1", b"ID3 fetched")]

    for check in reversed(checks) if recording_first else checks:
        assert archive(check) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 sent"
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


def test_a_recording_that_is_fetched_twice_is_archived_once(aws, archive):
    archive(stage(aws, transcript()))
    for hour in range(2):
        assert archive(stage_recording(aws, "conv_1", b"ID3 fetched", NOW + timedelta(hours=hour))) == []

    assert len(aws.versions("12025550123/conv_1.mp3")) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_fetched_recordings_the_longer_one_is_kept(aws, archive, order):
    recordings = [b"ID3 broken", b"ID3 the whole of it"]
    checks = [stage_recording(aws, "conv_1", each, NOW + timedelta(hours=n)) for n, each in enumerate(recordings)]
    archive(stage(aws, transcript()))

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 the whole of it"
    assert aws.call("conv_1")["mp3_order"] == aws.head("12025550123/conv_1.mp3")["Metadata"]["order"]
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


def test_after_parking_audio_twice_all_staged_bodies_are_tagged(aws, archive):
    checks = [stage(aws, audio(), now=NOW + timedelta(hours=hours)) for hours in range(2)]
    archive(*checks)

    archive(stage(aws, transcript()))

    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2
