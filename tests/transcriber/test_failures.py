"""What fails is told with its reason, and can be started again; what is interrupted goes on."""

import json
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

import transcriber.handler
from tests.transcriber.conftest import archive, erase, named, results, state_of

KEPT = {"12025550123/conv_1.transcribe.json", "12025550123/conv_1.vtt"}
REASON = "The media file s3://bucket/12025550123/conv_1.mp3 has no valid audio."


def test_a_failed_job_goes_to_the_dead_letter_queue_with_its_reason_and_no_number(aws, amazon, transcribe):
    announced = archive(aws)
    transcribe(announced)

    assert transcribe(amazon.fail(*amazon.jobs, REASON)) == []

    (letter,) = aws.take("TranscribeDlqUrl")
    told = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
    assert told == {
        "step": "transcription",
        "error": "The media file s3://bucket/120…123/conv_1.mp3 has no valid audio.",
    }
    assert json.loads(letter["Body"]) == json.loads(announced)
    assert (state_of(aws).state, state_of(aws).reason) == ("failed", told["error"])
    assert amazon.jobs == []


def test_a_redrive_starts_another_attempt(aws, amazon, transcribe):
    transcribe(archive(aws))
    (first,) = amazon.jobs
    transcribe(amazon.fail(first, REASON))
    (letter,) = aws.take("TranscribeDlqUrl")

    assert transcribe(letter["Body"]) == []

    (second,) = amazon.jobs
    assert second != first
    assert (state_of(aws).state, state_of(aws).attempt) == ("started", 2)
    transcribe(amazon.complete(second))
    assert results(aws) == KEPT
    assert state_of(aws).state == "done"


def test_a_look_at_a_job_that_has_failed_before_tells_nothing_new(aws, amazon, transcribe):
    transcribe(archive(aws))
    (name,) = amazon.jobs
    transcribe(amazon.fail(name, REASON))
    aws.take("TranscribeDlqUrl")

    assert transcribe(named(name)) == []

    assert aws.take("TranscribeDlqUrl") == []
    assert amazon.jobs == []


def test_a_failure_that_another_worker_noted_and_did_not_report_is_reported(aws, amazon, transcribe):
    """The other worker died between its note and its message. This one was reading at the same moment."""
    transcribe(archive(aws))
    ended = amazon.fail(*amazon.jobs, REASON)
    events = transcriber.handler.aws().table.meta.client.meta.events

    def note_first(**_: object) -> None:
        events.unregister("before-call.dynamodb.UpdateItem", unique_id="other")
        last = state_of(aws)
        noted = replace(last, state="failed", reason=REASON)
        assert transcriber.handler.aws().records.note_transcription("conv_1", noted, last)

    events.register("before-call.dynamodb.UpdateItem", note_first, unique_id="other")
    assert transcribe(ended) == ["message-1"]

    assert transcribe(ended) == []

    assert {step for step, _ in aws.reasons("TranscribeDlqUrl")} == {"transcription"}
    assert amazon.jobs == []


def test_a_job_that_vanished_is_told_as_a_failure(aws, amazon, transcribe):
    transcribe(archive(aws))
    (name,) = amazon.jobs
    amazon._backend.transcriptions.clear()

    assert transcribe(named(name)) == []

    assert aws.reasons("TranscribeDlqUrl") == [("transcription", "Amazon Transcribe does not know the job.")]


def test_a_refused_request_is_told_as_a_failure_and_can_be_redriven(aws, amazon, transcribe):
    announced = archive(aws)
    with fault("transcribe.StartTranscriptionJob", "BadRequestException", "The S3 URI can't be accessed."):
        assert transcribe(announced) == []

    assert aws.reasons("TranscribeDlqUrl") == [("transcription", "The S3 URI can't be accessed.")]
    assert transcribe(announced) == []
    assert len(amazon.jobs) == 1


