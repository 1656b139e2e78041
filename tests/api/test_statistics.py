"""Sums for each day and agent."""

from typing import Any

import pytest

import api.handler
import api.sql
import api.statistics
from tests.api.conftest import Get, counted
from tests.athena_stand_in import TOO_MUCH, Athena


def test_calls_are_summed_for_each_day_and_agent_newest_day_first(athena: Athena, get: Get) -> None:
    counted(athena, "a", "2026-11-01T10:00:00Z", seconds=30, cost=5, outcome="success", audio="archived")
    counted(athena, "b", "2026-11-01T11:00:00Z", seconds=60, cost=6, outcome="failure", audio="pending")
    counted(athena, "c", "2026-11-01T12:00:00Z", outcome="odd", audio="none")
    counted(athena, "d", "2026-11-02T10:00:00Z", None, outcome="unknown", audio="unavailable")

    answer = get("/stats")

    assert answer == {"next": None, "bytes": 1000, "rows": [
        {"day": "2026-11-02", "agent_id": None, "calls": 1, "minutes": 0.0, "success": 0, "failure": 0,
         "unknown": 1, "timed": 0, "average_secs": None, "with_audio": 0, "cost": 0},
        {"day": "2026-11-01", "agent_id": "agent_1", "calls": 3, "minutes": 1.5, "success": 1, "failure": 1,
         "unknown": 1, "timed": 2, "average_secs": 45.0, "with_audio": 2, "cost": 11},
    ]}  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"from": "2026-11-02", "to": "2026-11-02", "agent": "agent_2"}, ["b2"]),
        ({"from": "2026-11-02T10:00:01Z"}, ["a3", "b3"]),
        ({"to": "2026-11-01T10:00:00Z"}, ["a1", "b1"]),
        ({"to": "2026-10-31"}, []),
        ({"from": "2026-11-04"}, []),
        ({"from": "1999-01-01", "to": "2100-01-01", "agent": "agent_9"}, []),
    ],
)
def test_sums_are_of_a_span_and_of_agents(athena: Athena, get: Get, query: dict[str, str], found: list[str]) -> None:
    for day in (1, 2, 3):
        counted(athena, f"a{day}", f"2026-11-0{day}T10:00:00Z", "agent_1")
        counted(athena, f"b{day}", f"2026-11-0{day}T10:00:00Z", "agent_2")

    rows = get("/stats", query)["rows"]

    assert [f"{'ab'[row['agent_id'] == 'agent_2']}{row['day'][-1]}" for row in rows] == found


def test_a_call_counts_once_however_often_it_was_written_and_by_its_newest_version(athena: Athena, get: Get) -> None:
    counted(athena, "a", "2026-11-02T10:00:00Z", version="1-2", seconds=60, outcome="success")
    counted(athena, "a", "2026-11-01T10:00:00Z", "agent_2", version="1-1", seconds=30, outcome="failure")
    counted(athena, "a", "2026-11-02T10:00:00Z", version="1-2", seconds=60, outcome="success")

    (row,) = get("/stats")["rows"]

    assert (row["day"], row["agent_id"], row["calls"], row["minutes"]) == ("2026-11-02", "agent_1", 1, 1.0)


def test_without_a_file_there_is_no_query(athena: Athena, get: Get) -> None:
    assert get("/stats") == {"rows": [], "next": None, "bytes": 0}
    assert athena.queries == {}


def test_what_takes_longer_is_asked_for_again(athena: Athena, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(athena, "a", "2026-11-01T10:00:00Z")
    athena.late = True
    monkeypatch.setattr(api.handler, "SECONDS", 0.2)
    first = get("/stats")
    second = get("/stats", {"cursor": first["next"]})
    athena.late = False
    third = get("/stats", {"cursor": second["next"]})

    assert (first["http_status"], first["rows"], second["next"]) == (202, [], first["next"])
    assert (third["rows"][0]["calls"], third["next"]) == (1, None)
    assert len(athena.queries) == 1


def test_too_many_days_and_agents_are_refused(athena: Athena, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api.sql, api.statistics):
        monkeypatch.setattr(module, "MOST_SUMS", 1)
    for day in (1, 2):
        counted(athena, "a", f"2026-11-0{day}T10:00:00Z")
        counted(athena, "b", f"2026-11-0{day}T10:00:00Z", "agent_2")

    answer = get("/stats")

    assert (answer["status"], answer["parameter"]) == (400, "from")


def test_a_query_that_reads_too_much_says_what_to_do(athena: Athena, get: Get) -> None:
    counted(athena, "a", "2016-11-01T10:00:00Z")
    athena.ends = [("CANCELLED", TOO_MUCH)]

    answer: dict[str, Any] = get("/stats", {"from": "2016-11-01"})

    assert (answer["status"], answer["parameter"]) == (400, "from")
    assert answer["detail"].endswith("(SearchLimitBytes). Ask for fewer days.")
