"""A batch of announcements becomes files of rows, one for each day, and one call's trouble is its own."""

import json
from types import SimpleNamespace

from botocore.exceptions import ClientError

import indexer.drafts
import indexer.handler
from shared.texts import CALL
from tests.indexer.conftest import DAY, STARTED, announced, rows, said
from tests.memory_writer.conftest import announce_staged

YESTERDAY = "2026-11-21"


def test_a_batch_becomes_one_file_for_each_day(aws, index, archived):
    batch = [archived("conv_1"), archived("conv_2"), archived("conv_3", started=STARTED - 86_400)]

    assert index(*batch) == []

    days = sorted(key.split("/")[1] for key in aws.object_keys("text/"))
    assert days == [f"day={YESTERDAY}", f"day={DAY}"]
    assert {each for each, *_ in said(aws)} == {"conv_1", "conv_2", "conv_3"}


def test_a_call_has_a_row_for_itself_and_one_for_each_turn_with_words(aws, index, archived):
    index(archived("conv_1", "My boat, please.", "...", "It is RED."))

    call, *turns = rows(aws)
    assert (call.turn, call.seconds, call.audio, call.caller) == (CALL, 60, "pending", "+12025550123")
    assert [(each.turn, each.words, each.secs) for each in turns] == [
        (0, " my boat please ", 3.0),
        (2, " it is red ", 3.0),
    ]
    assert {(each.started, each.agent_id) for each in turns} == {(STARTED, "agent_1")}


def test_the_record_names_the_day_and_the_version_before_the_file_is_written(aws, index, archived):
    refuse(indexer.handler.aws().bucket._s3, "PutObject")

    assert index(archived("conv_1", order="1-7")) == ["message-1"]

    assert aws.object_keys("text/") == set()
    assert (aws.call("conv_1")["text_days"], aws.call("conv_1")["text_order"]) == ({DAY}, "1-7")


def test_a_batch_that_is_delivered_again_writes_the_same_file(aws, index, archived):
    batch = [archived("conv_1"), archived("conv_2")]
    index(*batch)
    before = aws.versions("text/")

    assert index(*reversed(batch)) == []

    assert aws.versions("text/") == before


def test_a_call_that_is_announced_twice_in_a_batch_is_in_its_file_once(aws, index, archived):
    message = archived("conv_1")

    index(message, message)

    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_an_attempt_that_ended_before_its_file_is_done_again(aws, index, archived):
    message = archived("conv_1")
    refuse(indexer.handler.aws().bucket._s3, "PutObject")
    index(message)
    allow(indexer.handler.aws().bucket._s3, "PutObject")

    assert index(message) == []

    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_another_write_at_the_same_moment_is_not_taken_for_the_file(aws, index, archived):
    """S3 answers with a conflict while another put of the same key runs, which may still fail."""
    left = [409]
    conflict = {"Error": {"Code": "ConditionalRequestConflict", "Message": ""}, "ResponseMetadata": {}}
    indexer.handler.aws().bucket._s3.meta.events.register(
        "before-call.s3.PutObject", lambda **_: (SimpleNamespace(status_code=left.pop()), conflict) if left else None
    )

    assert index(archived("conv_1")) == []

    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_if_a_file_cannot_be_written_only_its_calls_fail(aws, index, archived):
    batch = [
        archived("conv_1", started=STARTED - 86_400),
        archived("conv_2"),
        archived("conv_3", started=STARTED - 86_400),
    ]
    refuse(indexer.handler.aws().bucket._s3, "PutObject", on=YESTERDAY)

    assert index(*batch) == ["message-1", "message-3"]

    assert {each for each, *_ in said(aws)} == {"conv_2"}


def test_a_later_version_has_its_own_rows_and_the_record_names_the_newest(aws, index, archived):
    index(archived("conv_1", "My boat.", order="1-1"))
    index(archived("conv_1", "My red boat.", order="1-2"))

    assert said(aws) == [("conv_1", "1-1", "My boat."), ("conv_1", "1-2", "My red boat.")]
    assert aws.call("conv_1")["text_order"] == "1-2"


