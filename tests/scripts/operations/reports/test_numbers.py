"""The numbers of a report, computed by hand."""

from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scripts.operations.reports.cost import aws_cost
from scripts.operations.reports.month import Facts, Month, digits, outcome, read_month
from scripts.operations.reports.numbers import (
    agents,
    callers,
    completeness,
    criteria,
    days,
    durations,
    headline,
    hours,
    outcomes,
    percentile,
    ranked,
    tools,
)

UTC = ZoneInfo("UTC")
OCTOBER = read_month("2026-10", "UTC", datetime(2026, 11, 25, tzinfo=timezone.utc))


def call(day: int = 1, hour: int = 10, **facts: Any) -> Facts:
    return Facts(datetime(2026, 10, day, hour, 30, tzinfo=UTC), **facts)


def test_the_headline_has_the_month_before_and_the_change():
    now = [call(seconds=60, outcome="success", caller="1", cost=100), call(seconds=120, outcome="failure", caller="1"),
           call(seconds=300, outcome="success", caller="2", cost=50), call()]  # fmt: skip
    before = [call(seconds=240, outcome="success", caller="9", cost=300), call(outcome="failure")]

    assert headline(now, before) == {
        "calls": {"value": 4, "before": 2, "change": 100.0},
        "minutes": {"value": 8.0, "before": 4.0, "change": 100.0},
        "success_share": {"value": 66.7, "before": 50.0, "change": 16.7},
        "median_seconds": {"value": 120, "before": 240, "change": -50.0},
        "callers": {"value": 2, "before": 1, "change": 100.0},
        "credits": {"value": 150, "before": 300, "change": -50.0},
    }


def test_without_a_month_before_there_is_no_change():
    assert headline([call()], [])["calls"] == {"value": 1, "before": None, "change": None}
    assert headline([call(seconds=9)], [call()])["minutes"] == {"value": 0.1, "before": 0.0, "change": None}
    assert headline([], [call(outcome="success")])["success_share"] == {"value": None, "before": 100.0, "change": None}


def test_a_day_counts_outcomes_and_kinds_of_callers():
    calls = [call(3, outcome="success", caller="1", seconds=90, cost=7), call(3, caller="2"), call(3), call(4)]

    found = days(OCTOBER, calls, {"1"})

    assert [each["calls"] for each in found] == [0, 0, 3, 1, *[0] * 27]
    assert found[2] == {
        "day": "2026-10-03", "calls": 3, "minutes": 1.5, "success": 1, "failure": 0, "unknown": 2,
        "of_new_callers": 1, "of_returning_callers": 1, "without_number": 1, "credits": 7,
    }  # fmt: skip


def test_durations_have_median_percentile_and_a_histogram_whose_upper_bounds_are_outside():
    found = durations([call(seconds=each) for each in (0, 29, 30, 59, 60, 119, 120, 1199, 1200, 5000)] + [call()])

    assert (found["median"], found["percentile_90"], found["average"]) == (89.5, 1200, 781.6)
    assert (found["longest"], found["unknown"]) == (5000, 1)
    assert [each["calls"] for each in found["histogram"]] == [2, 2, 2, 1, 0, 0, 1, 2]
    assert (found["histogram"][0], found["histogram"][-1]) == (
        {"from": 0, "to": 30, "calls": 2}, {"from": 1200, "to": None, "calls": 2},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 90, None), ([7], 90, 7), (list(range(1, 11)), 90, 9), (list(range(1, 12)), 90, 10), ([1, 2], 50, 1)],
)
def test_a_percentile_is_one_of_the_values(values, percent, expected):
    assert percentile(values, percent) == expected


def test_calls_without_a_judgement_do_not_count_for_the_share():
    found = outcomes([call(outcome="success"), call(outcome="success"), call(outcome="failure"), call()])

    assert found == {"success": 2, "failure": 1, "unknown": 1, "success_share": 66.7}


def test_a_criterion_is_counted_in_the_month_and_in_each_part_of_it():
    calls = [call(1, criteria=(("polite", "success"), ("goal", None))), call(7, criteria=(("polite", "failure"),)),
             call(8, criteria=(("polite", "success"),)), call(31, criteria=(("polite", "odd"),))]  # fmt: skip

    polite, goal = criteria(OCTOBER, calls)

    assert (polite["criterion"], polite["success"], polite["failure"], polite["unknown"], polite["success_share"]) == (
        "polite", 2, 1, 1, 66.7,
    )  # fmt: skip
    assert [each["days"] for each in polite["periods"]] == ["1–7", "8–14", "15–21", "22–28", "29–31"]
    assert [each["success_share"] for each in polite["periods"]] == [50.0, 100.0, None, None, None]
    assert (goal["criterion"], goal["unknown"], goal["success_share"]) == ("goal", 1, None)


def test_february_has_four_parts():
    february = Month(datetime(2026, 2, 1, tzinfo=UTC).date(), UTC)

    (found,) = criteria(february, [Facts(datetime(2026, 2, 28, tzinfo=UTC), criteria=(("goal", "success"),))])

    assert [each["days"] for each in found["periods"]] == ["1–7", "8–14", "15–21", "22–28"]


def test_new_callers_are_those_that_had_not_called_before():
    assert callers([call(caller="1"), call(caller="1"), call(caller="2"), call(caller="3"), call()], {"1", "9"}) == {
        "callers": 3, "new": 2, "returning": 1, "new_share": 66.7, "called_more_than_once": 1,
        "most_calls_of_one_caller": 2, "calls_of_new": 2, "calls_of_returning": 2, "calls_without_number": 1,
    }  # fmt: skip


