"""An export that was interrupted or killed continues."""

import json
import os
import signal
import time
from io import BytesIO
from pathlib import Path

import pytest
from botocore.response import StreamingBody
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends

from scripts.operations.exports.download import ITEMS, TOGETHER
from shared.indexes import listing
from shared.record import Records
from tests.conftest import Stack
from tests.processes import LONGEST, at_most
from tests.scripts.operations.conftest import INTERRUPTED, press_ctrl_c, table
from tests.scripts.operations.export.conftest import DAY, files, manifest, put, put_call, start

COUNT = 200


CALLERS = 4


@pytest.fixture
def many(stack: Stack) -> dict[str, bytes]:
    """Calls of a few callers, written directly into moto's bucket and table; returns the objects."""
    bucket, records = s3_backends[DEFAULT_ACCOUNT_ID]["aws"], dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].tables
    objects: dict[str, bytes] = {}
    Records(table(stack)).note_day("2026-11-21T12:00:00Z")
    for number in range(COUNT):
        folder, call = f"1202555{100 + number // 2 % CALLERS:04}", f"conv_{number // 2}{'-a' * (number % 2)}"
        key = f"{folder}/{call}.json"
        objects[key] = f'{{"call":{number}}}'.encode()
        bucket.put_object(stack.bucket, key, objects[key])
        record = {
            "conversation_id": call, "item": "call", "folder": folder, "json_key": key, "audio": "none",
            "archived_at": "2026-11-21T12:00:00Z",
        } | listing(call, None, "2026-11-21T12:00:00Z")  # fmt: skip
        records[stack.outputs["ConversationTableName"]].put_item({name: {"S": text} for name, text in record.items()})
    return objects


def noted(path: Path) -> list[bytes]:
    """The complete lines of an export's journal, without the first."""
    journal = path / ".export" / "journal.jsonl"
    return journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []


def test_an_export_that_is_killed_half_way_continues(stack, run_ops_json, many, aws_calls, destination, monkeypatch):
    monkeypatch.setattr("shared.bucket.LISTED", 7)  # several pages, and several groups, for each caller
    monkeypatch.setattr("scripts.operations.exports.download.TOGETHER", 5)
    process = start("export", str(destination), *DAY)
    with at_most(LONGEST, lambda: os.kill(process, signal.SIGKILL)):
        while len(noted(destination)) < COUNT and os.waitpid(process, os.WNOHANG) == (0, 0):
            time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    kept, complete = {json.loads(line)["key"] for line in noted(destination)}, (destination / "manifest.json").exists()
    whole = all(body == many[name] for name, body in files(destination).items() if name in many)
    gets: list[None] = []
    aws_calls.after("GetObject", lambda: gets.append(None))

    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (os.WTERMSIG(status), complete, whole) == (signal.SIGKILL, False, True)
    assert (code, shown["calls"], shown["files"]) == (0, COUNT, 2 * COUNT)
    assert len(gets) == shown["fetched"] == COUNT - len(kept & many.keys())
    assert {name: body for name, body in files(destination).items() if name in many} == many
    assert run_ops_json("export", "--verify", str(destination)) == (
        0,
        {"title": f"{2 * COUNT} files, 0 with a problem", "rows": []},
    )
    assert sorted(each.name for each in (destination / ".export").iterdir()) == ["journal.jsonl", "lock"]


def test_only_what_is_missing_or_changed_is_fetched_again(stack, run_ops_json, aws_calls, destination):
    same, changed, lost, cut = (put_call(stack, f"conv_{name}") for name in ("same", "changed", "lost", "cut"))
    run_ops_json("export", str(destination), *DAY)
    put(stack, changed, b"CONV_changed")
    (destination / lost).unlink()
    (destination / cut).write_bytes(b"c")
    gets: list[None] = []
    aws_calls.after("GetObject", lambda: gets.append(None))

    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (code, shown["fetched"], len(gets)) == (0, 3, 3)
    assert [files(destination)[key] for key in (same, changed, lost, cut)] == [
        b"conv_same", b"CONV_changed", b"conv_lost", b"conv_cut",
    ]  # fmt: skip
    assert run_ops_json("export", "--verify", str(destination))[0] == 0


def test_hours_ago_count_from_the_first_run(stack, run_ops_json, destination):
    put_call(stack, "conv_1")
    run_ops_json("export", str(destination), "--since", "900000h")
    first = manifest(destination)["choice"]

    run_ops_json("export", str(destination), "--since", "900000h")

    assert manifest(destination)["choice"] == first
    assert first["since"] != "900000h"


def test_a_journal_that_ends_within_a_line_loses_only_that_line(stack, run_ops_json, destination):
    put_call(stack, "conv_1")
    put_call(stack, "conv_2", "12025550124")
    run_ops_json("export", str(destination), *DAY)
    journal = destination / ".export" / "journal.jsonl"
    whole = [line for line in journal.read_text().splitlines(keepends=True) if "records/" not in line]
    journal.write_text("".join(whole)[:-9])
    (destination / ".export" / "tmp123").write_text("half a rec")

    code, shown = run_ops_json("export", str(destination), *DAY)
    again = run_ops_json("export", str(destination), *DAY)

    assert (code, shown["fetched"], shown["files"]) == (0, 1, 4)
    assert again[1]["fetched"] == 0
    assert sorted(each.name for each in (destination / ".export").iterdir()) == ["journal.jsonl", "lock"]


def test_after_ctrl_c_the_same_command_continues(stack, run_ops, run_ops_json, aws_calls, destination):
    for number in range(20):
        put_call(stack, f"conv_{number}")
    gets: list[None] = []

    def press() -> None:
        gets.append(None)
        if len(gets) == 5:
            press_ctrl_c()
        elif len(gets) > 5:
            time.sleep(0.2)  # so that they are not all through before Ctrl-C is heard

    aws_calls.after("GetObject", press)

    code, _, said = run_ops("export", str(destination), *DAY)
    complete = (destination / "manifest.json").exists()
    aws_calls.reset()
    again, shown = run_ops_json("export", str(destination), *DAY)

    assert (code, complete, again, shown["files"]) == (130, False, 0, 40)
    assert said.endswith(f"{INTERRUPTED}\n")
    assert 0 < shown["fetched"] < 20


def test_a_connection_that_breaks_is_tried_again(stack, run_ops_json, aws_calls, destination):
    key = put_call(stack, "conv_1")
    broken = stack.s3.get_object(Bucket=stack.bucket, Key=key) | {"Body": StreamingBody(BytesIO(b"co"), 6)}
    aws_calls.answer("GetObject", broken)

    code, _ = run_ops_json("export", str(destination), *DAY)

    assert (code, files(destination)[key]) == (0, b"conv_1")


def test_the_items_of_a_group_of_calls_fit_into_one_request():
    most_keys_of_batch_get_item = 100

    assert TOGETHER * len(ITEMS) <= most_keys_of_batch_get_item
