"""`ops reindex --text` makes rows again from the archive, and `ops reindex` notes again where they are."""

import gzip
import json
from typing import Any

import pytest

import indexer.handler
from scripts.operations import rows as rows_module
from shared.texts import CALL, Row, read_rows
from tests.archiver.conftest import envelope, stage
from tests.conftest import sqs_event
from tests.scripts.operations.conftest import archive_checks, press_ctrl_c, table
from tests.transcriber.conftest import RESULT

DAY, STARTED = "2026-11-22", 1795341600


@pytest.fixture
def archive(stack, context: Any):
    """Archive calls with these words; returns their announcements."""

    def run(**words: str) -> list[str]:
        for number, (name, said) in enumerate(words.items()):
            archive_checks(context, stage(stack, call(name, said, STARTED + number)))
        return [json.dumps(each) for each in stack.announcements()]

    return run


@pytest.fixture
def index(context: Any):
    def run(announcements: list[str]) -> None:
        context.get_remaining_time_in_millis = lambda: 300_000
        assert indexer.handler.lambda_handler(sqs_event(*announcements), context) == {"batchItemFailures": []}

    return run


def call(conversation_id: str, words: str, started: int = STARTED, at: int = 1795349997) -> dict[str, Any]:
    metadata = {"start_time_unix_secs": started, "phone_call": {"external_number": "+12025550123"}}
    turns = [{"role": "user", "message": words}]
    return envelope({"conversation_id": conversation_id, "metadata": metadata, "transcript": turns}, at=at)


def rows(stack) -> list[Row]:
    bodies = [stack.body(key) for key in sorted(stack.object_keys("text/"))]
    return [row for body in bodies for row in read_rows(gzip.decompress(body))]


def said(stack) -> list[tuple[str, str | None]]:
    return sorted((row.conversation_id, row.message) for row in rows(stack) if row.turn != CALL)


def delete_rows(stack) -> None:
    for key, version in stack.versions("text/"):
        stack.s3.delete_object(Bucket=stack.bucket, Key=key, VersionId=version)


def test_rows_that_were_lost_are_made_again(stack, archive, index, run_ops_json):
    index(archive(conv_1="My boat.", conv_2="Your boat."))
    before = rows(stack)
    delete_rows(stack)

    code, done = run_ops_json("reindex", "--text", "--yes")

    assert code == 0
    assert done.items() >= {"calls": 2, "files": 1, "left_out": 0, "unreadable": 0}.items()
    assert sorted(map(repr, rows(stack))) == sorted(map(repr, before))


def test_calls_that_were_never_indexed_are(stack, archive, run_ops_json):
    archive(conv_1="My boat.")

    run_ops_json("reindex", "--text", "--yes")

    assert said(stack) == [("conv_1", "My boat.")]
    assert stack.call("conv_1")["text_days"] == {DAY}


def test_without_yes_the_calls_are_only_counted(stack, archive, run_ops_json):
    archive(conv_1="My boat.", conv_2="Your boat.")

    _, shown = run_ops_json("reindex", "--text")

    assert shown["calls"] == 2
    assert stack.object_keys("text/") == set()


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (["--since", "2026-11-22T10:00:01"], ["conv_2", "conv_3"]),
        (["--until", "2026-11-22T10:00:02"], ["conv_1", "conv_2"]),
        (["--since", "2026-11-22T10:00:01", "--until", "2026-11-22T10:00:02"], ["conv_2"]),
        (["--since", "2026-11-23"], []),
    ],
    ids=["since", "until", "both", "nothing"],
)
def test_only_the_calls_of_a_range_are_made_again(stack, archive, run_ops_json, choice, found):
    archive(conv_1="One.", conv_2="Two.", conv_3="Three.")

    run_ops_json("reindex", "--text", "--yes", *choice)

    assert [each for each, _ in said(stack)] == found


def test_rows_that_are_there_are_replaced_and_not_doubled(stack, archive, index, run_ops_json):
    first, second = archive(conv_1="My boat.", conv_2="Your boat.")
    index([first])
    index([second])
    index([first, second])

    run_ops_json("reindex", "--text", "--yes")

    assert said(stack) == [("conv_1", "My boat."), ("conv_2", "Your boat.")]
    assert len(stack.object_keys("text/")) == 1


def test_rows_that_an_older_version_of_the_code_wrote_wrongly_are_repaired(stack, archive, index, run_ops_json):
    index(archive(conv_1="My boat."))
    (file,) = stack.object_keys("text/")
    wrong = gzip.compress(gzip.decompress(stack.body(file)).replace(b'" my boat "', b'" my goat "'))
    stack.s3.put_object(Bucket=stack.bucket, Key=file, Body=wrong)

    run_ops_json("reindex", "--text", "--yes")

    assert [row.words for row in rows(stack) if row.turn != CALL] == [" my boat "]


