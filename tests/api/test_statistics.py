"""Sums for each day and agent."""

import api.handler
from api.access import Reader
from api.calls import Calls
from api.parameters import SpanQuery
from api.statistics import read_statistics
from tests.api.conftest import Get, save


def test_calls_are_summed_for_each_day_and_agent_newest_day_first(aws, get: Get) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z", duration_secs=30, cost=5, call_successful="success", audio="archived")
    save(aws, "b", "2026-11-01T11:00:00Z", duration_secs=60, cost=6, call_successful="failure")
    save(aws, "c", "2026-11-01T12:00:00Z")
    save(aws, "d", "2026-11-02T10:00:00Z", "agent_2", call_successful="unknown")

    answer = get("/stats")

    assert answer["next"] is None
    assert answer["rows"] == [
        {"day": "2026-11-02", "agent_id": "agent_2", "calls": 1, "minutes": 0.0, "success": 0, "failure": 0,
         "unknown": 1, "timed": 0, "average_secs": None, "with_audio": 0, "cost": 0},
        {"day": "2026-11-01", "agent_id": "agent_1", "calls": 3, "minutes": 1.5, "success": 1, "failure": 1,
         "unknown": 1, "timed": 2, "average_secs": 45.0, "with_audio": 1, "cost": 11},
    ]  # fmt: skip


def test_sums_are_of_a_span_and_of_agents(aws, get: Get) -> None:
    for day in (1, 2, 3):
        save(aws, f"a{day}", f"2026-11-0{day}T10:00:00Z", "agent_1")
        save(aws, f"b{day}", f"2026-11-0{day}T10:00:00Z", "agent_2")

    rows = get("/stats", {"from": "2026-11-02", "to": "2026-11-02", "agent": "agent_2"})["rows"]

    assert [(row["day"], row["agent_id"], row["calls"]) for row in rows] == [("2026-11-02", "agent_2", 1)]


def test_the_pages_of_a_day_add_up(aws) -> None:
    for number in range(25):
        save(aws, f"conv_{number}", f"2026-11-0{number % 2 + 1}T10:00:0{number % 3}Z", duration_secs=60)
    calls = Calls(api.handler.aws().table, api.handler.aws().records, Reader("ana"))

    sums: dict[str, int] = {}
    cursor, pages = None, 0
    while pages == 0 or cursor:
        page = read_statistics(calls, SpanQuery(cursor=cursor), most=7)
        for row in page["rows"]:
            sums[row["day"]] = sums.get(row["day"], 0) + row["calls"]
        cursor, pages = page["next"], pages + 1

    assert sums == {"2026-11-02": 12, "2026-11-01": 13}
    assert pages >= 4
