"""Late events of an erased call or caller are not archived."""

from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

import archiver.handler
from shared.times import utc
from tests.archiver.conftest import (
    FULL,
    NOW,
    allow,
    audio,
    envelope,
    refuse,
    stage,
    stage_recording,
    staged_key,
    transcript,
)
from tests.conftest import Stack

CALLER = "12025550123"
ERASED_AT = datetime(
    2026, 3, 3, 15, 5, tzinfo=timezone.utc
)  # after the calls of `transcript`, which started at 15:04:38
BEFORE, AFTER = 1772550000, 1772560000
MOOD = envelope({"conversation_id": "conv_1", "words": "Secret."}, "post_call_transcription_otel", AFTER)
SIP = {"metadata": {"phone_call": {"external_number": "sip:+12025550123@example.com"}, "start_time_unix_secs": BEFORE}}


def erase_caller(at: datetime = ERASED_AT) -> None:
    archiver.handler.archiver()._tombstones.record_erasure(CALLER, at)


def wait_for_other_attempts(aws: Stack) -> None:
    """As if the record had been marked as erased four minutes ago: no attempt that began before it is running."""
    aws.dynamodb.update_item(
        TableName="conversations", Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
        UpdateExpression="SET erased_at = :then", ConditionExpression="attribute_exists(erased_at)",
        ExpressionAttributeValues={":then": {"S": utc(datetime.now(timezone.utc) - timedelta(minutes=4))}},
    )  # fmt: skip


def nothing_is_left(aws: Stack) -> bool:
    left = [aws.object_keys(), aws.object_keys("staging/"), aws.announcements(), aws.reasons()]
    return not any(left) and not any(CALLER in str(item) for item in aws.items().items())


def body(kind: str, at: int) -> dict:
    """Late events of the caller, about a call that started at this time, or with this event time."""
    number = {"metadata": {"body": {"To": "+1 (202) 555-0123"}}}
    return {
        "transcript": lambda: transcript(at=at),
        "SIP": lambda: envelope({"conversation_id": "conv_1"} | SIP, at=at),
        "failure": lambda: envelope({"conversation_id": "conv_1"} | number, "call_initiation_failure", at),
        "no conversation": lambda: envelope({"external_number": "tel:+12025550123"}, "voice_removed", at),
    }[kind]()


@pytest.mark.parametrize("kind", ["transcript", "SIP", "failure", "no conversation"])
def test_calls_of_an_erased_caller_from_before_are_not_archived(aws, archive, kind):
    erase_caller()

    assert archive(stage(aws, body(kind, BEFORE))) == []

    assert nothing_is_left(aws)


@pytest.mark.parametrize("kind", ["transcript", "failure", "no conversation"])
def test_later_calls_of_an_erased_caller_are_archived(aws, archive, kind):
    erase_caller()

    assert archive(stage(aws, body(kind, AFTER))) == []

    assert len(aws.object_keys()) == 1


def test_the_calls_of_other_callers_are_kept(aws, archive):
    erase_caller()
    other = {"metadata": {"phone_call": {"external_number": "+12025550188"}}}

    assert archive(stage(aws, transcript(at=BEFORE, **other))) == []

    assert aws.object_keys() == {"12025550188/conv_1.json"}


@pytest.mark.parametrize("audio_first", [False, True])
def test_the_audio_of_a_call_from_before_the_erasure_is_deleted(aws, archive, audio_first):
    erase_caller()
    checks = [stage(aws, transcript(at=BEFORE)), stage(aws, audio(at=AFTER)), stage_recording(aws, "conv_1", b"ID3")]

    for check in reversed(checks) if audio_first else checks:
        assert archive(check) == []

    assert nothing_is_left(aws)
    assert "erased_at" in aws.call("conv_1")


def test_earlier_events_of_a_late_call_are_deleted_once_no_attempt_can_still_write_them(aws, archive):
    archive(stage(aws, MOOD), stage(aws, audio(at=AFTER)))
    erase_caller()
    check = stage(aws, transcript(at=BEFORE))

    assert archive(check) == ["message-1"]
    assert aws.call("conv_1")["event_keys"]
    wait_for_other_attempts(aws)
    assert archive(check) == []

    assert nothing_is_left(aws)
    assert set(aws.call("conv_1")) == {"conversation_id", "item", "erased_at"}


def test_an_earlier_event_that_may_not_be_deleted_keeps_its_record_until_a_later_attempt(aws, archive):
    archive(stage(aws, MOOD))
    erase_caller()
    check = stage(aws, transcript(at=BEFORE))
    archive(check)
    wait_for_other_attempts(aws)

    refuse("DeleteObject", on="otel.json")
    assert archive(check) == ["message-1"]
    assert aws.call("conv_1")["event_keys"]
    allow("DeleteObject")
    assert archive(check) == []

    assert nothing_is_left(aws)


