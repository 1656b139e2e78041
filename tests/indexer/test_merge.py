"""The hourly pass: small files become one, and a crash, another pass or an erasure beside it does no harm."""

from datetime import datetime, timezone

import pytest

import indexer.handler
import indexer.merge
from indexer.merge import find_groups
from shared.errors import StorageError
from shared.texts import CALL
from tests.indexer.conftest import DAY, STARTED, rows, said
from tests.indexer.test_batch import allow, refuse

TODAY = int(datetime.now(timezone.utc).timestamp())


@pytest.fixture
def filled(aws, index, archived):
    """Three files of a day that is over, with a call each."""
    for number in (1, 2, 3):
        index(archived(f"conv_{number}"))
    assert len(aws.object_keys("text/")) == 3
    return [("conv_1", "1-1", "My boat."), ("conv_2", "1-1", "My boat."), ("conv_3", "1-1", "My boat.")]


def s3():
    return indexer.handler.aws().bucket._s3


def test_the_files_of_a_day_that_is_over_become_one_without_a_trace_of_the_others(aws, merge, filled):
    merge()

    assert said(aws) == filled
    assert len(rows(aws)) == 6
    assert len(aws.versions("text/")) == 1


def test_a_pass_that_finds_nothing_to_merge_changes_nothing(aws, merge, filled):
    merge()
    before = aws.versions("text/")

    merge()

    assert aws.versions("text/") == before


def test_days_are_merged_apart(aws, index, archived, merge):
    for number, started in enumerate((STARTED, STARTED, STARTED - 86_400, STARTED - 86_400)):
        index(archived(f"conv_{number}", started=started))

    merge()

    assert [key.split("/")[1] for key in sorted(aws.object_keys("text/"))] == ["day=2026-11-21", f"day={DAY}"]
    assert len(said(aws)) == 4


@pytest.mark.parametrize(("files", "left"), [(11, 11), (12, 1)])
def test_the_files_of_today_are_merged_when_there_are_many(aws, index, archived, merge, files, left):
    for number in range(files):
        index(archived(f"conv_{number}", started=TODAY))

    merge()

    assert len(aws.object_keys("text/")) == left
    assert len(said(aws)) == files


def test_large_files_are_left_as_they_are(aws, merge, filled, monkeypatch):
    monkeypatch.setattr(indexer.merge, "SMALL", 10)

    merge()

    assert len(aws.object_keys("text/")) == 3


def test_files_that_are_large_together_become_several(aws, merge, filled, monkeypatch):
    monkeypatch.setattr(indexer.merge, "MOST", 300)

    groups = [len(group.files) for group in find_groups(indexer.handler.aws().bucket, "2026-11-23")]
    merge()

    assert groups == [2]
    assert len(aws.object_keys("text/")) == 2
    assert said(aws) == filled


def test_doubles_are_left_out(aws, index, archived, merge):
    first, second, third = (archived(f"conv_{number}") for number in (1, 2, 3))
    index(first, second)
    index(first, third)

    merge()

    assert [each for each, *_ in said(aws)] == ["conv_1", "conv_2", "conv_3"]
    assert len(aws.versions("text/")) == 1


def test_a_file_that_has_the_rows_of_all_others_stays_as_it_is(aws, index, archived, merge):
    first, second = archived("conv_1"), archived("conv_2")
    index(first, second)
    before = aws.versions("text/")
    index(first)

    merge()

    assert aws.versions("text/") == before


def test_rows_of_older_versions_are_left_out(aws, index, archived, merge):
    index(archived("conv_1", "My boat.", order="1-1"))
    index(archived("conv_1", "My red boat.", order="1-2"))

    merge()

    assert said(aws) == [("conv_1", "1-2", "My red boat.")]


def test_rows_of_erased_calls_are_left_out(aws, merge, filled, records):
    records.erase("conv_2", "2026-11-22T10:00:00Z")

    merge()

    assert said(aws) == [filled[0], filled[2]]
    assert len(aws.versions("text/")) == 1


