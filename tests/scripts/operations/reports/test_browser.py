"""The page of a report in a browser: it asks for nothing, and fits a phone and a sheet of paper."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from scripts.operations.reports.page import render
from tests.scripts.operations.reports.test_page import HOSTILE, call, made

LONG = "the_agent_asked_for_the_name_of_the_boat_and_the_berth_and_the_day_and_the_hour_of_its_arrival"


@pytest.fixture
def report(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The report of 40 agents with long names; the test fails if its page asked for anything or complained."""
    calls = [call(number % 31 + 1, agent_id=f"agent_{number}", agent_name=HOSTILE, seconds=60, reason=LONG, caller="1",
                  criteria=((LONG, "success"),), tools=((LONG, False, 1.0),)) for number in range(40)]  # fmt: skip
    (tmp_path / "report.html").write_text(render(made(calls, [call()])))
    asked: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: asked.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.dismiss())
    page.goto((tmp_path / "report.html").as_uri())
    yield page
    page.close()
    assert asked == [(tmp_path / "report.html").as_uri()]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_part_of_the_page_is_wider_than_the_screen(report: Page, width: int) -> None:
    report.set_viewport_size({"width": width, "height": 900})

    assert report.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_no_part_is_cut_off_and_the_colours_are_those_of_light(report: Page) -> None:
    report.emulate_media(media="print", color_scheme="dark")
    report.set_viewport_size({"width": 680, "height": 960})  # A4 without its margins

    wide = report.evaluate("[...document.querySelectorAll('table')].filter(each => each.scrollWidth > 681).length")
    assert (report.evaluate("document.documentElement.scrollWidth"), wide) == (680, 0)
    assert report.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert report.pdf(format="A4").startswith(b"%PDF")
