"""The sweep over unfinished staged bodies."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

import archiver.handler
import reconciler.handler
from reconciler.handler import reconcile
from tests.archiver.conftest import audio, stage, stage_recording, staged_key, transcript
from tests.conftest import sqs_event
from tests.reconciler.conftest import NOW, run

HOUR = timedelta(hours=1)


def handed_on(aws) -> list[str]:
    """The staged keys of the claim checks in ArchiveQueue; empties the queue."""
    return sorted(json.loads(message["Body"])["staged_key"] for message in aws.take("ArchiveQueueUrl"))


def test_a_body_whose_claim_check_was_never_sent_is_queued_and_archived(aws, archive_all):
    stage(aws, transcript(), now=NOW - 2 * HOUR)

    assert run()["swept"] == 1

    (check,) = archive_all()
    assert (check["source"], check["force"], check["version"]) == ("reconciler", False, 1)
    assert aws.object_keys() == {"12025550123/conv_1.json"}
    assert run(NOW + HOUR)["swept"] == 0


def test_archived_bodies_are_not_queued_again(aws, context):
    check = stage(aws, transcript(), now=NOW - 2 * HOUR)
    archiver.handler.lambda_handler(sqs_event(check), context)

    assert run()["swept"] == 0


@pytest.mark.parametrize(("age", "swept"), [(0, 0), (1, 0), (2, 1), (3, 1), (500, 1)])
def test_the_sweep_ends_with_the_hour_before_last(aws, age, swept):
    stage(aws, transcript(), now=NOW - age * HOUR)

    assert run()["swept"] == swept


def test_a_poison_message_is_queued_only_once(aws):
    stage(aws, b"not json", now=NOW - 2 * HOUR)

    assert [run(NOW + hours * HOUR)["swept"] for hours in range(4)] == [1, 0, 0, 0]


def unfinished(aws) -> set[str]:
    """The staged bodies that are listed for erasures."""
    return {item for conversation_id, item in aws.items() if conversation_id == "#unnamed"}


def test_an_unfinished_body_is_listed_for_erasures_before_it_is_queued(aws, context, archive_all):
    poison = staged_key(stage(aws, b"not json", now=NOW - 2 * HOUR))
    parked = staged_key(stage(aws, audio(), now=NOW - 2 * HOUR))
    done = stage(aws, transcript("conv_2"), now=NOW - 2 * HOUR)
    archiver.handler.lambda_handler(sqs_event(done), context)

    run()

    assert unfinished(aws) == {poison, parked}
    assert handed_on(aws) == sorted([poison, parked])


def test_a_body_is_listed_even_if_sqs_does_not_accept_its_claim_check(aws):
    key = staged_key(stage(aws, b"not json", now=NOW - 2 * HOUR))

    with refusing_sqs(), pytest.raises(ClientError):
        run()

    assert unfinished(aws) == {key}


def test_a_missed_run_is_caught_up(aws):
    run()
    keys = [staged_key(stage(aws, transcript(f"conv_{hours}"), now=NOW + hours * HOUR)) for hours in range(6)]

    assert run(NOW + 7 * HOUR)["swept"] == 6

    assert handed_on(aws) == keys


def test_parked_audio_is_sent_again_without_harm(aws, context, archive_all):
    archiver.handler.lambda_handler(sqs_event(stage(aws, audio(), now=NOW - 2 * HOUR)), context)

    assert run()["swept"] == 1

    archive_all()
    assert aws.call("conv_1")["parked"]["staged_key"] in aws.object_keys("staging/")


def test_a_fetched_recording_is_swept_too(aws):
    key = staged_key(stage_recording(aws, "conv_1", b"ID3", NOW - 2 * HOUR))

    run()

    assert handed_on(aws) == [key]


def test_objects_that_are_not_staged_bodies_are_ignored(aws):
    aws.s3.put_object(Bucket=aws.bucket, Key="staging/2026/11/22/08/readme.txt", Body=b"")
    stage(aws, transcript(), now=NOW - 2 * HOUR)

    assert run()["swept"] == 1


def test_bodies_are_swept_page_by_page_and_the_next_run_continues(aws, monkeypatch):
    monkeypatch.setattr("shared.bucket.LISTED", 10)
    for number in range(11):
        stage(aws, transcript(f"conv_{number}"), now=NOW - 2 * HOUR)

    swept = [reconcile(NOW, lambda: False)["swept"] for _ in range(3)]

    assert swept == [10, 1, 0]
    assert len(set(handed_on(aws))) == 11


def test_a_claim_check_that_sqs_does_not_accept_is_sent_by_the_next_run(aws):
    stage(aws, transcript(), now=NOW - 2 * HOUR)

    with refusing_sqs(), pytest.raises(ClientError):
        run()

    assert run()["swept"] == 1


@contextmanager
def refusing_sqs() -> Iterator[None]:
    """Make SQS refuse the reconciler's messages."""

    def refuse(**_):
        raise ClientError({"Error": {"Code": "InternalError", "Message": ""}}, "SendMessage")

    sqs = reconciler.handler.aws().sqs
    sqs.meta.events.register("before-call.sqs.SendMessage", refuse, unique_id="refuse")
    yield
    sqs.meta.events.unregister("before-call.sqs.SendMessage", unique_id="refuse")