def test_if_no_row_counts_nothing_stays(aws, merge, filled, records):
    for number in (1, 2, 3):
        records.erase(f"conv_{number}", "2026-11-22T10:00:00Z")

    merge()

    assert aws.versions("text/") == set()


def test_rows_of_a_call_without_a_record_stay(aws, merge, filled):
    table = {"TableName": aws.outputs["ConversationTableName"]}
    aws.dynamodb.delete_item(**table, Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}})

    merge()

    assert said(aws) == filled


@pytest.mark.parametrize("deleted", range(3))
def test_a_pass_that_ended_after_some_deletions_is_finished_by_the_next(aws, merge, filled, deleted):
    crash_after(deleted)
    with pytest.raises(StorageError):
        merge()
    allow(s3(), "DeleteObject")
    assert set(said(aws)) == set(filled)

    merge()

    assert said(aws) == filled
    assert len(aws.versions("text/")) == 1


def test_a_pass_that_ended_before_the_new_file_is_done_by_the_next(aws, merge, filled):
    refuse(s3(), "PutObject")
    with pytest.raises(StorageError):
        merge()
    assert said(aws) == filled
    allow(s3(), "PutObject")

    merge()

    assert said(aws) == filled
    assert len(aws.versions("text/")) == 1


def test_a_day_that_cannot_be_merged_keeps_no_other_from_it(aws, index, archived, merge, filled):
    for number in (4, 5):
        index(archived(f"conv_{number}", started=STARTED - 86_400))
    broken = sorted(aws.object_keys("text/"))[-1]
    aws.s3.put_object(Bucket=aws.bucket, Key=broken, Body=b"no rows")

    with pytest.raises(StorageError):
        merge()

    assert len(aws.object_keys("text/day=2026-11-21/")) == 1
    assert len(aws.object_keys(f"text/day={DAY}/")) == 3


def test_a_second_pass_at_the_same_moment_loses_and_doubles_nothing(aws, merge, filled):
    once("before-call.s3.PutObject", merge)

    merge()

    assert said(aws) == filled
    assert len(aws.versions("text/")) == 1


def test_a_batch_that_is_written_during_a_pass_stays(aws, merge, filled, index, archived):
    late = archived("conv_4")
    once("before-call.s3.PutObject", lambda: index(late))

    merge()

    assert said(aws) == [*filled, ("conv_4", "1-1", "My boat.")]


def test_if_a_file_is_gone_its_group_is_left_to_the_next_pass(aws, merge, filled):
    gone = sorted(aws.object_keys("text/"))[0]
    once("after-call.s3.ListObjectsV2", lambda: aws.s3.delete_object(Bucket=aws.bucket, Key=gone))

    merge()

    assert len(aws.object_keys("text/")) == 2


def test_a_pass_stops_in_time_and_says_what_is_left(aws, merge, filled, context, capsys):
    context.get_remaining_time_in_millis = lambda: 44_000

    merge()

    assert len(aws.object_keys("text/")) == 3
    assert '"TextDaysLeft":[1.0]' in capsys.readouterr().out.replace(" ", "")


def test_the_metrics_say_how_many_files_were_merged(aws, merge, filled, capsys):
    merge()

    written = capsys.readouterr().out.replace(" ", "")
    assert '"TextFilesMerged":[3.0]' in written
    assert '"TextDaysLeft":[0.0]' in written


def test_a_file_of_millions_of_rows_is_merged_row_by_row(aws, merge, index, archived):
    for number in (1, 2):
        index(archived(f"conv_{number}", *["a"] * 1000))

    merge()

    assert len([row for row in rows(aws) if row.turn != CALL]) == 2000


def crash_after(deletions: int) -> None:
    """Let only so many files be deleted."""
    left = iter(range(deletions))

    def refused(**_):
        if next(left, None) is None:
            raise StorageError("crashed")

    s3().meta.events.register("before-call.s3.DeleteObject", refused, unique_id="refuse")


def once(event, act) -> None:
    """Do something in the middle of a pass."""

    def acted(**_):
        s3().meta.events.unregister(event, unique_id="once")
        act()

    s3().meta.events.register(event, acted, unique_id="once")
