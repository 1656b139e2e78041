"""Calls in a storage class from which they must first be restored."""

from typing import Any

import pytest

from tests.api.conftest import Get, audio, call, stage


@pytest.fixture
def cold(aws: Any, archive: Any) -> None:
    archive(stage(aws, call()), stage(aws, audio()))
    for key in ("12025550123/conv_1.json", "12025550123/conv_1.mp3"):
        source = {"Bucket": aws.bucket, "Key": key}
        aws.s3.copy_object(Bucket=aws.bucket, Key=key, CopySource=source, StorageClass="GLACIER")


@pytest.mark.parametrize("path", ["transcript", "audio", "json"])
def test_a_file_in_cold_storage_cannot_be_read_until_it_is_restored(cold, get: Get, path: str) -> None:
    answer = get(f"/calls/conv_1/{path}")

    assert answer["status"] == 409
    assert "Restore it" in answer["detail"]


def test_a_call_in_cold_storage_is_described_by_its_record(cold, get: Get) -> None:
    found = get("/calls/conv_1")

    assert (found["caller"], found["evaluation"]) == ("+12025550123", [])
    assert found["completeness"]["is_complete"] is True
    assert "restore its JSON" in found["completeness"]["explanation"]


def test_a_file_that_was_restored_is_read(cold, aws, get: Get) -> None:
    for key in ("12025550123/conv_1.json", "12025550123/conv_1.mp3"):
        aws.s3.restore_object(Bucket=aws.bucket, Key=key, RestoreRequest={"Days": 1})
        aws.head(key)  # moto has restored it at the second look

    assert "url" in get("/calls/conv_1/audio")
    assert "turns" in get("/calls/conv_1/transcript")


def test_a_file_that_is_gone_has_no_address(archive, aws, get: Get) -> None:
    archive(stage(aws, call()), stage(aws, audio()))
    aws.s3.delete_object(Bucket=aws.bucket, Key="12025550123/conv_1.mp3")

    assert get("/calls/conv_1/audio")["status"] == 404
