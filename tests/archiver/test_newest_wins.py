"""Of several versions of an object, the newest wins, in whichever order they arrive."""

import base64

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import ClientError

import archiver.handler
from tests.archiver.conftest import (
    FULL,
    audio,
    stage,
    staged_key,
    transcript,
)
from tests.conftest import fixture_body, sqs_event


@pytest.mark.parametrize("fixture", ["01", "02", "05", "07", "08", "09", "11", "12"])
def test_a_duplicate_changes_no_object_no_version_and_no_record(aws, archive, fixture):
    check = stage(aws, fixture_body(fixture))
    archive(check)
    before = aws.object_keys(), aws.versions(), aws.items()

    assert archive(check, check) == []

    assert (aws.object_keys(), aws.versions(), aws.items()) == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_the_newest_transcript_wins_in_either_order(aws, archive, order):
    checks = [stage(aws, transcript(at=1772550278, status="old")), stage(aws, transcript(at=1772550279, status="new"))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.json(f"{FULL}/conv_1.json")["status"] == "new"
    assert aws.call("conv_1")["status"] == "new"
    assert aws.call("conv_1")["staged_keys"] == {staged_key(check) for check in checks}
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_the_newest_audio_wins_in_either_order(aws, archive, order):
    archive(stage(aws, transcript()))
    checks = [stage(aws, audio(content=b"old", at=1772550281)), stage(aws, audio(content=b"new", at=1772550282))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"


def test_audio_inside_a_transcript_never_replaces_newer_audio(aws, archive):
    inline = base64.b64encode(b"older sound").decode()
    archive(stage(aws, transcript(at=1)))
    archive(stage(aws, audio(at=3)))
    before = aws.call("conv_1")["mp3_order"]

    archive(stage(aws, transcript(at=2, full_audio=inline)))

    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"
    assert aws.call("conv_1")["mp3_order"] == before


def test_a_newer_object_written_between_a_look_and_a_put_stays(aws, archive):
    archive(stage(aws, transcript(at=1)))
    key, newer = f"{FULL}/conv_1.json", {"order": "1-9999999999999-f"}

    def overtake(**_: object) -> None:
        if aws.body(key) != b"newer":
            aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=b"newer", Metadata=newer)

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.HeadObject", overtake)

    assert archive(stage(aws, transcript(at=2))) == []

    assert aws.body(key) == b"newer"


def test_superseded_audio_does_not_change_the_record(aws, archive):
    archive(stage(aws, transcript()))
    remaining = iter([stage(aws, audio(content=b"new", at=1772550282))])

    def overtake(**_: object) -> None:
        for check in remaining:
            archiver.handler.handle_record(SQSRecord(sqs_event(check)["Records"][0]))

    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", overtake)

    assert archive(stage(aws, audio(content=b"old", at=1772550281))) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"
    assert aws.call("conv_1")["mp3_order"] == aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]


def test_a_webhook_wins_over_what_was_fetched_from_the_api(aws, archive):
    archive(stage(aws, transcript(at=1772550279, status="webhook")))
    archive(stage(aws, transcript(at=1772559999, status="api"), origin="api"))

    assert aws.json(f"{FULL}/conv_1.json")["status"] == "webhook"


def test_a_forced_replay_repairs_a_wrong_object(aws, archive):
    body = transcript(status="done")
    archive(stage(aws, body))
    order = aws.head(f"{FULL}/conv_1.json")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.json", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, body))
    assert aws.body(f"{FULL}/conv_1.json") == b"spoilt"

    archive(stage(aws, body, force=True))
    assert aws.json(f"{FULL}/conv_1.json") == body["data"]


@pytest.mark.parametrize("conflicts", [1, 3])
def test_a_put_that_conflicts_with_another_is_repeated(aws, archive, conflicts):
    remaining = iter(range(conflicts))

    def conflict(**_: object) -> None:
        if next(remaining, None) is not None:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject")

    check = stage(aws, transcript())
    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", conflict)

    assert archive(check) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}


def test_a_forced_replay_repairs_audio_too(aws, archive):
    body = transcript(full_audio=base64.b64encode(b"inline").decode())
    archive(stage(aws, body))
    order = aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.mp3", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, body, force=True))
    assert aws.body(f"{FULL}/conv_1.mp3") == b"inline"

    archive(stage(aws, audio()))
    order = aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.mp3", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, audio(), force=True))
    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"


def test_an_object_that_is_deleted_between_a_look_and_a_put_is_written(aws, archive):
    archive(stage(aws, transcript(at=1)))
    key = f"{FULL}/conv_1.json"

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=key)

    archiver.handler.aws().bucket._s3.meta.events.register_first("after-call.s3.HeadObject", delete)

    assert archive(stage(aws, transcript(at=2, status="new"))) == []

    assert aws.json(key)["status"] == "new"
