"""Events other than transcripts and audio."""

import json

import pytest

from tests.archiver.conftest import (
    FULL,
    envelope,
    stage,
    transcript,
)


def test_other_events_are_stored_with_their_call_or_under_their_own_number(aws, archive):
    digest, failure = {"conversation_id": "conv_1", "mood": "calm"}, {"metadata": {"body": {"To": "+12025550178"}}}
    archive(stage(aws, transcript("conv_1")))
    archive(stage(aws, envelope(digest, "sentiment")))
    archive(stage(aws, envelope(failure | {"conversation_id": "conv_2"}, "call_initiation_failure")))
    archive(stage(aws, envelope({"conversation_id": "conv_3"}, "post_call_transcription_otel")))

    assert aws.object_keys() == {
        f"{FULL}/conv_1.json", f"{FULL}/conv_1.sentiment.json",
        "12025550178/conv_2.call_initiation_failure.json", "no-phone/conv_3.post_call_transcription_otel.json",
    }  # fmt: skip
    assert aws.json(f"{FULL}/conv_1.sentiment.json") == digest
    event_keys = [each.get("event_keys") for each in aws.items().values()]
    assert {f"{FULL}/conv_1.sentiment.json"} in event_keys
    assert {"12025550178/conv_2.call_initiation_failure.json"} in event_keys
    assert aws.items()["conv_2", "number#12025550178"]["caller"] == "12025550178"
    assert "folder" not in aws.call("conv_2")


def test_another_event_stays_where_it_was_first_kept(aws, archive):
    check = stage(aws, envelope({"conversation_id": "conv_1"}, "sentiment"))
    archive(check, stage(aws, transcript("conv_1")))

    assert archive(check) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json", "no-phone/conv_1.sentiment.json"}
    assert len(aws.versions()) == 2


@pytest.mark.parametrize("body", [{"type": "voice_removed", "voice": "v1"}, {"type": "voice_removed", "data": ["v1"]}])
def test_an_event_about_no_conversation_is_kept_raw(aws, archive, body):
    raw = json.dumps(body, indent=3).encode()
    check = stage(aws, raw)

    archive(check)

    key = f"other-events/voice_removed/{json.loads(check)['delivery_id']}.json"
    assert aws.body(key) == raw
    assert aws.tags(key) == {"tier": "archive"}
