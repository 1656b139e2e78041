"""`ops export --format parquet|csv`: tables that DuckDB and pandas read, and that say what the archive says."""

import json
import os
import re
import signal
import zipfile
from datetime import date, datetime, timezone
from decimal import Decimal
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest

from scripts.operations.tables.files import harmless
from scripts.operations.tables.rows import TABLES, columns
from tests.archiver.conftest import FULL_ID, stage
from tests.conftest import fixture_body
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, NOON, archive_checks, note
from tests.scripts.operations.export.conftest import DAY, exported, files, manifest, put_call
from tests.transcriber.conftest import RESULT

ROOT = Path(__file__).parents[4]
STARTED = 1795260600  # 2026-11-21T11:30:00Z
HOSTILE = [
    '=HYPERLINK("x")', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r\nx", " =1", "＝1", "'quoted", "12025550123", "1e5",
    "2026-11-22", "TRUE", 'a "b", c', "two\nlines", "two\r\nlines", "😀 שלום", "a;b", "", " ", "nul\0l", "NULL", "None",
    "nan", "null",
]  # fmt: skip


def hostile_call(conversation_id: str = "conv_hostile") -> bytes:
    """A webhook whose values are odd, as bytes: no library writes such JSON."""
    turns = [{"role": "user", "message": text, "time_in_call_secs": 1.5} for text in HOSTILE]
    data = {
        "conversation_id": conversation_id, "agent_id": "=agent", "agent_name": "@SUM(A1)", "status": ["done"],
        "transcript": [*turns, 5, None, {"role": {}, "message": 7, "time_in_call_secs": "x", "interrupted": "yes"},
                       {"role": "agent", "message": "BOTH \\ud83d"},
                       {"role": "agent", "message": None, "tool_calls": "none", "tool_results": 3}],
        "metadata": {"start_time_unix_secs": STARTED, "call_duration_secs": "61", "cost": 10**30, "cost_fiat": "NUMBER",
                     "phone_call": {"external_number": CALLER, "direction": "inbound"}, "main_language": "=en"},
        "analysis": {
            "transcript_summary": "=1+1\n\"x\"", "call_successful": None,
            "evaluation_criteria_results": {"=c": {"result": "+", "rationale": None}, "odd": 5},
            "data_collection_results": {"big": {"value": "BIG"}, "none": {"value": None},
                                        "deep": {"value": {"a": [1]}}},
        },
    }  # fmt: skip
    body = json.dumps({"type": "post_call_transcription", "data": data})
    body = body.replace('"BIG"', "123456789012345678901234567890.10").replace('"NUMBER"', "0.10")
    return body.replace("BOTH \\\\ud83d", "half \\ud83d").encode()


@pytest.fixture
def calls(stack, context) -> None:
    """A usual call on 3 March, a hostile one and a call that names nothing on 21 November 2026."""
    archive_checks(context, stage(stack, fixture_body("02"), now=NOON))
    archive_checks(context, stage(stack, hostile_call(), now=NOON))
    bare = {"type": "post_call_transcription", "data": {"conversation_id": "conv_bare"}}
    archive_checks(context, stage(stack, bare, now=NOON))
    for each in (FULL_ID, "conv_hostile", "conv_bare"):
        note(stack, each, archived_at="2026-11-21T12:00:00Z", **listed_of(stack, each))
    note(stack, FULL_ID, "memory#factual", state="done", memories=1)


def listed_of(stack: Any, conversation_id: str) -> dict[str, Any]:
    call = stack.call(conversation_id)
    return {name: call[name] for name in ("started_at", "agent_id") if name in call}


def read_parquet(destination: Path, table: str) -> list[dict[str, Any]]:
    found = duckdb.connect()
    found.sql("SET TimeZone = 'UTC'")
    rows = found.sql(f"FROM read_parquet('{destination}/{table}/*/*.parquet', hive_partitioning = true)")
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def of(rows: list[dict[str, Any]], conversation_id: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["conversation_id"] == conversation_id]


