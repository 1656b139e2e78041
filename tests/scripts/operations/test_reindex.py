"""`ops reindex`: a table that was lost comes back whole from the bucket."""

from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest

from reconciler.bookmarks import Bookmarks
from scripts.operations.reindex import COUNTED, REACHED
from shared.record import MEMORIES, Records
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed
from tests.archiver.conftest import audio, envelope, stage, stage_recording, staged_key, transcript
from tests.conftest import Stack, fixture_body
from tests.scripts.operations.conftest import archive_checks, deploy_outputs, press_ctrl_c, table

CALLER = "12025550123"
MOVED = envelope({"conversation_id": "conv_1", "metadata": {"body": {"To": "+12025550188"}}}, "call_initiation_failure")


@pytest.fixture
def filled(stack: Stack, context: Any) -> Stack:
    """A stack with calls of every kind, all of them archived."""
    bodies = [
        fixture_body("02"), fixture_body("08"), fixture_body("05"), fixture_body("12"), fixture_body("07"),
        transcript("conv_1", at=1772550278), transcript("conv_1", at=1772550279), audio("conv_1"), MOVED,
        envelope({"external_number": "+12025550124"}, "voice_removed"), transcript("conv_2"),
    ]  # fmt: skip
    for body in bodies:
        archive_checks(context, stage(stack, body))
    archive_checks(context, stage_recording(stack, "conv_2", b"ID3 fetched"))
    return stack


def lose(stack: Stack) -> dict[tuple[str, str], dict[str, Any]]:
    """Empty the table; returns what it had."""
    before = stack.items()
    for conversation_id, item in before:
        table(stack).delete_item(Key={"conversation_id": conversation_id, "item": item})
    return before


