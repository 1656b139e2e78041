"""What the commands show fits a screen of 80 columns, and what may be copied from it is never broken."""

import json
from datetime import datetime, timezone

import pytest

from scripts.operations.view import View

ID = "conv_0123456789abcdefghijklmnopqrstuvwxyz0123456789"
COMMAND = f"ops erase --conversation {ID} --yes"
SENTENCE = "The record has a transcript, and the archive has no JSON for it, because nobody was allowed to write it"
COLUMNS = {"call": "Call", "json": "JSON", "problems": "Problems"}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_rows_that_fit_are_a_table(capsys):
    view = View("calls", local=False, as_json=False)
    view.table([{"call": "conv_1", "json": "archived", "problems": []}], COLUMNS, "1 call")

    assert lines(capsys) == ["1 call", "Call    JSON      Problems", "conv_1  archived  -"]


def test_what_does_not_fit_stands_below_its_row_and_no_id_and_no_command_is_broken(capsys):
    view = View(None, local=True, as_json=False)
    problems = [f"its erasure is not complete: {COMMAND}", SENTENCE]
    rows = [
        {"call": ID, "json": "missing", "problems": problems},
        {"call": "conv_2", "json": "archived", "problems": []},
    ]
    view.table(rows, COLUMNS, "2 calls", "ops status")

    assert lines(capsys) == [
        "2 calls",
        f"Call{' ' * (len(ID) - 2)}JSON",
        f"{ID}  missing",
        "  Problems  its erasure is not complete:",
        f"            {COMMAND}",
        "            The record has a transcript, and the archive has no JSON for it,",
        "            because nobody was allowed to write it",
        f"conv_2{' ' * (len(ID) - 4)}archived",
        "",
        "Next:",
        "      ./scripts/ops status --local",
    ]


def test_of_two_columns_of_equal_width_the_last_goes_below(capsys):
    view = View("calls", local=False, as_json=False)
    view.table([{"call": "c" * 65, "json": "archived", "problems": "unread"}], COLUMNS, "1 call")

    assert lines(capsys)[1:] == [f"Call{' ' * 63}JSON", f"{'c' * 65}  archived", "  Problems  unread"]


def test_an_id_that_is_wider_than_the_screen_is_not_broken(capsys):
    view = View("calls", local=False, as_json=False)
    view.table([{"call": ID * 2, "json": "archived", "problems": []}], COLUMNS, "1 call")

    assert lines(capsys) == ["1 call", "Call", ID * 2, "  JSON  archived"]


def test_names_and_values_are_shown_below_each_other_and_long_ones_are_not_broken(capsys):
    view = View("calls", local=False, as_json=False)
    view.show({"conversation_id": ID * 2, "meaning": SENTENCE, "seen": True}, "Sent")

    assert lines(capsys) == [
        "Sent",
        f"conversation id  {ID * 2}",
        f"meaning          {SENTENCE[:60]}",
        f"                 {SENTENCE[61:]}",
        "seen             yes",
    ]


def test_times_are_iso_8601_in_utc_for_people_and_for_machines(capsys):
    at = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
    for as_json in (False, True):
        View("calls", local=False, as_json=as_json).show({"at": at}, "A time")

    text, _, found = capsys.readouterr().out.partition("{")
    assert text == "A time\nat  2026-11-22T10:00:00Z\n"
    assert json.loads("{" + found) == {"at": "2026-11-22T10:00:00Z"}