def test_a_file_with_rows_of_calls_outside_the_range_stays(stack, archive, index, run_ops_json):
    index(archive(conv_1="One.", conv_2="Two."))

    run_ops_json("reindex", "--text", "--yes", "--since", "2026-11-22T10:00:01")

    assert {each for each, _ in said(stack)} == {"conv_1", "conv_2"}


def test_an_erased_call_gets_no_rows(stack, archive, run_ops_json):
    archive(conv_1="My boat.")
    indexer.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")

    run_ops_json("reindex", "--text", "--yes")

    assert said(stack) == []


def test_a_call_that_is_erased_while_its_rows_are_written_has_none_in_the_end(stack, archive, run_ops_json, aws_calls):
    archive(conv_1="My boat.", conv_2="Your boat.")
    erased: list[Any] = []

    def erase() -> None:
        if not erased:
            erased.append(indexer.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z"))

    aws_calls.after("PutObject", erase)
    code, _ = run_ops_json("reindex", "--text", "--yes")

    assert (code, len(erased)) == (0, 1)
    assert said(stack) == [("conv_2", "Your boat.")]
    assert len(stack.versions("text/")) == 1


def test_a_call_whose_json_cannot_be_read_is_left_out_and_told(stack, archive, run_ops_json):
    archive(conv_1="My boat.", conv_2="Your boat.")
    stack.s3.delete_object(Bucket=stack.bucket, Key="12025550123/conv_1.json")

    code, done = run_ops_json("reindex", "--text", "--yes")

    assert (code, done["unreadable"]) == (1, 1)
    assert said(stack) == [("conv_2", "Your boat.")]


def test_an_interrupted_run_continues_with_the_next_day(stack, context, run_ops, run_ops_json, aws_calls):
    for number in range(3):
        archive_checks(context, stage(stack, call(f"conv_{number}", "My boat.", STARTED + number * 86_400)))
    written = aws_calls.seen["PutObject"]
    aws_calls.after("PutObject", lambda: press_ctrl_c() if aws_calls.seen["PutObject"] == written + 2 else None)
    assert run_ops("reindex", "--text", "--yes")[0] == 130
    aws_calls.reset()

    _, done = run_ops_json("reindex", "--text", "--yes")

    assert done["calls"] == 2
    assert [each for each, _ in said(stack)] == ["conv_0", "conv_1", "conv_2"]


def test_many_calls_become_several_files(stack, archive, run_ops_json, monkeypatch):
    monkeypatch.setattr(rows_module, "TOGETHER", 2)
    archive(conv_1="One.", conv_2="Two.", conv_3="Three.")

    _, done = run_ops_json("reindex", "--text", "--yes")

    assert (done["files"], len(said(stack))) == (2, 3)


def test_a_range_without_text_is_refused(run_ops):
    code, _, err = run_ops("reindex", "--since", "30d", "--yes")

    assert code == 2
    assert "--text" in err


def test_a_table_that_was_lost_knows_again_where_the_rows_of_its_calls_are(
    stack, archive, index, run_ops_json, context
):
    index(archive(conv_1="My boat."))
    archive_checks(context, stage(stack, call("conv_1", "My red boat.", STARTED + 86_400, at=1795349999)))
    index([json.dumps(each) for each in stack.announcements()])
    before = stack.call("conv_1")
    for conversation_id, item in stack.items():
        table(stack).delete_item(Key={"conversation_id": conversation_id, "item": item})

    code, done = run_ops_json("reindex", "--yes")

    after = stack.call("conv_1")
    assert (code, done["files_of_rows"]) == (0, 2)
    assert after["text_days"] == before["text_days"] == {"2026-11-22", "2026-11-23"}
    assert after["text_order"] == before["text_order"]


def test_the_words_of_a_recording_are_made_again_too(stack, archive, run_ops_json):
    archive(conv_1="...")
    key = f"{stack.call('conv_1')['folder']}/conv_1.transcribe.json"
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=RESULT, Metadata={"order": "1-2"})
    table(stack).update_item(
        Key={"conversation_id": "conv_1", "item": "call"}, UpdateExpression="ADD event_keys :keys",
        ExpressionAttributeValues={":keys": {key}},
    )  # fmt: skip

    code, _ = run_ops_json("reindex", "--text", "--yes")

    assert (code, said(stack)) == (0, [("conv_1", "Hello."), ("conv_1", "My refund?")])
