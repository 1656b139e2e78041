"""Faults of S3, SQS and SNS, and objects that disappear."""

import json

import pytest

import archiver.handler
from tests.archiver.conftest import allow, envelope, refuse, stage, staged_key, transcript
from tests.conftest import fixture_body


@pytest.mark.parametrize("on", [".json", ".mp3"])
def test_a_storage_fault_fails_its_record_but_does_not_delay_the_memories(aws, archive, logs, on):
    checks = stage(aws, fixture_body("07")), stage(aws, envelope({"conversation_id": "conv_2"}, "future"))
    refuse("PutObject", on="legacy7" + on)

    assert archive(*checks) == ["message-1"]

    (announcement,) = (each for each in aws.announcements() if each["event"] == "transcript_archived")
    assert announcement["source_key"] == staged_key(checks[0])
    assert announcement["json_key"] is None
    assert "Error saving to S3: PutObject: AccessDenied" in logs.getvalue()
    assert "12025550167" not in logs.getvalue()
    assert aws.tags(staged_key(checks[0])) == {}

    allow("PutObject")
    assert archive(checks[0]) == []
    assert aws.announcements()[-1]["json_key"] == "12025550167/conv_fixture00000000000000legacy7.json"


def test_a_message_that_the_dlq_refuses_is_not_lost(aws, archive, capsys):
    aws.sqs.delete_queue(QueueUrl=aws.outputs["ArchiveDlqUrl"])

    assert archive("not json", stage(aws, transcript())) == ["message-1"]
    assert '"RecordFailed"' in capsys.readouterr().out


def test_each_failure_is_counted_for_the_alarms(aws, archive, capsys):
    check = stage(aws, transcript())
    refuse("PutObject", on="conv_1.json")

    archive(check, "not json")

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [each["RecordFailed"] for each in metrics if "RecordFailed" in each] == [[1.0]]
    reasons = [each.get("reason") for each in metrics if "RecordPoisoned" in each]
    assert reasons == ["claim check", None]


def test_the_log_of_a_record_does_not_name_the_previous_one(aws, archive, logs):
    archive(stage(aws, transcript()), "not json")

    (line,) = [each for each in map(json.loads, logs.getvalue().splitlines()) if each.get("step") == "claim check"]
    assert "delivery_id" not in line


def test_a_staged_body_that_is_deleted_before_it_is_tagged_is_no_error(aws, archive):
    check = stage(aws, transcript())
    version = aws.head(staged_key(check))["VersionId"]

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check), VersionId=version)

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.PutObject", delete)

    assert archive(check) == []


def test_a_staged_body_behind_a_delete_marker_needs_no_tag(aws, archive):
    check = stage(aws, transcript())

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check))

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.PutObject", delete)

    assert archive(check) == []