@pytest.mark.parametrize("first", ["still runs", "was interrupted"])
def test_an_event_that_another_attempt_writes_while_its_call_is_dropped_is_deleted(aws, archive, first):
    """The other attempt has noted the event's key, and its write reaches S3 after the call was marked as erased."""
    erase_caller()
    check = stage(aws, transcript(at=BEFORE))
    s3 = archiver.handler.aws().bucket._s3.meta.events
    failed = []

    def drop_the_call(**_: object) -> None:
        s3.unregister("before-call.s3.PutObject", unique_id="drop")
        failed.extend(archive(check))
        if first == "was interrupted":
            raise TimeoutError

    mood = stage(aws, MOOD)
    s3.register("before-call.s3.PutObject", drop_the_call, unique_id="drop")
    archive(mood)
    assert failed == ["message-1"]
    wait_for_other_attempts(aws)
    assert archive(check, mood) == []

    assert nothing_is_left(aws)


def test_an_attempt_that_finds_its_call_erased_by_another_goes_on_with_it(aws, archive):
    """The first attempt is interrupted after it marked the call; the second had read that nobody is erased."""
    archive(stage(aws, audio(at=AFTER)))
    check = stage(aws, transcript(at=BEFORE))
    dynamodb = archiver.handler.aws().records._table.meta.client.meta.events

    def erase_meanwhile(**_: object) -> None:
        dynamodb.unregister("before-call.dynamodb.UpdateItem", unique_id="meanwhile")
        erase_caller()
        archiver.handler.aws().records.erase("conv_1", utc(ERASED_AT))

    dynamodb.register("before-call.dynamodb.UpdateItem", erase_meanwhile, unique_id="meanwhile")
    assert archive(check) == []

    assert nothing_is_left(aws)
    assert set(aws.call("conv_1")) == {"conversation_id", "item", "erased_at"}


def test_a_late_call_with_another_callers_number_is_left_to_an_erasure(aws, archive):
    failure = {"conversation_id": "conv_1", "metadata": {"body": {"To": "+12025550188"}}}
    archive(stage(aws, envelope(failure, "call_initiation_failure", AFTER)))
    erase_caller()

    assert archive(stage(aws, transcript(at=BEFORE))) == []

    assert aws.object_keys() == {"12025550188/conv_1.call_initiation_failure.json"}
    assert "erased_at" not in aws.call("conv_1")


def test_a_call_that_was_archived_before_its_number_was_known_is_found_by_it_later(aws, archive):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=1)))
    erase_caller()

    assert archive(stage(aws, transcript(at=BEFORE))) == []

    assert aws.object_keys() == {"no-phone/conv_1.json"}
    assert [each.conversation_id for each in archiver.handler.aws().records.find_by_caller(CALLER)] == ["conv_1"]


def test_a_call_with_the_erased_number_in_second_place_is_kept(aws, archive):
    erase_caller()
    other = {"metadata": {"phone_call": {"external_number": "+12025550188"}, "caller_id": "+12025550123"}}

    assert archive(stage(aws, transcript(at=BEFORE, **other))) == []

    assert aws.object_keys() == {"12025550188/conv_1.json"}


def test_the_calls_time_counts_and_not_its_webhooks(aws, archive):
    erase_caller()
    late = envelope({"conversation_id": "conv_1", **transcript()["data"]}, at=AFTER)
    late["data"]["metadata"]["start_time_unix_secs"] = BEFORE

    assert archive(stage(aws, late)) == []

    assert nothing_is_left(aws)


def test_a_callers_tombstone_has_no_number_and_expires_after_two_years(aws):
    erase_caller()

    ((key, item),) = aws.items().items()
    assert CALLER not in f"{key} {item}"
    assert item["expires"] == (ERASED_AT + timedelta(days=730)).timestamp()


@pytest.mark.parametrize("full_audio", ["no base64!", "", None])
def test_invalid_audio_of_an_erased_call_is_deleted_and_not_sent_to_the_dlq(aws, archive, full_audio):
    archiver.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")
    broken = envelope({"conversation_id": "conv_1", "full_audio": full_audio}, "post_call_audio")

    assert archive(stage(aws, broken)) == []

    assert nothing_is_left(aws)


def test_the_mark_of_a_deleted_body_expires_after_its_last_claim_check(aws, archive):
    archiver.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")
    check = stage(aws, transcript())
    archive(check)

    (mark,) = (item for (partition, _), item in aws.items().items() if partition == "#discarded")
    left = datetime.fromtimestamp(int(mark["expires"]), timezone.utc) - datetime.now(timezone.utc)
    assert timedelta(days=29) < left <= timedelta(days=30)


# The objects that an erasure finds through the record


