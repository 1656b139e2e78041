"""The in-memory S3 behaves as moto's."""

import time
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ParamValidationError

import shared.bucket
from tests.conftest import Stack
from tests.faults.services.client import Client
from tests.faults.services.comparison import assert_same
from tests.faults.services.object_steps import BucketSide, ObjectSteps
from tests.faults.services.s3 import S3

BEGIN = datetime(2026, 3, 3, 15, 0, 0, 700_000, tzinfo=timezone.utc)


class Clock:
    """The time of both sides."""

    def __init__(self) -> None:
        self.now = BEGIN

    def seconds(self) -> float:
        return self.now.timestamp()

    def naive(self) -> datetime:
        return self.now.replace(tzinfo=None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("moto.s3.models.utcnow", clock.naive)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return clock


@pytest.fixture
def ours(clock: Clock, aws: Stack) -> BucketSide:
    return BucketSide(Client("s3", S3(clock.seconds, aws.bucket).call), aws.bucket)


@pytest.fixture
def theirs(clock: Clock, aws: Stack) -> BucketSide:
    return BucketSide(aws.s3, aws.bucket)


@pytest.mark.parametrize("seed", range(4))
def test_all_code_that_uses_the_bucket_works_the_same(
    ours: BucketSide, theirs: BucketSide, clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.bucket, "LISTED", 2)

    def wait() -> None:
        clock.now += timedelta(seconds=0.4)

    assert_same(ours, theirs, ObjectSteps(seed).make(120), then=wait)


def test_deletions_and_delete_markers_are_as_aws_describes_them(ours: BucketSide) -> None:
    """moto makes no delete marker for an absent key, and answers NoSuchVersion for a read of one.

    "If bucket versioning is enabled, the operation inserts a delete marker"; "if the specified version in the request
    is a delete marker, the response returns a 405 Method Not Allowed error" (S3, DeleteObject and GetObject).
    """
    ours.call("delete_object", Key="staging/a")
    ours.look()

    assert ours.call("get_object", Key="staging/a") == ("NoSuchKey", "GetObject")
    assert ours.call("head_object", Key="staging/a") == ("404", "HeadObject")
    assert ours.call("get_object_tagging", Key="staging/a") == ("MethodNotAllowed", "GetObjectTagging")
    (marker,) = ours.s3.list_object_versions(Bucket=ours.name)["DeleteMarkers"]
    for operation, code in (("get_object", "MethodNotAllowed"), ("head_object", "405")):
        assert ours.call(operation, Key="staging/a", VersionId=marker["VersionId"])[0] == code


def test_metadata_is_ascii(ours: BucketSide, theirs: BucketSide) -> None:
    for side in (ours, theirs):
        with pytest.raises(ParamValidationError, match="Non ascii characters found in S3 metadata"):
            side.call("put_object", Key="k", Body=b"", Metadata={"a": "é"})


@pytest.mark.parametrize("size", [2047, 2048])
def test_metadata_has_at_most_2048_bytes(ours: BucketSide, size: int) -> None:
    """moto takes more. "User metadata size is limited to 2k bytes for the total length of all values and keys"."""
    answer = ours.call("put_object", Key="k", Body=b"", Metadata={"a": "x" * size})

    assert (answer == ("MetadataTooLarge", "PutObject")) is (size == 2048)


@pytest.mark.parametrize("key", ["k" * 1024, "k" * 1025, "é" * 512, "é" * 513])
def test_a_key_has_at_most_1024_bytes(ours: BucketSide, key: str) -> None:
    """moto takes longer ones. "A sequence of Unicode characters whose UTF-8 encoding is at most 1024 bytes long"."""
    answer = ours.call("put_object", Key=key, Body=b"")

    assert (answer == ("KeyTooLongError", "PutObject")) is (len(key.encode()) > 1024)


def test_another_bucket_does_not_exist(ours: BucketSide, theirs: BucketSide) -> None:
    """Only moto tells the code for HEAD: S3 answers it without a body, so that boto3 knows no code but the status."""
    for side in (ours, theirs):
        side.name = "elevenlabs-another"
        assert side.call("get_object", Key="a") == ("NoSuchBucket", "GetObject")
        assert side.call("put_object", Key="a", Body=b"") == ("NoSuchBucket", "PutObject")
    assert ours.call("head_object", Key="a") == ("404", "HeadObject")


def day(number: float) -> datetime:
    return BEGIN.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=number)


def test_lifecycle_rules_hide_tagged_staged_bodies_at_midnight_and_delete_their_versions_later(clock: Clock) -> None:
    """moto has no lifecycle. Days are rounded up to the next midnight in UTC. A rule hides an object that has versions
    behind a delete marker; the version goes 30 days later, and then the marker, which is alone.
    """
    s3 = S3(clock.seconds, "calls")
    for key, tag in (("staging/a", "archived=true"), ("staging/b", ""), ("12025550101/c", "archived=true")):
        s3.call("put_object", {"Bucket": "calls", "Key": key, "Body": b"x", "Tagging": tag})
    seen = {}

    for at in (7.9, 8, 37.9, 38):
        clock.now = day(at)
        s3.expire(7)
        seen[at] = s3.keys(), len(s3.all_versions())

    both = ["12025550101/c", "staging/b"]
    assert seen == {7.9: ([*both[:1], "staging/a", "staging/b"], 3), 8: (both, 3), 37.9: (both, 3), 38: (both, 2)}
    assert "DeleteMarkers" not in s3.call("list_object_versions", {"Bucket": "calls"})