def test_a_tool_has_its_errors_of_the_answers_and_its_latencies():
    used = (("find", False, 0.5), ("find", True, 1.5), ("find", None, None), ("end", False, None), ("find", False, 2.5))

    find, end = tools([call(tools=used)])

    assert find == {
        "tool": "find", "calls": 4, "errors": 1, "unanswered": 1, "error_share": 33.3, "median_secs": 1.5,
        "percentile_90_secs": 2.5,
    }  # fmt: skip
    assert (end["error_share"], end["median_secs"]) == (0.0, None)


def test_hours_are_those_of_weekdays():
    found = hours([call(5, 9), call(12, 9), call(6, 23)])  # two Mondays and a Tuesday

    assert (found["calls"][0][9], found["calls"][1][23], sum(map(sum, found["calls"]))) == (2, 1, 3)
    assert found["busiest"] == {"weekday": "Monday", "hour": 9, "calls": 2}
    assert hours([])["busiest"] is None


def test_an_agent_has_its_last_name_and_those_with_most_calls_come_first():
    found = agents([call(1, agent_id="a", agent_name="New"), call(1, 9, agent_id="a", agent_name="Old"), call(),
                    call(agent_id="b"), call(agent_id="b"), call(agent_id="b")])  # fmt: skip

    assert [(each["agent_id"], each["name"], each["calls"]) for each in found] == [
        ("b", None, 3), ("a", "New", 2), (None, None, 1),
    ]  # fmt: skip


def test_equally_frequent_values_are_in_order_and_absent_ones_count():
    assert ranked(["fr", None, "en", "en", "de"], "language") == [
        {"language": "en", "calls": 2}, {"language": None, "calls": 1}, {"language": "de", "calls": 1},
        {"language": "fr", "calls": 1},
    ]  # fmt: skip


def test_completeness_counts_what_is_there_and_what_is_not():
    calls = [
        call(origin="webhook", audio="archived", memories=("done", "done")),
        call(origin="api", audio="pending", memories=("sending", "idle"), has_json=False),
        call(origin="webhook", audio="unavailable"), call(origin="webhook", audio="none", memories=("done", None)),
    ]  # fmt: skip

    assert completeness(calls, 1, is_compared=True) == {
        "expected": 5, "archived": 4, "missing": 1, "archived_share": 80.0, "compared_with_elevenlabs": True,
        "by_webhook": 3, "recovered": 1, "without_readable_json": 1,
        "audio": {"archived": 1, "pending": 1, "unavailable": 1, "none": 1},
        "memories": {
            "factual": {"done": 2, "open": 1, "none": 1}, "semantic": {"done": 1, "open": 1, "none": 2}, "neither": 1,
        },
    }  # fmt: skip


def test_the_cost_at_aws_is_quantity_times_price():
    # A recording of 100 s has 1.6 MB: as base64 2.13 MB, which count as 5 requests. One of 300 s has 4.8 MB: too large.
    calls = [call(seconds=100, audio="archived", bytes=600_000, memories=("done", "done")),
             call(seconds=300, audio="archived", bytes=1), call(seconds=60, audio="pending")]  # fmt: skip

    found = aws_cost(calls)

    quantities = {each["what"]: each["quantity"] for each in found["items"]}
    assert quantities["HTTP API"] == 2 + 5 + 1 + 1
    assert quantities["Lambda, invocations"] == 14
    assert quantities["Lambda, time"] == 23
    assert quantities["S3, PUT"] == 18
    assert quantities["S3, storage for a month"] == round((600_001 + 6_400_000) / (1 << 30), 3)
    assert all(each["amount"] == pytest.approx(each["quantity"] * each["price"] / each["per"], abs=2e-5)
               for each in found["items"])  # fmt: skip
    assert found["total"] == round(sum(each["amount"] for each in found["items"]), 2)


@pytest.mark.parametrize(
    ("told", "meant"), [("success", "success"), ("failure", "failure"), ("unknown", "unknown"), (None, "unknown"),
                        ("perfect", "unknown")]
)  # fmt: skip
def test_an_outcome_is_one_of_three(told, meant):
    assert outcome(told) == meant


def test_a_number_is_the_same_caller_in_each_form():
    assert {digits("+12025550123"), digits("0012025550123"), digits("12025550123")} == {"12025550123"}
    assert digits(None) is None


def test_a_month_begins_and_ends_in_its_time_zone():
    berlin = read_month("2026-10", "Europe/Berlin", datetime(2026, 11, 25, tzinfo=timezone.utc))

    assert berlin.start.astimezone(timezone.utc) == datetime(2026, 9, 30, 22, tzinfo=timezone.utc)
    assert berlin.end.astimezone(timezone.utc) == datetime(2026, 10, 31, 23, tzinfo=timezone.utc)
    assert (len(berlin.days), berlin.name, str(berlin.before())) == (31, "October 2026", "2026-09")


def test_the_default_is_the_last_month_that_is_over_in_the_time_zone():
    now = datetime(2026, 12, 31, 23, 30, tzinfo=timezone.utc)

    assert (str(read_month("", "UTC", now)), str(read_month("", "Europe/Berlin", now))) == ("2026-11", "2026-12")
