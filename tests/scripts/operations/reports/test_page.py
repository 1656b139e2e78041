"""The page of a report: it shows the numbers, loads nothing, and holds no text from others as anything but text."""

import re
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scripts.operations.report import describe
from scripts.operations.reports import charts
from scripts.operations.reports.charts import Series, scale
from scripts.operations.reports.month import Facts, read_month
from scripts.operations.reports.page import change, clock, lowest, money, percent, price, render, seconds, span, whole
from scripts.operations.reports.reading import Calls

NOW = datetime(2026, 11, 25, 19, tzinfo=timezone.utc)
HOSTILE = "<script>alert(1)</script>\"' onload=alert(2) <img src=//evil.example/x> </style> {{ 7*7 }} &amp; url(//x)"


def made(calls: list[Facts], before: list[Facts] | None = None, month: str = "2026-10", **found: Any) -> dict[str, Any]:
    return describe("calls", read_month(month, "UTC", NOW), Calls(calls, before or [], **found), [], NOW)


def call(day: int = 1, **facts: Any) -> Facts:
    return Facts(datetime(2026, 10, day, 10, 30, tzinfo=ZoneInfo("UTC")), **facts)


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def hostile_report() -> dict[str, Any]:
    facts = {
        "agent_id": "agent_1", "agent_name": HOSTILE, "language": HOSTILE, "reason": HOSTILE, "seconds": 60,
        "criteria": ((HOSTILE, "success"),), "tools": ((HOSTILE, True, 0.5),),
    }  # fmt: skip
    return made([call(**facts)])


def test_text_of_others_is_shown_as_it_is():
    page = Page(render(hostile_report()))

    assert page.text.count(HOSTILE) >= 5  # agent, language, reason, criterion, tool
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("report", [hostile_report(), made([]), made([call(seconds=5)], [call()], missing=3)])
def test_the_page_loads_nothing_and_runs_nothing(report):
    html = render(report)
    page = Page(html)

    assert {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    } == set()
    assert not [
        name for _, attributes in page.tags for name in attributes if name in ("src", "href", "action", "srcset")
    ]
    assert not re.search(r"url\(|@import|https?://", re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1])
    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_shows_the_numbers():
    calls = [
        call(
            3,
            seconds=61,
            outcome="success",
            caller="1",
            cost=1234,
            agent_id="agent_1",
            language="en",
            criteria=(("goal_met", "success"),),
            tools=(("find", True, 0.25),),
            origin="api",
            audio="archived",
        )
    ] * 3
    report = made([*calls, call(4, outcome="failure")], [call()], known_callers={"1"}, missing=2)  # fmt: skip

    text = " ".join(Page(render(report)).text.split())

    for said in (
        "October 2026", "4 calls of 2 agents, 3 minutes.", "Calls 4 +300.0 % from 1 in September",
        "Successful 75.0 %", "Credits 3,702", "Most calls came on Saturday, 3 October: 3.",
        "The busiest hour was Saturday, 10:00 to 11:00, with 3 calls in the month.",
        "goal_met 100 %", "find 3 3 100 %", "0 of 1 caller had not called before; 1 called more than once.",
        "2 of 6 calls are not in the archive.", "3 calls were fetched from ElevenLabs by the reconciler",
        "Recovered by the reconciler 3", "about $",
    ):  # fmt: skip
        assert said in text


def test_every_day_and_hour_has_its_number_in_the_chart():
    report = made([call(3), call(3), call(9)])

    titles = re.findall(r"<title>(.*?)</title>", render(report))

    assert "Saturday, 3 October: 2 calls" in titles
    assert "Friday, 9 October: 1 calls" in titles
    assert "Saturday, 10:00: 2 calls" in titles