def test_a_usual_call_is_in_all_tables_as_the_archive_has_it(stack, run_ops_json, calls, destination):
    code, shown = run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    key = stack.call(FULL_ID)["json_key"]
    data = stack.json(key)
    (call,) = of(read_parquet(destination, "calls"), FULL_ID)
    assert (code, shown["calls"], shown["fetched"]) == (0, 3, 3)
    assert call == {
        "conversation_id": FULL_ID, "agent_id": data["agent_id"], "agent_name": "Harbour Desk", "caller": CALLER,
        "direction": "inbound", "started_at": datetime(2026, 3, 3, 15, 4, 5, tzinfo=timezone.utc),
        "archived_at": NOON, "seconds": 21, "status": "done", "outcome": "success",
        "termination_reason": "end_call tool was called.", "language": "en", "title": "Mooring moved to Thursday",
        "summary": "The caller moved a mooring to Thursday.", "turns": len(data["transcript"]), "user_turns": 2,
        "tool_calls": sum(len(turn["tool_calls"]) for turn in data["transcript"]), "cost": 126,
        "cost_fiat": Decimal("0.050000"), "origin": "webhook", "audio": "pending", "memory_factual": "done",
        "memory_semantic": None, "has_json": True, "bytes": len(stack.body(key)), "json_key": key, "mp3_key": None,
        "day": date(2026, 3, 3),
    }  # fmt: skip
    assert [(turn["turn"], turn["role"], turn["message"], turn["at_secs"], turn["source_medium"])
            for turn in of(read_parquet(destination, "turns"), FULL_ID)] == [
        (index, turn["role"], turn["message"], turn["time_in_call_secs"], turn["source_medium"])
        for index, turn in enumerate(data["transcript"])
    ]  # fmt: skip
    asked = [(index, tool) for index, turn in enumerate(data["transcript"]) for tool in turn["tool_calls"]]
    answers = {each["request_id"]: each for turn in data["transcript"] for each in turn["tool_results"]}
    assert [(tool["turn"], tool["tool"], tool["arguments"], tool["is_error"], tool["latency_secs"])
            for tool in of(read_parquet(destination, "tools"), FULL_ID)] == [
        (index, tool["tool_name"], tool["params_as_json"], answers[tool["request_id"]]["is_error"],
         answers[tool["request_id"]].get("tool_latency_secs"))
        for index, tool in asked
    ]  # fmt: skip
    assert asked
    assert {(each["criterion"], each["result"], each["rationale"])
            for each in of(read_parquet(destination, "evaluation"), FULL_ID)} == {
        (name, each["result"], each["rationale"])
        for name, each in data["analysis"]["evaluation_criteria_results"].items()
    }  # fmt: skip
    assert {(each["name"], each["value"]) for each in of(read_parquet(destination, "collected"), FULL_ID)} == {
        ("caller_name", '"Robin"'), ("party_size", None), ("wants_reminder", "true"),
    }  # fmt: skip


