"""Objects that may not be deleted yet."""

from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

from shared.times import utc
from tests.archiver.conftest import stage_recording, staged_key
from tests.scripts.operations.conftest import (
    CALLER,
)
from tests.scripts.operations.erasure.conftest import OTHER, at, call, notice, spoken, traces, unlock

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_locked_objects_are_named_and_hidden_and_deleted_once_they_are_unlocked(stack, lock, keep, sweep, erase):
    until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
    keep(call("conv_1"), call("conv_2"))
    recording = staged_key(stage_recording(stack, "conv_1", spoken(CALLER)))
    sweep()
    key = f"{CALLER[1:]}/conv_1.json"
    lock(key, until)
    lock(recording, until)

    results = [erase(CALLER), erase(CALLER)]
    stored = [each["Key"] for each in stack.s3.list_object_versions(Bucket=stack.bucket)["Versions"]]
    seen = stack.object_keys() | stack.object_keys("staging/")
    unlock(stack)
    code, certificate = erase(CALLER)

    for refused, incomplete in results:
        assert (refused, incomplete["complete"], incomplete["deleted"]["calls"]) == (1, False, 0)
        named = {each["what"].split()[0]: each for each in incomplete["remains"]}
        assert named["120…123/conv_1.json"]["why"] == named[recording]["why"] == "Object Lock"
        assert named["120…123/conv_1.json"]["until"] == utc(until)
        assert not any(key in each for each in incomplete["deleted_versions"])
    assert results[0][1]["deleted"]["object_versions"] == 1
    assert (seen, sorted(stored)) == (set(), sorted([key, recording]))
    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert "Versions" not in stack.s3.list_object_versions(Bucket=stack.bucket)


def test_a_legal_hold_is_named(stack, lock, keep, erase):
    keep(call("conv_1"))
    held = {"Bucket": stack.bucket, "Key": f"{CALLER[1:]}/conv_1.json"}
    stack.s3.put_object_legal_hold(**held, LegalHold={"Status": "ON"})

    code, certificate = erase(CALLER)

    (kept_back,) = (each for each in certificate["remains"] if each["what"].startswith("120…123/conv_1.json"))
    assert (code, kept_back["why"], kept_back["until"]) == (1, "Object Lock", "its legal hold is removed")


def test_an_object_that_a_policy_protects_is_named_without_a_date(stack, keep, erase, aws_calls):
    keep(call("conv_1"))

    def forbid() -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    at(aws_calls, "DeleteObject", 1, forbid)

    code, certificate = erase(CALLER)

    (kept_back,) = (each for each in certificate["remains"] if "AWS refuses" in each["why"])
    assert (code, kept_back["until"]) == (1, "it can be deleted. Then run the same command again")


def test_an_object_in_an_archive_class_is_named_before_anything_is_deleted(stack, keep, failed, aws_calls):
    keep(call("conv_1"), notice(OTHER))
    aws_calls.refuse("GetObject", "InvalidObjectState")

    code, sentence = failed(CALLER)

    assert (code, sentence.endswith("Restore it. Then run the same command again.")) == (1, True)
    assert stack.object_keys(CALLER[1:]) == {f"{CALLER[1:]}/conv_1.json"}