def comparable(items: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """All items, without the moments at which the test wrote them."""
    moments = ("archived_at", "expires", "listed_at", "day", "agent_month")
    return {
        key: {name: value for name, value in item.items() if name not in moments or "started_at" in item}
        | ({} if "archived_at" not in item else {"archived_at": "…"})
        for key, item in items.items() if not (key[0] == "#days" and key[1] >= TODAY)
    }  # fmt: skip


TODAY = f"{datetime.now(timezone.utc) - timedelta(days=1):%Y-%m-%d}"


def test_a_table_that_was_lost_comes_back_whole(filled, run_ops_json):
    before = lose(filled)

    code, done = run_ops_json("reindex", "--yes")

    assert code == 0
    assert comparable(filled.items()) == comparable(before)
    assert {name: done[name] for name in COUNTED} == {
        "calls": 6, "recordings": 4, "events": 1, "payloads": 2, "files_of_rows": 0,
    }  # fmt: skip
    assert done["new_records"] == 6


def test_without_yes_the_objects_are_counted_and_nothing_is_written(filled, run_ops_json):
    lose(filled)

    code, counted = run_ops_json("reindex")

    assert code == 0
    assert counted["calls"] == 6
    assert filled.items() == {}


def test_a_table_that_is_there_stays_as_it_is(filled, run_ops_json):
    before = comparable(filled.items())

    _, done = run_ops_json("reindex", "--yes")

    assert comparable(filled.items()) == before
    assert done["new_records"] == 0
    assert "next" not in done


def test_an_erased_call_and_a_newer_version_in_the_table_stay(filled, run_ops_json):
    records = Records(table(filled))
    records.write_tombstone(records.erase("conv_2", "2026-11-22T10:00:00Z"))
    filled.s3.copy_object(
        Bucket=filled.bucket, Key=f"{CALLER}/conv_1.json", CopySource=f"{filled.bucket}/{CALLER}/conv_1.json",
        MetadataDirective="REPLACE", Metadata={"conversation_id": "conv_1", "order": "0-0000000000000-old"},
    )  # fmt: skip
    before = comparable(filled.items())

    run_ops_json("reindex", "--yes")

    assert comparable(filled.items()) == before


@pytest.mark.parametrize("operation", ["UpdateItem", "PutItem", "GetObject", "ListObjectsV2"])
def test_a_run_that_is_interrupted_anywhere_is_completed_by_the_next(
    filled, run_ops, run_ops_json, aws_calls, operation
):
    before, pressed = lose(filled), []

    def press() -> None:  # by one of the threads
        if not pressed:
            pressed.append(True)
            press_ctrl_c()

    aws_calls.after(operation, press)

    assert run_ops("reindex", "--yes")[0] == 130
    aws_calls.reset()
    assert run_ops_json("reindex", "--yes")[0] == 0

    assert comparable(filled.items()) == comparable(before)


@pytest.mark.parametrize(("keeps", "audio"), [("true", "pending"), ("false", "unavailable")])
def test_a_recording_that_is_not_in_the_bucket_is_missing_unless_the_stack_keeps_none(
    stack, context, run_ops_json, keeps, audio
):
    stack.outputs["KeepAudio"] = keeps
    deploy_outputs(stack.outputs)
    archive_checks(context, stage(stack, transcript("conv_1")))
    lose(stack)

    run_ops_json("reindex", "--yes")

    record = stack.items()["conv_1", "call"]
    assert (record["audio"], record.get("open_audio")) == (audio, "pending" if audio == "pending" else None)


def test_memories_of_new_records_are_looked_for_before_they_are_written_again(filled, run_ops_json):
    filled.outputs["MemorySecretArn"] = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mem0"
    deploy_outputs(filled.outputs)
    before = lose(filled)
    table(filled).put_item(Item={"conversation_id": "conv_1", "item": MEMORIES[0], "state": "done"})
    table(filled).put_item(Item=before["conv_2", "call"])

    _, done = run_ops_json("reindex", "--yes")

    lines = {kind: filled.items()["conv_1", kind]["state"] for kind in MEMORIES}
    assert lines == {MEMORIES[0]: "done", MEMORIES[1]: "sending"}
    assert ("conv_2", MEMORIES[0]) not in filled.items()  # it has a record: its memories may be on their way
    assert "ops replay --only memory" in done["next"]
    assert "erase again" in done["next"]


def test_a_call_without_a_user_in_mem0_gets_no_line_that_nobody_would_finish(stack, context, run_ops_json):
    stack.outputs["MemorySecretArn"] = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mem0"
    deploy_outputs(stack.outputs)
    archive_checks(context, stage(stack, envelope({"conversation_id": "conv_1"})))
    lose(stack)

    run_ops_json("reindex", "--yes")

    assert {item for call, item in stack.items() if call == "conv_1"} == {"call"}


def test_a_payload_that_no_object_was_made_of_is_found_by_an_erasure_again(stack, context, run_ops_json):
    parked, unreadable = stage(stack, audio("conv_3")), stage(stack, b"no JSON")
    archive_checks(context, parked)
    lose(stack)

    run_ops_json("reindex", "--yes")

    assert stack.items()["conv_3", "call"]["staged_keys"] == {staged_key(parked)}
    assert list(Unnamed(table(stack)).keys()) == [staged_key(unreadable)]


def test_a_run_that_was_interrupted_long_ago_is_begun_again(filled, run_ops_json):
    Bookmarks(table(filled)).write(REACHED, "2026-11-01T10:00:00Z ~")
    lose(filled)

    _, done = run_ops_json("reindex", "--yes")

    assert done["calls"] == 6


def test_an_erasure_waits_until_the_records_are_complete(filled, run_ops, run_ops_json):
    Bookmarks(table(filled)).write(REACHED, f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {CALLER}/")

    code, _, err = run_ops("erase", f"+{CALLER}")
    assert (code, "ops reindex --yes" in err) == (2, True)
    run_ops_json("reindex", "--yes")
    assert "ops reindex" not in run_ops("erase", f"+{CALLER}")[2]


def test_calls_in_cold_storage_get_a_record_of_what_their_metadata_says(filled, run_ops_json):
    key = f"{CALLER}/conv_1.json"
    filled.s3.copy_object(
        Bucket=filled.bucket, Key=key, CopySource=f"{filled.bucket}/{key}", StorageClass="DEEP_ARCHIVE",
    )  # fmt: skip
    before = lose(filled)["conv_1", "call"]

    code, done = run_ops_json("reindex", "--yes")

    assert (code, done["unreadable"]) == (1, 1)
    assert "restore" in done["next"]
    record = filled.items()["conv_1", "call"]
    same = ("external_number", "caller", "t_order", "json_key", "mp3_key", "audio", "numbers")
    assert {name: record[name] for name in same} == {name: before[name] for name in same}


def test_a_call_of_an_erased_caller_gets_no_record(filled, run_ops_json):
    outputs = filled.outputs
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=outputs["ErasureSecretArn"])["SecretString"]
    Tombstones(table(filled), lambda: secret).record_erasure("12025550190", datetime.now(timezone.utc))
    tombstones = {key: item for key, item in filled.items().items() if key[0].startswith("#caller")}
    lose(filled)
    for item in tombstones.values():
        table(filled).put_item(Item=item)

    _, done = run_ops_json("reindex", "--yes")

    assert done["calls"] == 5
    assert not any("12025550190" in str(item) for item in filled.items().values())


def test_objects_that_are_not_ours_are_left_alone(filled, run_ops_json):
    for key in ("12025550123/notes.txt", "12025550123/conv_9.json", "elsewhere/conv_9.json", "no-phone/a/b.json"):
        filled.s3.put_object(Bucket=filled.bucket, Key=key, Body=b"not JSON")
    before = lose(filled)

    code, done = run_ops_json("reindex", "--yes")

    assert (code, done["unreadable"]) == (1, 1)  # conv_9.json in the caller's folder
    assert comparable(filled.items()) == comparable(before)