def test_odd_values_are_kept_exactly_or_are_null(stack, run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    (call,) = of(read_parquet(destination, "calls"), "conv_hostile")
    turns = of(read_parquet(destination, "turns"), "conv_hostile")
    assert [turn["message"] for turn in turns] == [*HOSTILE, None, "half \ufffd", None]
    assert turns[len(HOSTILE)] | {"day": None} == {
        "conversation_id": "conv_hostile", "turn": len(HOSTILE), "role": None, "message": None,
        "original_message": None, "interrupted": None, "at_secs": None, "source_medium": None, "day": None,
    }  # fmt: skip
    assert (call["agent_id"], call["agent_name"], call["status"], call["seconds"], call["cost"], call["cost_fiat"]) == (
        "=agent", "@SUM(A1)", None, 61, None, Decimal("0.10"),
    )  # fmt: skip
    assert call["summary"] == '=1+1\n"x"'
    assert {(each["criterion"], each["result"]) for each in of(read_parquet(destination, "evaluation"), "conv_hostile")
            } == {("=c", "+"), ("odd", None)}  # fmt: skip
    assert {each["name"]: each["value"] for each in of(read_parquet(destination, "collected"), "conv_hostile")} == {
        "big": "123456789012345678901234567890.10", "none": None, "deep": '{"a": [1]}',
    }  # fmt: skip
    (bare,) = of(read_parquet(destination, "calls"), "conv_bare")
    assert {name for name, value in bare.items() if value is not None} == {
        "conversation_id", "archived_at", "turns", "user_turns", "tool_calls", "origin", "audio", "has_json", "bytes",
        "json_key", "day",
    }  # fmt: skip


def test_csv_says_the_same_as_parquet_once_the_apostrophes_are_taken_away(run_ops_json, calls, destination, tmp_path):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")
    run_ops_json("export", str(tmp_path / "csv"), *DAY, "--format", "csv")

    for table in TABLES:
        expected = [
            {name: with_point(value) for name, value in row.items()} for row in read_parquet(destination, table)
        ]
        assert read_csv(tmp_path / "csv", table) == expected
        assert len(pandas_rows(tmp_path / "csv", table)) == len(expected)
    said = [original(each) for each in pandas_rows(tmp_path / "csv", "turns")["message"]]
    assert said == [with_point(turn["message"]) or "" for turn in read_parquet(destination, "turns")]


def with_point(value: Any) -> Any:
    """CSV has no NUL and no time zone: all times are UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def original(text: Any) -> Any:
    return text.removeprefix("'") if isinstance(text, str) else text


def read_csv(folder: Path, table: str) -> list[dict[str, Any]]:
    kinds = {"text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "decimal": "DECIMAL(18,6)",
             "boolean": "BOOLEAN", "timestamp": "TIMESTAMP"}  # fmt: skip
    types = {each.name: kinds[each.kind] for each in columns(table)}
    rows = duckdb.sql(
        f"FROM read_csv('{folder}/{table}/*/*.csv', types = {types}, header = true, allow_quoted_nulls = false, "
        "hive_partitioning = true)"
    )
    return [{name: original(value) for name, value in zip(rows.columns, row, strict=True)} for row in rows.fetchall()]


def pandas_rows(folder: Path, table: str) -> pandas.DataFrame:
    parts = [pandas.read_csv(each, keep_default_na=False, encoding="utf-8-sig")
             for each in sorted((folder / table).glob("*/*.csv"))]  # fmt: skip
    return pandas.concat(parts)


def test_pandas_reads_the_same_types(run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    found = pandas.read_parquet(destination / "calls", dtype_backend="numpy_nullable").set_index("conversation_id")

    assert found.loc[FULL_ID, "started_at"] == pandas.Timestamp("2026-03-03T15:04:05Z")
    assert found.loc[FULL_ID, "cost_fiat"] == Decimal("0.05")
    assert (found.loc[FULL_ID, "cost"], found.loc["conv_bare", "seconds"]) == (126, pandas.NA)
    assert str(found.dtypes["cost"]) == "Int64"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", " =1", "＝1", "'x", "12025550123", "1E5",
                                  "1.5", "-3", "12:30", "3/4", "2026-11-22", "$5", "true", "False"])  # fmt: skip
def test_a_text_that_a_spreadsheet_would_change_gets_an_apostrophe(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "hello", "a=b", "conv_1", "10 o'clock", "12 boats", " ", "...", "E", "--"[:0]])
def test_another_text_stays_as_it_is(text):
    assert harmless(text) == text


def test_a_csv_file_is_what_excel_expects(run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "csv")

    body = files(destination)["calls/day=2026-03-03/calls.csv"]
    line = body.decode("utf-8-sig").split("\r\n")[1]
    assert body.startswith(b"\xef\xbb\xbfconversation_id,agent_id,")
    assert body.endswith(b"\r\n")
    assert f'"\'{CALLER}","inbound",2026-03-03 15:04:05,2026-11-21 12:00:00,21,' in line
    assert ',126,0.050000,"webhook",' in line


def test_the_manifest_has_the_columns_and_a_checksum_of_each_file(stack, run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    found, bodies = manifest(destination), files(destination)
    assert {each["key"]: each["sha256"] for each in found["files"]} == {
        name: sha256(body).hexdigest() for name, body in bodies.items() if name != "manifest.json"
    }
    assert (found["first_day"], found["last_day"], found["format"]) == ("2026-03-03", "2026-11-21", "parquet")
    assert {name: found["totals"][name] for name in TABLES} == {
        name: len(read_parquet(destination, name)) for name in TABLES
    }
    assert found["choice"]["format"] == "parquet"
    assert found["tables"]["turns"][1] == {
        "name": "turn", "type": "integer", "meaning": "number of the turn in the transcript, from 0",
    }  # fmt: skip
    assert run_ops_json("export", "--verify", str(destination))[1]["rows"] == []


def test_a_call_without_words_has_the_turns_that_were_heard_in_its_recording(stack, run_ops_json, destination, context):
    body = json.loads(fixture_body("02"))
    body["data"]["transcript"] = []
    archive_checks(context, stage(stack, json.dumps(body).encode(), now=NOON))
    note(stack, FULL_ID, archived_at="2026-11-21T12:00:00Z", **listed_of(stack, FULL_ID))
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")
    heard = f"{CALLER.lstrip('+')}/{FULL_ID}.transcribe.json"
    stack.s3.put_object(Bucket=stack.bucket, Key=heard, Body=RESULT)
    done = {"state": "done", "job": "job_1", "order": "1-5", "attempt": 1, "at": "2026-11-21T12:05:00Z"}
    note(stack, FULL_ID, event_keys={heard}, transcription=done)

    run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    turns = duckdb.sql(
        f"SELECT role, message, at_secs, source_medium FROM '{destination}/turns/*/*.parquet' ORDER BY turn"
    )
    assert turns.fetchall() == [
        ("speaker_0", "Hello.", 0.2, "transcribe"), ("speaker_1", "My refund?", 1.5, "transcribe"),
    ]  # fmt: skip


def test_an_erased_call_is_not_in_the_tables_and_leaves_those_that_have_it(stack, run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")
    note(stack, "conv_hostile", erased_at="2026-11-22T12:00:00Z")
    note(stack, FULL_ID, erased_at="2026-11-22T12:00:00Z")

    code, shown = run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    assert (code, shown["calls"]) == (0, 1)
    assert {row["conversation_id"] for row in read_parquet(destination, "calls")} == {"conv_bare"}
    assert exported(destination) == {f"{table}/day=2026-11-21/{table}.parquet" for table in TABLES}
    assert sorted(each.name for each in (destination / "calls").iterdir()) == ["day=2026-11-21"]


def test_a_call_that_is_erased_while_it_is_read_is_not_in_the_tables(
    stack, run_ops_json, calls, destination, aws_calls
):
    def erase() -> None:
        if aws_calls.seen["BatchGetItem"] != 3:  # the records of the second day: two requests read a day
            return
        with aws_calls.paused():
            note(stack, "conv_hostile", erased_at="2026-11-22T12:00:00Z")
            stack.s3.delete_object(Bucket=stack.bucket, Key=stack.call("conv_hostile")["json_key"])

    aws_calls.after("BatchGetItem", erase)

    code, shown = run_ops_json("export", str(destination), *DAY, "--format", "csv")

    assert (code, shown["calls"], shown["missing"]) == (0, 2, 0)
    assert b"conv_hostile" not in b"".join(files(destination).values())


def test_a_day_that_has_not_changed_is_not_read_again(stack, run_ops_json, calls, destination):
    run_ops_json("export", str(destination), *DAY, "--format", "parquet")
    before = files(destination)
    note(stack, FULL_ID, audio="unavailable")

    _, shown = run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    assert shown["fetched"] == 1
    assert {name for name, body in files(destination).items() if before[name] != body} == {
        "calls/day=2026-03-03/calls.parquet", "manifest.json",
    }  # fmt: skip


def test_an_interrupted_run_has_no_manifest_and_the_next_one_goes_on(
    stack, run_ops, run_ops_json, calls, destination, aws_calls
):
    aws_calls.after("GetObject", lambda: os.kill(os.getpid(), signal.SIGINT))

    code, _, said = run_ops("export", str(destination), *DAY, "--format", "parquet")
    aws_calls.reset()
    left = (destination / "manifest.json").exists()
    again, shown = run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    assert (code, left, again) == (130, False, 0)
    assert INTERRUPTED in said
    assert shown["calls"] == 3
    assert run_ops_json("export", "--verify", str(destination))[1]["rows"] == []


@pytest.mark.parametrize(
    ("choice", "calls_found"),
    [
        (("--caller", CALLER), {FULL_ID, "conv_hostile"}),
        (("--caller", "no-phone"), {"conv_bare"}),
        (("--conversation", "conv_hostile"), {"conv_hostile"}),
        ((*DAY, "--agent", "agent_7001fixture0agent0alpha0001"), {FULL_ID}),
        (("--since", "2026-11-22"), None),
        ((*DAY, "--agent", "agent_of_nobody"), None),
    ],
    ids=["caller", "no phone", "one", "agent", "none", "no such agent"],
)
def test_only_the_chosen_calls_are_in_the_tables(run_ops, calls, destination, choice, calls_found):
    code, _, _ = run_ops("export", str(destination), *choice, "--format", "parquet")

    assert code == (0 if calls_found else 1)
    if calls_found:
        assert {row["conversation_id"] for row in read_parquet(destination, "calls")} == calls_found


def test_a_call_whose_json_is_lost_or_broken_is_told_from_its_record(stack, run_ops_json, destination):
    put_call(stack, "conv_broken", title="Kept in the record")
    key = put_call(stack, "conv_lost")
    stack.s3.delete_object(Bucket=stack.bucket, Key=key)

    code, shown = run_ops_json("export", str(destination), *DAY, "--format", "parquet")

    assert (code, shown["unavailable_calls"], shown["missing"]) == (1, 1, 1)
    assert {(row["conversation_id"], row["title"], row["has_json"]) for row in read_parquet(destination, "calls")} == {
        ("conv_broken", "Kept in the record", False), ("conv_lost", None, False),
    }  # fmt: skip
    assert [each["reason"] for each in manifest(destination)["unavailable"]] == ["not JSON"]
    assert [each["key"] for each in manifest(destination)["missing"]] == [key]


def test_a_folder_with_other_content_or_another_format_is_refused(run_ops, calls, destination):
    destination.mkdir()
    (destination / "letter.txt").write_text("mine")

    code, _, said = run_ops("export", str(destination), *DAY, "--format", "csv")
    (destination / "letter.txt").unlink()
    run_ops("export", str(destination), *DAY)
    other, _, why = run_ops("export", str(destination), *DAY, "--format", "csv")

    assert (code, other) == (2, 2)
    assert "has other files in it" in said
    assert "is an export of another selection" in why


def test_a_link_in_the_place_of_a_day_is_refused(run_ops, calls, destination, tmp_path):
    run_ops("export", str(destination), *DAY, "--format", "csv")
    (tmp_path / "outside").mkdir()
    day = destination / "turns" / "day=2026-03-03"
    (day / "turns.csv").unlink()
    day.rmdir()
    day.symlink_to(tmp_path / "outside")

    code, _, said = run_ops("export", str(destination), *DAY, "--format", "csv")

    assert (code, f"{day} is a link" in said) == (2, True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_examples_of_the_documentation_work(run_ops_json, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "read.md").read_text()
    text = text[text.index("## Tables for Excel") :]
    queries, first, second = re.findall(r"```(?:sql|python)\n(.*?)```", text, re.DOTALL)[:3]
    run_ops_json("export", "tables", *DAY, "--format", "parquet")
    run_ops_json("export", "sheets", *DAY, "--format", "csv")
    found = {"pandas": pandas, "glob": glob}

    by_agent, said = (duckdb.sql(query).fetchall() for query in queries.split(";")[:2])
    exec(first + second, found)

    assert sorted(count for _, count, _ in by_agent) == [1, 1]  # since November
    assert said == []
    assert len(found["calls"]) == 3
    assert set(HOSTILE) - {"nul\0l"} <= set(found["turns"]["message"])


def test_tables_can_be_an_archive_file_and_are_checked_like_other_exports(run_ops_json, calls, destination):
    archive = destination.with_name("tables.zip")

    code, _ = run_ops_json("export", str(archive), *DAY, "--format", "csv")

    with zipfile.ZipFile(archive) as zipped:
        names = set(zipped.namelist())
    assert (code, len(names)) == (0, 1 + 2 * len(TABLES))
    assert "calls/day=2026-03-03/calls.csv" in names
    assert run_ops_json("export", "--verify", str(archive))[1]["title"] == "10 files, 0 with a problem"
