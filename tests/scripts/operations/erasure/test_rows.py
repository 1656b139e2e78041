"""An erasure takes the rows of erased calls out of the files under text/, and leaves those of others."""

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import indexer.handler
from shared.texts import Row, read_rows, write_rows
from tests.conftest import forget, sqs_event
from tests.scripts.operations.conftest import CALLER
from tests.scripts.operations.erasure.conftest import OTHER, at, call, traces, unlock

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
START = {"start_time_unix_secs": 1795341600}


@pytest.fixture
def index(stack, context: Any, keep) -> Callable[..., list[str]]:
    """Archive calls, and index those in one batch; returns the new files' keys."""

    def run(*bodies: dict[str, Any]) -> list[str]:
        before = stack.object_keys("text/")
        keep(*map(started, bodies))
        told = [json.dumps(each) for each in stack.announcements() if each["event"] == "transcript_archived"]
        assert indexer.handler.lambda_handler(sqs_event(*told), context) == {"batchItemFailures": []}
        return sorted(stack.object_keys("text/") - before)

    return run


@pytest.fixture
def merge(context: Any) -> Callable[[], None]:
    return lambda: indexer.handler.lambda_handler({}, context)


def started(body: dict[str, Any]) -> dict[str, Any]:
    body["data"]["metadata"] |= START
    return body


def rows(stack) -> list[Row]:
    """The rows in all versions of all files."""
    versions = stack.versions("text/")
    bodies = [stack.s3.get_object(Bucket=stack.bucket, Key=key, VersionId=version) for key, version in versions]
    return [row for each in bodies for row in read_rows(gzip.decompress(each["Body"].read()))]


def indexed(stack) -> list[str]:
    """The calls that have rows."""
    return sorted({row.conversation_id for row in rows(stack)})


def test_the_rows_of_a_caller_leave_their_files_and_those_of_others_stay(stack, index, erase):
    index(call("conv_1"), call("conv_2", OTHER))
    index(call("conv_3"))

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], certificate["deleted"]["rows"]) == (0, True, 4)
    assert indexed(stack) == ["conv_2"]
    assert len(stack.versions("text/")) == 1
    assert traces(stack) == []


def test_the_preview_says_how_many_rows_there_are(stack, index, run_ops_json):
    index(call("conv_1"), call("conv_2", OTHER))

    _, shown = run_ops_json("erase", CALLER)

    assert shown["rows"] == 2


def test_only_the_rows_of_one_call_are_deleted(stack, index, erase):
    index(call("conv_1"), call("conv_3"))

    erase("--conversation", "conv_1")

    assert indexed(stack) == ["conv_3"]


def test_rows_that_name_the_caller_of_an_older_version_are_deleted_from_anothers_call(stack, index, erase):
    for number, at_time in ((OTHER, 1795349997), (CALLER, 1795349998), (OTHER, 1795349999)):
        index(call("conv_1", number) | {"event_timestamp": at_time})

    erase(CALLER)

    assert {row.caller for row in rows(stack)} == {OTHER}


def test_rows_in_a_replaced_version_of_a_file_are_deleted_too(stack, index, erase):
    (file,) = index(call("conv_1"), call("conv_2", OTHER))
    stack.s3.put_object(Bucket=stack.bucket, Key=file, Body=gzip.compress(b""))

    erase(CALLER)

    assert "conv_1" not in indexed(stack)


def test_a_file_that_is_merged_away_meanwhile_is_looked_for_again(stack, index, erase, aws_calls, merge):
    for number in (1, 2):
        index(call(f"conv_{number}"), call(f"conv_other{number}", OTHER))

    def merged_before_the_tombstones() -> None:
        """As a pass does that read the records before there were tombstones."""
        bodies = [gzip.decompress(stack.body(key)) for key in sorted(stack.object_keys("text/"))]
        files = sorted(stack.object_keys("text/"))
        new = f"{files[0].rpartition('/')[0]}/{'0' * 64}.jsonl.gz"
        stack.s3.put_object(Bucket=stack.bucket, Key=new, Body=gzip.compress(b"".join(bodies)))
        for key, version in stack.versions("text/"):
            if key != new:
                stack.s3.delete_object(Bucket=stack.bucket, Key=key, VersionId=version)

    at(aws_calls, "DeleteObject", 1, merged_before_the_tombstones)
    code, certificate = erase(CALLER)

    assert (code, certificate["complete"]) == (0, True)
    assert indexed(stack) == ["conv_other1", "conv_other2"]


def test_a_file_that_changes_while_it_is_rewritten_is_rewritten_again(stack, index, erase, run_ops, aws_calls):
    (file,) = index(call("conv_1"), call("conv_2", OTHER))
    body = stack.body(file)
    aws_calls.seen.clear()
    run_ops("erase", CALLER)
    reads = aws_calls.seen["GetObject"]  # of one search; an erasure searches twice before it deletes
    changed = []

    def change() -> None:
        late = write_rows(
            [Row(conversation_id="conv_late", agent_id=None, caller=None, started=0, turn=0, version="1-1")]
        )
        changed.append(stack.s3.put_object(Bucket=stack.bucket, Key=file, Body=body + late))

    at(aws_calls, "GetObject", 2 * reads + 1, change)
    code, _ = erase(CALLER)

    assert (code, len(changed)) == (0, 1)
    assert indexed(stack) == ["conv_2", "conv_late"]


def test_a_pass_beside_an_erasure_brings_nothing_back(stack, index, erase, aws_calls, merge):
    for number in (1, 2):
        index(call(f"conv_{number}"), call(f"conv_other{number}", OTHER))
    at(aws_calls, "PutObject", 1, merge)

    code, certificate = erase(CALLER)
    merge()

    assert (code, certificate["complete"]) == (0, True)
    assert indexed(stack) == ["conv_other1", "conv_other2"]


@pytest.mark.parametrize("refused", ["PutObject", "DeleteObject"])
def test_an_interrupted_erasure_finds_the_rows_that_are_left(
    stack, index, erase, run_ops, aws_calls, refused, tmp_path
):
    index(call("conv_1"), call("conv_2", OTHER))
    aws_calls.refuse(refused, "InternalError")
    assert run_ops("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/first.json")[0] != 0
    aws_calls.reset()
    assert "conv_1" in indexed(stack)

    code, _ = erase(CALLER)

    assert code == 0
    assert indexed(stack) == ["conv_2"]


def test_a_file_that_nobody_can_read_is_deleted_as_a_whole(stack, index, erase):
    index(call("conv_1"))
    ((file, version),) = stack.versions("text/")
    stack.s3.delete_object(Bucket=stack.bucket, Key=file, VersionId=version)
    stack.s3.put_object(Bucket=stack.bucket, Key=file, Body=f"{CALLER} no rows".encode())

    code, _ = erase(CALLER)

    assert (code, stack.versions("text/")) == (0, set())


def test_locked_rows_are_hidden_and_deleted_by_a_second_run(stack, context, index, erase, lock):
    forget()
    (file,) = index(call("conv_1"))
    lock(file, datetime.now(timezone.utc) + timedelta(days=1))

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"]) == (1, False)
    assert stack.object_keys("text/") == set()
    assert any("Object Lock" in each["why"] for each in certificate["remains"])
    unlock(stack)
    assert erase(CALLER)[0] == 0
    assert stack.versions("text/") == set()
