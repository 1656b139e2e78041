"""`ops report`: what it reads from the archive, and where it writes."""

import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded.elevenlabs import ElevenLabs
from tests.scripts.operations.conftest import CALLER, modes, note
from tests.scripts.operations.test_backfill import elevenlabs as elevenlabs  # a fixture

OTHER = "+12025550142"
Archive = Callable[..., str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def archive_at(archive: Archive, stack: Any) -> Callable[..., None]:
    """Have a call archived that began at that time, in UTC."""

    def run(conversation_id: str, *at: int, number: str | None = CALLER, seconds: int = 60, **fields: Any) -> None:
        began = datetime(*at, tzinfo=timezone.utc)
        phone = {"phone_call": {"external_number": number, "direction": "inbound"}} if number else {}
        metadata = {"start_time_unix_secs": int(began.timestamp()), "call_duration_secs": seconds, "cost": 10} | phone
        archive(conversation_id, at=began, metadata=metadata, **fields)
        record = stack.call(conversation_id)
        note(stack, conversation_id, archived_at=record["archived_at"], started_at=record["started_at"],
             agent_id=record["agent_id"])  # fmt: skip

    return run


@pytest.fixture
def calls(stack: Any, archive_at: Callable[..., None]) -> None:
    """Two calls in September, five in October, one in November; the last second of October belongs to it."""
    archive_at("conv_before", 2026, 9, 30, 23, 59, 59)
    archive_at("conv_before_2", 2026, 9, 2, number=OTHER, agent_id="agent_2")
    analysis = {
        "call_successful": "success", "call_summary_title": "Private words", "transcript_summary": "Private words",
        "evaluation_criteria_results": {"goal": {"result": "success", "rationale": "Private words"}},
    }  # fmt: skip
    tools = [{"role": "agent", "message": "Private words", "tool_calls": [{"request_id": "r", "tool_name": "find"}],
              "tool_results": [{"request_id": "r", "is_error": True, "tool_latency_secs": 0.5}]}]  # fmt: skip
    archive_at("conv_1", 2026, 10, 1, number=CALLER, analysis=analysis, transcript=tools, agent_name="Harbour")
    archive_at("conv_2", 2026, 10, 5, 9, number="+12025550177", seconds=120)
    archive_at("conv_3", 2026, 10, 5, 9, number="+12025550177", seconds=300, agent_id="agent_2")
    archive_at("conv_4", 2026, 10, 20, number=None)
    archive_at("conv_5", 2026, 10, 31, 23, 59, 59, number=OTHER)
    archive_at("conv_after", 2026, 11, 1)
    note(stack, "conv_1", "memory#factual", state="done")


def test_the_calls_of_the_month_are_counted_and_those_around_it_are_not(run_ops_json, calls):
    code, found = run_ops_json("report", "--month", "2026-10")

    assert code == 0
    assert {name: (each["value"], each["before"]) for name, each in found["headline"].items()} == {
        "calls": (5, 2), "minutes": (10.0, 2.0), "success_share": (100.0, None), "median_seconds": (60, 60),
        "callers": (3, 2), "credits": (50, 20),
    }  # fmt: skip
    assert [(each["day"], each["calls"]) for each in found["days"] if each["calls"]] == [
        ("2026-10-01", 1), ("2026-10-05", 2), ("2026-10-20", 1), ("2026-10-31", 1),
    ]  # fmt: skip
    assert found["criteria"][0]["success_share"] == 100.0
    assert found["tools"] == [
        {"tool": "find", "calls": 1, "errors": 1, "unanswered": 0, "error_share": 100.0, "median_secs": 0.5,
         "percentile_90_secs": 0.5}
    ]  # fmt: skip
    assert (found["agents"][0]["name"], found["is_complete"]) == ("Harbour", True)
    assert found["completeness"]["memories"]["factual"] == {"done": 1, "open": 0, "none": 4}


def test_a_caller_is_new_if_no_call_before_the_month_has_the_number(run_ops_json, calls):
    _, found = run_ops_json("report", "--month", "2026-10")

    assert {name: found["callers"][name] for name in ("callers", "new", "returning", "calls_without_number")} == {
        "callers": 3, "new": 1, "returning": 2, "calls_without_number": 1,
    }  # fmt: skip


def test_only_the_chosen_agents_are_counted(run_ops_json, calls):
    _, one = run_ops_json("report", "--month", "2026-10", "--agent", "agent_2")
    _, both = run_ops_json("report", "--month", "2026-10", "--agent", "agent_2", "--agent", "agent_1")

    assert (one["headline"]["calls"]["value"], one["headline"]["calls"]["before"]) == (1, 1)
    assert one["chosen_agents"] == ["agent_2"]
    assert both["headline"]["calls"]["value"] == 5


def test_days_and_hours_are_those_of_the_time_zone(run_ops_json, calls, archive_at):
    archive_at("conv_august", 2026, 8, 31, 21, 59, 59)
    archive_at("conv_september", 2026, 8, 31, 22)
    _, found = run_ops_json("report", "--month", "2026-10", "--timezone", "Europe/Berlin")

    assert (found["headline"]["calls"]["value"], found["days"][0]["calls"]) == (5, 2)  # 30 September, 23:59:59 UTC
    assert found["headline"]["calls"]["before"] == 2
    assert found["hours"]["busiest"] == {"weekday": "Monday", "hour": 11, "calls": 2}


def test_an_erased_call_is_not_counted(stack, run_ops_json, calls):
    note(stack, "conv_1", erased_at="2026-11-02T00:00:00Z")
    note(stack, "conv_before", erased_at="2026-11-02T00:00:00Z")

    _, found = run_ops_json("report", "--month", "2026-10")

    assert (found["headline"]["calls"]["value"], found["headline"]["calls"]["before"]) == (4, 1)


def test_a_call_without_readable_json_is_counted_from_its_record(stack, run_ops_json, calls):
    stack.s3.delete_object(Bucket=stack.bucket, Key=stack.call("conv_2")["json_key"])

    _, found = run_ops_json("report", "--month", "2026-10")

    assert (found["headline"]["minutes"]["value"], found["completeness"]["without_readable_json"]) == (10.0, 1)


def test_a_recording_that_waits_for_its_transcript_is_a_missing_call(stack, run_ops_json, calls):
    for conversation_id, began in (("conv_x", "2026-10-09T10:00:00Z"), ("conv_y", "2026-11-09T10:00:00Z")):
        note(
            stack, conversation_id, parked={"staged_key": "staging/x", "order": "1"}, open_state="parked", started=began
        )

    _, found = run_ops_json("report", "--month", "2026-10")

    assert (found["completeness"]["expected"], found["completeness"]["missing"]) == (6, 1)


def test_the_archive_is_compared_with_elevenlabs_on_request(stack, run_ops_json, calls, elevenlabs: ElevenLabs):
    for conversation_id, day in (("conv_1", 1), ("conv_missing", 7), ("conv_early", -3)):
        start = int(datetime(2026, 10, 1, tzinfo=timezone.utc).timestamp()) + (day - 1) * 86400
        metadata = {"start_time_unix_secs": start, "call_duration_secs": 60}
        elevenlabs.add(
            {"conversation_id": conversation_id, "agent_id": "agent_1", "status": "done", "metadata": metadata}
        )

    _, found = run_ops_json("report", "--month", "2026-10", "--elevenlabs")

    assert {name: found["completeness"][name] for name in ("expected", "archived", "missing")} == {
        "expected": 6, "archived": 5, "missing": 1,
    }  # fmt: skip
    assert found["completeness"]["compared_with_elevenlabs"]
    assert {request.route for request in elevenlabs.requests} == {"list"}


def test_without_a_key_the_comparison_is_refused(run_ops, stack):
    code, _, said = run_ops("report", "--month", "2026-10", "--elevenlabs")

    assert code == 2
    assert "The stack has no API key of ElevenLabs" in said


def test_the_page_has_the_numbers_of_the_json_and_no_number_or_word_of_a_caller(run_ops_json, calls, folder):
    _, found = run_ops_json("report", "--month", "2026-10", "--output", "page.html")
    page = (folder / "page.html").read_text()

    for value in ("5", "10", "100 %", "1:00", "3", "50"):
        assert f'<p class="value">{value}</p>' in page
    assert f">{found['cost']['aws']['items'][0]['quantity']:.2f}<" in page
    for secret in ("2025550", "Private words", "conv_1"):
        assert secret not in page
        assert secret not in str(found)


def test_a_number_in_a_text_is_masked(run_ops_json, archive_at, folder):
    archive_at("conv_1", 2026, 10, 1, agent_name=f"Line {OTHER}",
               transcript=[{"role": "agent", "tool_calls": [{"tool_name": "call +1 (202) 555-0142"}]}])  # fmt: skip

    _, found = run_ops_json("report", "--month", "2026-10", "--output", "page.html")

    page = (folder / "page.html").read_text()
    assert found["agents"][0]["name"] == "Line +120…142"
    assert not re.search(r"5550142|555-0142", page + str(found))


def test_the_file_is_named_after_the_month_and_only_its_owner_may_read_it(run_ops, stack, folder, open_umask):
    code, out, _ = run_ops("report", "--month", "2026-10")

    assert code == 0
    assert modes(folder) == {folder.name: modes(folder)[folder.name], "report-2026-10.html": "600"}
    assert "report-2026-10.html" in out


def test_a_file_is_overwritten_only_with_force(run_ops, stack, folder):
    (folder / "report-2026-10.html").write_text("mine")

    code, _, said = run_ops("report", "--month", "2026-10")
    kept = (folder / "report-2026-10.html").read_text()
    forced, _, _ = run_ops("report", "--month", "2026-10", "--force")

    assert (code, kept, forced) == (2, "mine", 0)
    assert "report-2026-10.html exists already." in said
    assert (folder / "report-2026-10.html").read_text().startswith("<!doctype html>")


def test_a_link_is_never_followed(run_ops, stack, folder):
    (folder / "mine").write_text("mine")
    (folder / "report-2026-10.html").symlink_to(folder / "mine")

    code, _, _ = run_ops("report", "--month", "2026-10", "--force")

    assert (code, (folder / "mine").read_text()) == (2, "mine")


def test_json_alone_writes_no_file(run_ops_json, stack, folder):
    run_ops_json("report", "--month", "2026-10")

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--month", "2026-13"], "'2026-13' is not a month. Write it as 2026-10."),
        (["--month", "October"], "'October' is not a month."),
        (["--month", "2026-1"], "'2026-1' is not a month."),
        (["--month", "9999-12"], "'9999-12' is not a month."),
        (["--month", "8999-12"], "December 8999 has not begun."),
        (["--month", "2026-10", "--timezone", "Mars/Olympus"], "'Mars/Olympus' is not a time zone."),
        (["--month", "2026-10", "--timezone", "../etc/passwd"], "'../etc/passwd' is not a time zone."),
        (["--month", "2026-10", "--output", "no/report.html"], "There is no folder no."),
        (["--month", "2026-10", "--output", "."], ". is a folder."),
    ],
)
def test_a_wrong_word_is_explained(run_ops, folder, words, said):
    code, _, told = run_ops("report", *words)

    assert code == 2
    assert said in told
    assert list(folder.iterdir()) == []


def test_a_month_without_calls_is_a_page_too(run_ops, run_ops_json, stack, folder):
    code, _, _ = run_ops("report", "--month", "2026-10")

    assert code == 0
    assert "There are no calls in October 2026" in (folder / "report-2026-10.html").read_text()
    assert run_ops_json("report", "--month", "2026-10")[1]["headline"]["calls"]["value"] == 0


def test_a_month_in_progress_is_compared_with_the_same_part_of_the_month_before(run_ops_json, archive_at, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 10, 5, 12, tzinfo=tz)

    monkeypatch.setattr("scripts.operations.report.datetime", Clock)
    archive_at("conv_same", 2026, 9, 5, 11)
    archive_at("conv_later", 2026, 9, 5, 13)
    archive_at("conv_now", 2026, 10, 5, 11)

    _, found = run_ops_json("report", "--month", "2026-10")

    assert (found["is_complete"], found["until"]) == (False, "2026-10-05T12:00:00Z")
    assert found["headline"]["calls"] == {"value": 1, "before": 1, "change": 0.0}