class fault:
    """AWS refuses an operation, from the n-th call on, for the duration of the block."""

    def __init__(self, operation: str, code: str = "InternalError", message: str = "", after: int = 0) -> None:
        service, self._name = operation.split(".")
        aws = transcriber.handler.aws()
        client = {
            "s3": aws.bucket._s3, "dynamodb": aws.table.meta.client, "sqs": aws.sqs,
            "transcribe": transcriber.handler.jobs()._transcribe,
        }[service]  # fmt: skip
        self._events, self._event, self._left = client.meta.events, f"before-call.{service}.{self._name}", after
        self._error = {"Error": {"Code": code, "Message": message}}

    def __enter__(self) -> None:
        self._events.register(self._event, self._refuse, unique_id="fault")

    def __exit__(self, *_: object) -> None:
        self._events.unregister(self._event, unique_id="fault")

    def _refuse(self, **_: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise ClientError(self._error, self._name)


STARTING = [
    ("dynamodb.UpdateItem", 0), ("transcribe.StartTranscriptionJob", 0), ("sqs.SendMessage", 0),
]  # fmt: skip
FINISHING = [
    ("transcribe.GetTranscriptionJob", 0), ("s3.ListObjectVersions", 0), ("s3.GetObject", 0), ("s3.GetObject", 1),
    ("dynamodb.UpdateItem", 0), ("s3.PutObject", 0), ("s3.PutObject", 1), ("sqs.SendMessage", 0),
    ("dynamodb.UpdateItem", 1), ("s3.ListObjectVersions", 1), ("s3.DeleteObject", 0), ("s3.DeleteObject", 1),
    ("s3.DeleteObject", 2), ("transcribe.DeleteTranscriptionJob", 0),
]  # fmt: skip
FAILING = [
    ("transcribe.GetTranscriptionJob", 0), ("dynamodb.UpdateItem", 0), ("sqs.SendMessage", 0),
    ("s3.ListObjectVersions", 0), ("transcribe.DeleteTranscriptionJob", 0),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "after"), STARTING)
def test_a_start_that_is_interrupted_anywhere_goes_on(aws, amazon, transcribe, operation, after):
    announced = archive(aws)
    with fault(operation, after=after):
        assert transcribe(announced) == ["message-1"]

    assert transcribe(announced) == []

    assert len(amazon.jobs) == 1
    assert transcribe(amazon.complete(*amazon.jobs)) == []
    assert results(aws) == KEPT


@pytest.mark.parametrize(("operation", "after"), FINISHING)
def test_an_end_that_is_interrupted_anywhere_goes_on(aws, amazon, transcribe, operation, after):
    transcribe(archive(aws))
    ended = amazon.complete(*amazon.jobs)
    with fault(operation, after=after):
        assert transcribe(ended) == ["message-1"]

    assert transcribe(ended) == []

    assert results(aws) == KEPT
    assert aws.versions("transcribe/") == set()
    assert state_of(aws).state == "done"
    assert aws.announcements()
    assert amazon.jobs == []
    assert aws.take("TranscribeDlqUrl") == []


@pytest.mark.parametrize(("operation", "after"), FAILING)
def test_a_failure_whose_report_is_interrupted_anywhere_is_reported(aws, amazon, transcribe, operation, after):
    transcribe(archive(aws))
    ended = amazon.fail(*amazon.jobs, REASON)
    with fault(operation, after=after):
        assert transcribe(ended) == ["message-1"]

    assert transcribe(ended) == []

    assert {step for step, _ in aws.reasons("TranscribeDlqUrl")} == {"transcription"}
    assert state_of(aws).state == "failed"
    assert amazon.jobs == []


@pytest.mark.parametrize(("operation", "after"), FINISHING[:9])
def test_a_call_that_is_erased_while_its_job_ends_keeps_nothing_more(aws, amazon, transcribe, operation, after):
    """The erasure has found what the record named before; the retry finds the tombstone."""
    transcribe(archive(aws))
    ended = amazon.complete(*amazon.jobs)
    with fault(operation, after=after):
        transcribe(ended)
    named_before = aws.call("conv_1").get("event_keys", set())
    erase(aws)
    there = results(aws)

    assert transcribe(ended) == []

    assert {key for key in there if not key.startswith("transcribe/")} <= named_before
    assert results(aws) <= named_before
    assert aws.versions("transcribe/") == set()
    assert amazon.jobs == []
    assert aws.take("TranscribeDlqUrl") == []


def test_a_call_that_was_erased_before_is_not_transcribed(aws, amazon, transcribe):
    announced = archive(aws)
    erase(aws)

    assert transcribe(announced) == []

    assert amazon.jobs == []


@pytest.mark.parametrize("is_gone", [False, True], ids=["marked", "tombstone"])
def test_a_job_that_ends_after_its_call_was_erased_leaves_nothing(aws, amazon, transcribe, is_gone):
    transcribe(archive(aws))
    erase(aws)
    records = transcriber.handler.aws().records
    if is_gone:
        records.write_tombstone(records.get("conv_1"))

    assert transcribe(amazon.complete(*amazon.jobs)) == []

    assert results(aws) == set()
    assert aws.versions("transcribe/") == set()
    assert amazon.jobs == []
    assert set(aws.call("conv_1")) & {"event_keys"} == set()


def test_a_job_that_fails_after_its_call_was_erased_is_no_failure(aws, amazon, transcribe):
    transcribe(archive(aws))
    erase(aws)

    assert transcribe(amazon.fail(*amazon.jobs, REASON)) == []

    assert aws.take("TranscribeDlqUrl") == []
    assert amazon.jobs == []