def test_a_month_in_progress_says_so():
    calls = [Facts(datetime(2026, 11, 3, tzinfo=ZoneInfo("UTC")))]

    text = " ".join(Page(render(made(calls, month="2026-11"))).text.split())

    assert "This month is in progress. The report has its calls until 25 November 2026, 19:00 UTC." in text
    assert "in progress" not in Page(render(made([call()]))).text


def test_a_month_without_calls_says_so():
    text = " ".join(Page(render(made([], [call(), call()], missing=1))).text.split())

    assert "There are no calls in October 2026" in text
    assert "In September 2026 there were 2. 1 call is known and not archived." in text


def test_many_rows_are_cut_and_counted():
    calls = [call(agent_id=f"agent_{number:02}", tools=((f"tool_{number:02}", False, None),)) for number in range(40)]

    text = Page(render(made(calls))).text

    assert "And 25 more agents, with 25 calls." in text
    assert "And 25 more tools, with 25 calls." in text
    assert ("agent_14" in text, "agent_15" in text) == (True, False)


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [(0, [0, 1]), (1, [0, 1]), (3, [0, 1, 2, 3]), (0.4, [0, 0.1, 0.2, 0.3, 0.4]), (99, [0, 25, 50, 75, 100]),
     (100, [0, 25, 50, 75, 100]), (101, [0, 50, 100, 150]), (12345, [0, 5000, 10000, 15000]),
     (5, [0, 2, 4, 6])],
)  # fmt: skip
def test_a_scale_is_round_and_reaches_the_highest_value(highest, ticks):
    assert scale(highest) == pytest.approx(ticks)


def test_columns_stand_on_each_other_and_reach_as_high_as_their_values():
    drawn = charts.columns(["<a>"], [Series("x", "c1", [25]), Series("y", "bad", [75])], ["<a>"], whole)

    assert 'class="c1" x="1.5" y="75" width="7" height="25"><title>&lt;a&gt;: 25 x<' in drawn
    assert 'class="bad" x="1.5" y="0" width="7" height="75"><title>&lt;a&gt;: 75 y<' in drawn


def test_a_line_has_a_gap_where_there_is_no_value():
    drawn = charts.line([0, 100, None, 50], 0, "x")

    assert drawn.count("<polyline") == 1
    assert 'points="3,23 35.67,3"' in drawn
    assert drawn.count("<circle") == 2  # the value that stands alone, and the last


def test_the_lines_of_all_criteria_begin_at_the_tens_of_the_lowest_share():
    results = [call(1, criteria=(("a", "success"), ("b", "success"))), call(9, criteria=(("a", "failure"),)),
               *[call(9, criteria=(("a", "success"),))] * 2]  # fmt: skip

    html = render(made(results))

    assert lowest(made(results)["criteria"]) == 60
    assert "The lines go from 60 to 100 %." in html
    assert 'points="3,3 27.5,19.65"' in html
    assert lowest([]) == 90


@pytest.mark.parametrize(
    ("shown", "text"),
    [(whole(1234.5), "1,234"), (whole(3.25), "3.2"), (whole(None), "–"), (percent(66.7), "66.7 %"),
     (percent(100), "100 %"), (clock(131), "2:11"), (clock(5.5), "0:05"), (clock(None), "–"),
     (seconds(0.25), "250 ms"), (seconds(1.25), "1.2 s"), (money(0), "$0.00"), (money(0.0024), "$0.0024"),
     (money(1234.5), "$1,234.50"), (price(0.625), "0.625"), (price(1.0), "1.00"), (price(0.023), "0.023"),
     (change(12.34, "calls"), "+12.3 % "), (change(-1.4, "success_share"), "−1.4 points "),
     (change(0, "calls"), "unchanged "),
     (change(26000, "calls"), ""), (change(None, "calls"), ""), (span(0, 30), "0–½"), (span(30, 60), "½–1"),
     (span(600, 1200), "10–20"), (span(1200, None), "over 20")],
)  # fmt: skip
def test_numbers_are_written_for_people(shown, text):
    assert shown == text
