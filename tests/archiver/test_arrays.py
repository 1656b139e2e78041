"""Array bodies are split, and each element fails, is tagged and is erased by itself."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

import archiver.handler
from archiver.handler import handle_record
from shared.errors import PoisonError
from shared.parts import elements
from tests.archiver.conftest import FULL, NOW, audio, envelope, stage, staged_key, transcript
from tests.conftest import sqs_event
from tests.schedules import Worker, run_all, watch

HOUR = "staging/2026/11/22/10/"


def notes(number):
    return [envelope({"number": each}, "note") for each in range(number)]


def test_each_element_of_an_array_becomes_a_body(aws, archive):
    elements = [transcript("conv_1"), transcript("conv_2")["data"], envelope({"a": 1}, "voice_removed")]
    check = stage(aws, elements)

    assert archive(check) == []

    (other,) = aws.object_keys("other-events/voice_removed/")
    assert aws.object_keys() == {f"{FULL}/conv_1.json", f"{FULL}/conv_2.json", other}
    bodies = aws.object_keys(HOUR)
    assert sorted(aws.body(key) for key in bodies) == sorted(json.dumps(each).encode() for each in elements)
    part_of = {"origin": "webhook", "part_of": json.loads(check)["delivery_id"]}
    assert [aws.head(key)["Metadata"] for key in bodies] == [part_of] * 3
    assert [aws.tags(key) for key in bodies] == [{"archived": "true"}] * 3


def test_an_array_is_deleted_after_the_split_and_its_second_claim_check_dropped(aws, archive):
    check = stage(aws, [transcript("conv_1"), transcript("conv_2")])
    archive(check)

    assert archive(check) == []

    assert staged_key(check) not in aws.object_keys(HOUR)
    assert aws.reasons() == []


def test_the_elements_keep_every_digit_and_their_origin(aws, archive):
    element = b'{"conversation_id": "conv_1", "precise":0.10, "half":"\\ud83d"}'

    archive(stage(aws, b"\xef\xbb\xbf [ " + element + b' ,\n {"conversation_id": "conv_2"}]', origin="api"))

    assert aws.body("no-phone/conv_1.json") == element
    assert aws.call("conv_1")["t_order"].startswith("0-")


@pytest.mark.parametrize("bad", [{"type": "post_call_transcription", "data": {}}, 7, None], ids=repr)
def test_one_bad_element_does_not_delay_its_array(aws, archive, bad):
    assert archive(stage(aws, [bad, transcript("conv_1")])) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert len(aws.reasons()) == 1
    assert sorted(aws.tags(key).get("archived", "") for key in aws.object_keys(HOUR)) == ["", "true"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("transcript_first", [False, True])
def test_of_two_recordings_in_an_array_the_newer_one_wins(aws, archive, order, transcript_first):
    recordings = [audio("conv_1", b"ID3 old", at=1772550281), audio("conv_1", b"ID3 new", at=1772550299)]
    checks = [stage(aws, [recordings[index] for index in order]), stage(aws, transcript("conv_1"))]

    for check in reversed(checks) if transcript_first else checks:
        assert archive(check) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 new"
    assert [aws.tags(key) for key in aws.object_keys(HOUR)] == [{"archived": "true"}] * 3


def test_two_elements_of_the_same_time_differ_by_their_delivery_id(aws, archive):
    archive(stage(aws, [transcript("conv_1", status="failed"), transcript("conv_1", status="done")]))

    call, head = aws.call("conv_1"), aws.head(f"{FULL}/conv_1.json")
    assert call["status"] == aws.json(f"{FULL}/conv_1.json")["status"]
    assert call["t_order"] == head["Metadata"]["order"]


def test_an_element_with_parked_audio_does_not_keep_its_array(aws, archive):
    archive(stage(aws, [audio("conv_1"), transcript("conv_2", has_audio=False)]))
    archive(stage(aws, transcript("conv_1"), now=NOW + timedelta(hours=4)))

    assert f"{FULL}/conv_1.mp3" in aws.object_keys()
    assert [aws.tags(key) for key in aws.object_keys(HOUR)] == [{"archived": "true"}] * 2


def test_an_array_with_an_erased_call_is_deleted_although_another_element_waits(aws, archive):
    records = archiver.handler.aws().records
    records.write_tombstone(records.erase("conv_2", "2026-11-22T09:00:00Z"))

    archive(stage(aws, [audio("conv_1"), transcript("conv_2", analysis={"transcript_summary": "Secret."})]))

    assert aws.object_keys() == set()
    assert [b"Secret." in aws.body(key) for key in aws.object_keys("staging/")] == [False]


def test_all_events_of_a_long_array_are_queued(aws):
    handle_record(SQSRecord(sqs_event(stage(aws, notes(120)))["Records"][0]))

    handed_on = {json.loads(message["Body"])["staged_key"] for message in aws.take("ArchiveQueueUrl")}
    assert len(handed_on) == 120
    assert handed_on == aws.object_keys(HOUR)


def test_of_more_than_a_thousand_events_none_is_queued(aws):
    assert len(elements(json.dumps(notes(1000)).encode()) or []) == 1000

    with pytest.raises(PoisonError, match=r"more than 1,000 events"):
        handle_record(SQSRecord(sqs_event(stage(aws, notes(1001)))["Records"][0]))

    assert aws.take("ArchiveQueueUrl") == []


@pytest.mark.parametrize(
    ("nested", "error"), [([], "The body is an empty array."), ([7], "The body is an array inside an array.")]
)
def test_a_nested_array_is_refused(aws, archive, nested, error):
    assert archive(stage(aws, [transcript("conv_1"), nested])) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert aws.reasons() == [("webhook", error)]


@pytest.mark.parametrize("hours", [0, 5])
def test_an_erasure_finds_elements_staged_in_an_hour_that_the_sweep_has_passed(aws, archive, hours):
    received = datetime.now(timezone.utc) - timedelta(hours=hours)

    archive(stage(aws, [transcript("conv_1"), 7], now=received))

    noted = {item for partition, item in aws.items() if partition == "#unnamed"}
    assert noted == (aws.object_keys("staging/") if hours else set())


def test_a_claim_check_that_sqs_does_not_accept_fails_the_array(aws, archive):
    check = stage(aws, [transcript("conv_1")])
    found = archiver.handler.aws().sqs.meta.events

    def refuse_all(parsed: dict, **_: object) -> None:
        parsed["Failed"] = [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]

    found.register("after-call.sqs.SendMessageBatch", refuse_all)
    aws.take("ArchiveQueueUrl")

    with pytest.raises(Exception, match="SQS did not accept"):
        handle_record(SQSRecord(sqs_event(check)["Records"][0]))

    assert staged_key(check) in aws.object_keys(HOUR)


def test_a_retry_completes_a_split_after_a_crash_at_any_step(aws, archive):
    found = archiver.handler.aws()
    watch(found.sqs, found.table.meta.client, found.bucket._s3)
    for step in range(100):
        elements = [transcript(f"conv_{step}_{number}") for number in range(3)]
        check = stage(aws, elements)
        worker = Worker(lambda: handle_record(SQSRecord(sqs_event(check)["Records"][0])), step)  # noqa: B023
        run_all([worker], [])
        archive(check)
        assert {f"{FULL}/conv_{step}_{number}.json" for number in range(3)} <= aws.object_keys()
        assert staged_key(check) not in aws.object_keys(HOUR)
        if worker.steps < step:
            break
    assert 3 < step < 100