def test_an_announcement_of_an_older_version_reads_the_version_that_is_archived(aws, index, archived):
    old = archived("conv_1", "My boat.", order="1-1")
    archived("conv_1", "My red boat.", order="1-2")

    index(old)

    assert said(aws) == [("conv_1", "1-2", "My red boat.")]


def test_a_version_that_is_older_than_the_rows_of_its_call_is_dropped(aws, index, archived, records):
    message = archived("conv_1", order="1-1")
    records.note_text("conv_1", DAY, "1-2")

    assert index(message) == []

    assert said(aws) == []


def test_an_erased_call_is_dropped(aws, index, archived, records):
    message = archived("conv_1")
    records.erase("conv_1", "2026-11-22T10:00:00Z")

    assert index(message) == []

    assert (said(aws), aws.reasons("TextDlqUrl")) == ([], [])


def test_a_call_that_is_erased_while_it_is_read_is_dropped(aws, index, archived, records):
    message = archived("conv_1")
    erase = lambda **_: records.erase("conv_1", "2026-11-22T10:00:00Z")  # noqa: E731
    indexer.handler.aws().table.meta.client.meta.events.register(
        "after-call.dynamodb.GetItem", erase, unique_id="erase"
    )

    assert index(message) == []

    assert said(aws) == []


def test_a_test_call_is_not_indexed(aws, index, archived):
    assert index(archived("canary_20261122T100000Z_0123abcd")) == []

    assert said(aws) == []


def test_a_message_that_is_no_announcement_goes_to_the_dead_letters_alone(aws, index, archived):
    assert index("nonsense", archived("conv_1")) == []

    assert aws.reasons("TextDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]
    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_a_call_whose_object_is_gone_goes_to_the_dead_letters_alone(aws, index, archived):
    gone = archived("conv_2")
    aws.s3.delete_object(Bucket=aws.bucket, Key="12025550123/conv_2.json")

    assert index(gone, archived("conv_1")) == []

    assert [step for step, _ in aws.reasons("TextDlqUrl")] == ["source"]
    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_a_call_whose_json_could_not_be_written_is_indexed_from_its_payload(aws, index, records):
    data = {"conversation_id": "conv_1", "transcript": [{"role": "user", "message": "My boat."}]}
    announced(aws, records, data)

    assert index(announce_staged(aws, data)) == []

    assert said(aws) == [("conv_1", "1-1", "My boat.")]


def test_a_call_of_unknown_start_is_on_the_day_on_which_it_is_listed(aws, index, records):
    data = {"conversation_id": "conv_1", "transcript": [{"role": "user", "message": "My boat."}]}

    index(announced(aws, records, data))

    assert [row.started for row in rows(aws)] == [STARTED] * 2


def test_files_are_written_in_between_when_there_are_many_rows(aws, index, archived, monkeypatch):
    monkeypatch.setattr(indexer.drafts, "MOST_BYTES", 100)

    assert index(archived("conv_1"), archived("conv_2")) == []

    assert len(aws.object_keys("text/")) == 2


def test_what_is_not_read_in_time_fails_and_the_rest_is_written(aws, index, archived, context):
    left = iter([300_000, 300_000, 40_000])
    context.get_remaining_time_in_millis = lambda: next(left, 40_000)

    failed = index(*(archived(f"conv_{number}") for number in range(1, 6)))

    assert len(failed) == 3
    assert len(said(aws)) == 2


def test_the_log_and_the_metrics_name_calls_and_none_of_their_words(aws, index, archived, logs, capsys):
    index(archived("conv_1", "A secret boat."), "nonsense")

    entries = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [each["conversation_id"] for each in entries if each["message"] == "Call indexed"] == ["conv_1"]
    assert '"CallIndexed":[1.0]' in capsys.readouterr().out.replace(" ", "")
    assert "boat" not in logs.getvalue()


def refuse(s3, operation: str, on: str = "text/") -> None:
    """Make S3 refuse an operation for keys that contain `on`."""

    def refused(params, **_):
        if on in str(params["url_path"]):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, operation)

    s3.meta.events.register(f"before-call.s3.{operation}", refused, unique_id="refuse")


def allow(s3, operation: str) -> None:
    s3.meta.events.unregister(f"before-call.s3.{operation}", unique_id="refuse")
