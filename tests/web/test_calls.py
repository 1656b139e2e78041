"""The list of calls: search, filters, pages, export, and what the first view costs."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from tests.web.stand_in import Fault, StandIn


def titles(page: Page) -> list[str]:
    page.locator(".busy").wait_for(state="detached")
    return page.locator(".calls .what a").all_inner_texts()


def search(page: Page, words: str) -> None:
    page.get_by_label("Search calls").fill(words)
    page.get_by_label("Search calls").press("Enter")


def test_the_newest_calls_come_first_and_more_can_be_loaded(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    expect(page.locator(".call")).to_have_count(50)
    page.get_by_role("button", name="Load more").click()

    expect(page.locator(".call")).to_have_count(100)
    assert page.locator(".call time").first.get_attribute("datetime") == stand_in.calls[0]["started_at"]


def test_the_call_about_the_dog_is_found_by_its_summary(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    search(page, "dog lead")

    expect(page.locator(".call")).to_have_count(1)
    assert titles(page) == ["May the dog come along?"]
    assert page.url.endswith("#/?text=dog+lead")


@pytest.mark.parametrize("typed", ["+12025550144", "+1 (202) 555-0144", "12025550144"])
def test_a_number_finds_the_calls_of_that_caller(page: Page, stand_in: StandIn, typed: str) -> None:
    page.goto(stand_in.url)
    search(page, typed)

    expect(page.get_by_role("link", name="About this caller")).to_be_visible()
    assert "May the dog come along?" in titles(page)
    assert set(page.locator(".call .caller").all_inner_texts()) == {"+12025550144"}


def test_what_is_typed_at_once_is_kept_on_a_slow_machine(page: Page, stand_in: StandIn) -> None:
    late = "requestAnimationFrame = () => 0; const soon = setTimeout; setTimeout = (run, ms) => soon(run, ms + 1500)"
    page.add_init_script(late)
    page.goto(stand_in.url)
    page.get_by_label("Search calls").fill("dog")
    page.wait_for_timeout(2500)

    expect(page.get_by_label("Search calls")).to_have_value("dog")


def test_an_id_opens_its_call(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    search(page, "conv_hostile")

    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")


def test_the_filter_of_a_shared_link_is_applied_and_shown(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?outcome=failure&agent=agent_boat_hire&min_seconds=90&from=2020-01-01")

    page.locator(".call").first.wait_for()
    assert set(page.locator(".call .outcome").all_inner_texts()) == {"Failure"}
    assert set(page.locator(".call td.agent").all_inner_texts()) == {"agent_boat_hire"}
    assert page.get_by_label("Any outcome").input_value() == "failure"
    assert page.get_by_label("Any agent").input_value() == "agent_boat_hire"
    assert page.get_by_label("Shortest").input_value() == "1:30"
    assert page.get_by_label("From").input_value() == "2020-01-01"


def test_a_click_on_a_value_filters_by_it_and_back_takes_that_away(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.locator(".call .outcome").get_by_text("Failure").first.click()
    expect(page.locator(".call .outcome").get_by_text("Success")).to_have_count(0)
    page.locator(".call td.agent").get_by_text("agent_boat_hire").first.click()
    expect(page.locator(".call td.agent").get_by_text("agent_harbour_office")).to_have_count(0)
    assert page.url.endswith("#/?outcome=failure&agent=agent_boat_hire")

    page.go_back()

    expect(page.locator(".call td.agent").get_by_text("agent_harbour_office").first).to_be_visible()
    assert page.url.endswith("#/?outcome=failure")


def test_a_day_is_one_of_the_viewers_zone(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.locator(".day a").nth(1).click()
    expect(page.locator(".day")).to_have_count(1)

    asked = next(path for path in reversed(stand_in.requests) if "from=" in path)

    assert "T23%3A00%3A00.000Z" in asked  # midnight in Paris, in winter
    assert "T22%3A59%3A59.999Z" in asked


def test_every_filter_can_be_set_and_cleared(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.get_by_label("Any audio").select_option("Recorded")
    page.get_by_label("Any outcome").select_option("Success")
    page.get_by_label("Shortest").fill("2:00")
    page.get_by_label("Longest").fill("10")
    page.get_by_label("Longest").press("Enter")
    page.get_by_role("link", name="30 days").click()

    expect(page.locator(".call").first).to_be_visible()
    assert "audio=archived" in page.url
    assert "outcome=success" in page.url
    assert "min_seconds=120" in page.url
    assert "max_seconds=600" in page.url
    assert "from=" in page.url
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator(".call")).to_have_count(50)
    assert page.url.endswith("#/")


def test_short_pages_are_followed_and_the_page_says_how_far_it_looked(page: Page, stand_in: StandIn) -> None:
    stand_in.looks_at = 10
    page.goto(f"{stand_in.url}/#/?text=halcyon")

    expect(page.locator(".more")).to_contain_text("Looked back to")
    before = page.locator(".call").count()
    page.get_by_role("button", name="Load more").click()

    expect(page.locator(".call").nth(before)).to_be_visible()
    assert len([path for path in stand_in.requests if path.startswith("/api/calls?")]) > 6


def test_a_filter_that_matches_nothing_says_what_to_do(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?text=zebra")

    expect(page.get_by_role("heading", name="No call matches")).to_be_visible()
    page.get_by_role("link", name="Clear all filters").click()
    expect(page.locator(".call")).to_have_count(50)


def test_no_call_of_a_number_says_how_numbers_are_found(page: Page, stand_in: StandIn) -> None:
    for typed in ("0142", "202-555-0142"):
        page.goto(stand_in.url)
        search(page, typed)
        expect(page.locator(".empty")).to_contain_text("the whole number with its country code")
        expect(page.get_by_role("link", name="About this caller")).to_have_count(0)


def test_the_words_and_the_number_that_filter_are_both_shown_and_can_be_removed(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?text=dog")
    page.locator(".call .caller a").click()
    expect(page.get_by_label("Active filters").get_by_role("link")).to_have_text(
        ["Remove: Number +12025550144", "Remove: Words “dog”", "Clear filters"]
    )
    page.get_by_role("link", name="Remove: Words “dog”").click()

    expect(page.get_by_label("Search calls")).to_have_value("+12025550144")
    assert page.url.endswith("#/?caller=%2B12025550144")


@pytest.mark.parametrize(
    ("typed", "seconds"), [("10", 600), ("10 min", 600), ("1.5", 90), ("1:30", 90), ("1:00:00", 3600)]
)
def test_a_length_is_minutes_or_minutes_and_seconds(page: Page, stand_in: StandIn, typed: str, seconds: int) -> None:
    page.goto(stand_in.url)
    page.get_by_label("Longest").fill(typed)
    page.get_by_label("Longest").press("Enter")

    page.wait_for_url(f"**/#/?max_seconds={seconds}")
    expect(page.locator(".wrong")).to_have_count(0)


@pytest.mark.parametrize("typed", ["abc", "-5", "1:75"])
def test_what_is_no_length_is_refused_with_an_example(page: Page, stand_in: StandIn, typed: str) -> None:
    page.goto(stand_in.url)
    page.get_by_label("Shortest").fill(typed)
    page.get_by_label("Shortest").press("Enter")

    expect(page.get_by_role("alert")).to_contain_text(f"“{typed}” is not a length. Write minutes, such as 10")
    expect(page.get_by_label("Shortest")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Longest")).not_to_have_attribute("aria-invalid", "true")
    assert "min_seconds" not in page.url


@pytest.mark.parametrize(
    ("query", "told", "field"),
    [
        ("from=2026-02-01&to=2026-01-01", "The start date is after the end date.", "From"),
        ("min_seconds=90&max_seconds=60", "The shortest length is more than the longest length.", "Shortest"),
    ],
)
def test_a_range_that_holds_nothing_is_told_and_not_asked_for(
    page: Page, stand_in: StandIn, query: str, told: str, field: str
) -> None:
    page.goto(f"{stand_in.url}/#/?{query}")

    expect(page.get_by_role("alert")).to_have_text(told)
    expect(page.get_by_label(field)).to_have_attribute("aria-invalid", "true")
    assert not [path for path in stand_in.requests if path.startswith("/api/")]


def test_one_matching_call_is_counted_as_one(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?text=dog")

    expect(page.get_by_text("1 matching call", exact=True)).to_be_visible()


def test_an_empty_archive_says_so(page: Page, stand_in: StandIn) -> None:
    stand_in.hidden = {call["conversation_id"] for call in stand_in.calls}
    page.goto(stand_in.url)

    expect(page.get_by_role("heading", name="No calls yet")).to_be_visible()


def test_a_fault_is_told_in_the_words_of_the_api_as_text(page: Page, stand_in: StandIn, said: list[str]) -> None:
    stand_in.faults["/api/calls"] = Fault(503, "Service unavailable", "<b>DynamoDB</b> did not answer.")
    page.goto(stand_in.url)

    expect(page.get_by_role("alert")).to_contain_text("<b>DynamoDB</b> did not answer.")
    said.clear()  # the browser's own line about the status
    stand_in.faults.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".call")).to_have_count(50)


def test_what_trying_again_cannot_change_is_not_offered_again(page: Page, stand_in: StandIn, said: list[str]) -> None:
    stand_in.faults["/api/calls"] = Fault(400, "Bad request", "From must not be after to.")
    page.goto(f"{stand_in.url}/#/?from=2020-01-01&to=2026-01-01")

    expect(page.get_by_role("alert")).to_have_text("From must not be after to.")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    expect(page.get_by_role("link", name="Clear filters")).to_be_visible()
    said.clear()


def test_csv_of_what_is_shown_has_no_formula(page: Page, stand_in: StandIn, tmp_path: Path) -> None:
    page.goto(f"{stand_in.url}/#/?caller=12025550167")
    expect(page.locator(".call").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "calls.csv")
    assert re.fullmatch(r"calls-\d{4}-\d\d-\d\d\.csv", download.value.suggested_filename)

    with (tmp_path / "calls.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["conversation_id"]: row for row in csv.DictReader(file)}

    assert len(rows) == page.locator(".call").count()
    formula = rows["conv_formula"]
    assert formula["title"] == "'=cmd|' /C calc'!A0"
    assert formula["summary"] == "'-2+3 is @home, \"quoted\"\nand on;'=1+1\t'\uff20SUM(1)"
    assert formula["caller"] == "'+12025550167"
    assert formula["cost"] == "288"


def test_a_call_without_a_title_is_named_the_same_everywhere(page: Page, stand_in: StandIn, tmp_path: Path) -> None:
    page.goto(stand_in.url)
    expect(page.locator('.call a[href*="conv_untitled"]')).to_have_text("Only a summary came.")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "calls.csv")
    page.locator('.call a[href*="conv_untitled"]').click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Only a summary came.")
    with (tmp_path / "calls.csv").open(encoding="utf-8-sig", newline="") as file:
        titles = {row["conversation_id"]: row["title"] for row in csv.DictReader(file)}
    assert titles["conv_untitled"] == "Only a summary came."


def test_json_of_what_is_shown_is_what_the_api_sent(page: Page, stand_in: StandIn, tmp_path: Path) -> None:
    page.goto(f"{stand_in.url}/#/?text=dog")
    expect(page.locator(".call")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    download.value.save_as(tmp_path / "calls.json")

    [call] = json.loads((tmp_path / "calls.json").read_text())

    assert call["conversation_id"] == "conv_dog"
    assert call["caller"] == "+12025550144"


def test_next_and_previous_stay_within_the_filter(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?outcome=failure")
    page.locator(".call").first.wait_for()
    shown = [link.get_attribute("href") for link in page.locator(".call .what a").all()]
    page.locator(".call .what a").nth(1).click()
    page.locator(".player").wait_for()
    page.get_by_role("button", name="Older call").click()
    page.wait_for_url(f"**/{shown[2]}")
    page.locator(".player").wait_for()
    page.keyboard.press("p")
    page.wait_for_url(f"**/{shown[1]}")
    page.locator(".player").wait_for()
    page.keyboard.press("p")
    page.wait_for_url(f"**/{shown[0]}")
    page.locator(".player").wait_for()
    expect(page.get_by_role("button", name="Newer call")).to_be_disabled()
    expect(page.get_by_role("button", name="Older call")).to_be_enabled()
    page.keyboard.press("p")

    expect(page.get_by_text("No newer call in this list")).to_be_visible()


def test_next_works_in_a_shared_link_too(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/calls/conv_dog?audio=archived")
    page.get_by_role("button", name="Older call").click()
    archived = [call["conversation_id"] for call in stand_in.calls if call["audio"] == "archived"]
    page.wait_for_url(f"**/#/calls/{archived[archived.index('conv_dog') + 1]}?audio=archived")


def test_the_first_view_needs_four_requests_and_at_most_120_kb(page: Page, stand_in: StandIn) -> None:
    sizes: dict[str, int] = {}

    def weigh(request: Request) -> None:
        sizes[urlsplit(request.url).path] = sum(request.sizes()[part] for part in PARTS)

    page.on("requestfinished", weigh)
    page.goto(stand_in.url, wait_until="networkidle")
    expect(page.locator(".call")).to_have_count(50)

    assert sorted(sizes) == ["/", "/api/calls", "/app.js", "/vendor/preact-htm.js"]
    assert sum(sizes.values()) <= 120_000


PARTS = ("responseBodySize", "responseHeadersSize")
