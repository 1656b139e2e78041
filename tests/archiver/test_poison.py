"""Messages that can never be archived go to the DLQ at once."""

import pytest

from shared.messages import ClaimCheck
from tests.archiver.conftest import FULL, envelope, stage, stage_recording, staged_key, transcript

EVIL_IDS = ["../../etc", "a/b", "", ".", "..", "conv\n1", "conv\u00001", "x" * 10_000, "kön", 7, ["conv_1"]]


@pytest.mark.parametrize("evil", EVIL_IDS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("event", ["post_call_transcription", "post_call_audio", "call_initiation_failure", "future"])
def test_invalid_ids_never_become_a_path(aws, archive, evil, event):
    check = stage(aws, envelope({"conversation_id": evil, "full_audio": "QUJD"}, event))

    assert archive(check) == []

    assert aws.object_keys() == set()
    assert aws.items() == {}
    ((step, error),) = aws.reasons()
    assert step == "webhook"
    assert error.startswith("The conversation_id is not an id")
    assert aws.tags(staged_key(check)) == {}


@pytest.mark.parametrize("evil", [*EVIL_IDS, None], ids=lambda value: repr(value)[:20])
def test_invalid_event_names_never_become_a_path(aws, archive, evil):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, evil)))

    assert aws.object_keys() == set()
    assert [step for step, _ in aws.reasons()] == ["webhook"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", "The body is not JSON."),
        (b"", "The body is not JSON."),
        (b"\xff\xfe", "The body is not JSON."),
        (b'{"type": "future", "data": {"conversation_id": "conv_1", "x": NaN}}', "The body is not JSON."),
        (b"[" * 100_000, "The body is not JSON."),
        (b'{"type": "future", "data": {"a": 1e}}', "The body is not JSON."),
        (b"[]", "The body is an empty array."),
        (b'"text"', "The body is JSON, but not an object."),
        (b"7", "The body is JSON, but not an object."),
        (b"null", "The body is JSON, but not an object."),
        (b"[" + b"7," * 1000 + b"7]", "The body is an array of more than 1,000 events."),
        (b"{}", "The event's type is not a name: letters, digits, _ and -, at most 128."),
        (b'{"type": "post_call_transcription"}', "The event's data is not an object."),
        (b'{"type": "post_call_audio", "data": []}', "The event's data is not an object."),
        (b'{"type": "post_call_transcription", "data": {"agent_id": "a"}}', "The event names no conversation."),
        (b'{"type": "post_call_audio", "data": {"full_audio": "QUJD"}}', "The event names no conversation."),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_an_unreadable_body_goes_to_the_dlq_at_once_with_its_reason(aws, archive, body, error):
    check = stage(aws, body)

    assert archive(check) == []

    (message,) = aws.take("ArchiveDlqUrl")
    assert message["Body"] == check
    assert {name: each["StringValue"] for name, each in message["MessageAttributes"].items()} == {
        "step": "webhook", "error": error,
    }  # fmt: skip
    assert aws.body(staged_key(check)) == body
    assert aws.tags(staged_key(check)) == {}


@pytest.mark.parametrize("full_audio", [None, "", "no base64!", "QUJ", 7], ids=repr)
def test_invalid_audio_goes_to_the_dlq(aws, archive, full_audio):
    check = stage(aws, envelope({"conversation_id": "conv_1", "full_audio": full_audio}, "post_call_audio"))

    assert archive(check) == []

    assert aws.reasons() == [("audio", "full_audio is missing, empty or not base64.")]
    assert aws.items() == {}


@pytest.mark.parametrize(
    "message",
    [
        "", "not json", "{}", "[]", '{"version": 2}',
        '{"version":1,"delivery_id":"a","staged_key":"12025550123/conv_1.json","received_at":"","source":"webhook","force":false}',
        '{"version":1,"delivery_id":"a","staged_key":"staging/../12025550123/x.json","received_at":"","source":"webhook"}',
        ClaimCheck("conv_1", "12025550123/conv_1.json", "", "webhook").to_json(),
        ClaimCheck("../../12025550123/x", f"staging/2026/11/22/10/{'a' * 64}.json", "", "webhook").to_json(),
        *(
            ClaimCheck("a" * 64, f"staging/2026/11/22/10/{'a' * 64}.json", time, "webhook").to_json()
            for time in ("soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
        ),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_a_message_that_is_not_a_claim_check_goes_to_the_dlq(aws, archive, message):
    assert archive(message) == []

    assert [step for step, _ in aws.reasons()] == ["claim check"]


def test_a_claim_check_without_its_staged_body_goes_to_the_dlq(aws, archive):
    check = stage(aws, transcript())
    aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check))

    assert archive(check) == []

    assert aws.reasons() == [("staged body", "There is no staged body under the claim check's key.")]


def test_one_poison_record_does_not_fail_its_batch(aws, archive):
    assert archive("not json", stage(aws, transcript("conv_1")), stage(aws, b"7")) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert len(aws.reasons()) == 2


def test_a_staged_recording_without_a_call_goes_to_the_dlq(aws, archive):
    assert archive(stage_recording(aws, None, b"ID3 fetched")) == []

    assert aws.reasons() == [("webhook", "The event names no conversation.")]