def test_the_record_names_every_body_and_event_of_its_call(aws, archive):
    bodies = [
        transcript(at=2), transcript(at=1), audio(at=2), audio(at=1), envelope({"conversation_id": "conv_1"}, "mood"),
    ]  # fmt: skip
    checks = [stage(aws, each) for each in bodies]

    assert archive(*checks) == []

    assert aws.call("conv_1")["staged_keys"] == {staged_key(check) for check in checks}
    assert aws.call("conv_1")["event_keys"] == {f"{FULL}/conv_1.mood.json"}


def test_a_call_is_found_by_every_number_in_its_events(aws, archive):
    def under(number: str, at: int) -> str:
        return stage(aws, transcript(at=at, metadata={"phone_call": {"external_number": number}}))

    assert archive(under("+12025550188", 3), under("+12025550123", 2), under("sip:+12025550199@example.com", 1)) == []

    records = archiver.handler.aws().records
    for digits in ("12025550188", "12025550123", "12025550199"):
        assert [call.conversation_id for call in records.find_by_caller(digits)] == ["conv_1"]
    assert aws.call("conv_1")["caller"] == "12025550188"


def test_a_call_over_sip_is_stored_under_no_phone_and_found_by_its_number(aws, archive):
    assert archive(stage(aws, envelope({"conversation_id": "conv_1"} | SIP))) == []

    assert aws.object_keys() == {"no-phone/conv_1.json"}
    assert "external_number" not in aws.call("conv_1")
    assert [each.conversation_id for each in archiver.handler.aws().records.find_by_caller(CALLER)] == ["conv_1"]


def test_an_events_key_is_in_the_record_before_its_object_is_written(aws, archive):
    seen = []
    found = archiver.handler.aws()
    found.bucket._s3.meta.events.register(
        "before-call.s3.PutObject", lambda **_: seen.append(aws.call("conv_1").get("event_keys"))
    )

    assert archive(stage(aws, envelope({"conversation_id": "conv_1"} | SIP, "call_initiation_failure"))) == []

    assert seen == [{"no-phone/conv_1.call_initiation_failure.json"}]


@pytest.mark.parametrize("what", ["transcript", "older transcript", "audio", "event"])
def test_a_call_has_1000_staged_bodies_and_one_more_is_refused(aws, archive, what):
    archive(stage(aws, transcript(at=5)))
    aws.dynamodb.update_item(
        TableName="conversations", Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
        UpdateExpression="ADD staged_keys :keys",
        ExpressionAttributeValues={":keys": {"SS": [f"staging/{number}" for number in range(999)]}},
    )  # fmt: skip
    one_more = {
        "transcript": transcript(at=9), "older transcript": transcript(at=1), "audio": audio(),
        "event": envelope({"conversation_id": "conv_1"}, "mood"),
    }[what]  # fmt: skip
    before = aws.call("conv_1")

    assert archive(stage(aws, one_more)) == []

    assert aws.reasons() == [("record", "The call's record is full: 1,000 staged bodies, or 400 KB.")]
    assert aws.call("conv_1") == before
    assert archive(stage(aws, transcript(at=5))) == []  # a body that is already recorded may be processed again
    assert archiver.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z").erased_at


def test_an_event_that_makes_a_record_too_large_for_dynamodb_is_refused(aws, archive):
    archive(stage(aws, transcript(at=5)))
    error = {"Code": "ValidationException", "Message": "Item size to update has exceeded the maximum allowed size"}

    def refuse(**_: object) -> None:  # moto checks the item's size before the update
        raise ClientError({"Error": error}, "UpdateItem")

    found = archiver.handler.aws().records._table.meta.client.meta.events
    found.register("before-call.dynamodb.UpdateItem", refuse)

    assert archive(stage(aws, transcript(at=9))) == []

    assert [step for step, _ in aws.reasons()] == ["record"]


@pytest.mark.parametrize("kind", ["post_call_transcription", "post_call_transcription_otel"])
def test_an_event_with_too_many_numbers_is_refused(aws, archive, kind):
    numbers = [
        {"key": "elevenlabs.telephony.external_number", "value": {"stringValue": f"+120255501{number:02}"}}
        for number in range(21)
    ]
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": numbers}]}]}]}

    assert archive(stage(aws, envelope({"conversation_id": "conv_1", "otlp_traces": traces}, kind))) == []

    assert aws.reasons() == [("webhook", "The event names more than 20 numbers of its caller.")]
    assert aws.items() == {}


def test_another_callers_number_does_not_change_whose_call_it_is(aws, archive):
    failure = {"conversation_id": "conv_1", "metadata": {"body": {"To": "+12025550123"}}}
    archive(stage(aws, envelope(failure, "call_initiation_failure", BEFORE)))
    other = {"metadata": {"phone_call": {"external_number": "+12025550188"}}}

    assert archive(stage(aws, transcript(at=BEFORE, **other), now=NOW)) == []

    assert aws.call("conv_1")["caller"] == "12025550188"
    assert aws.object_keys() == {"12025550188/conv_1.json", f"{FULL}/conv_1.call_initiation_failure.json"}
