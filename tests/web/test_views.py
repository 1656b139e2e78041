"""A caller, the statistics, and what holds for every view."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.stand_in import Fault, StandIn

VIEWS = {
    "calls": "", "empty": "#/?text=zebra", "call": "#/calls/conv_dog", "hostile": "#/calls/conv_hostile",
    "missing": "#/calls/conv_missing", "caller": "#/callers/%2B12025550144", "statistics": "#/statistics",
    "search": "#/search?q=dredging", "nobody": "#/search?q=zebra",
}  # fmt: skip


READY = {
    "calls": ".call", "empty": ".empty", "call": ".player", "hostile": ".player", "missing": ".player",
    "caller": ".call", "statistics": "canvas", "search": ".hit", "nobody": ".empty",
}  # fmt: skip
SHADES = """Array.from(document.querySelectorAll('canvas'), canvas =>
  new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size)"""


def test_a_caller_has_memories_and_all_calls(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/calls/conv_dog")
    page.get_by_role("link", name="+12025550144").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("+12025550144")
    expect(page.get_by_role("region", name="What Mem0 remembers")).to_contain_text("Has a dog named Biscuit.")
    expect(page.locator(".calls")).to_contain_text("May the dog come along?")


def test_memories_that_cannot_be_read_say_why(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/callers/%2B12025550199")

    expect(page.get_by_role("region", name="What Mem0 remembers")).to_contain_text("Mem0 did not answer.")


def test_a_caller_of_whom_nothing_is_kept_says_so(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/callers/%2B12025559999")

    expect(page.get_by_role("heading", name="No calls")).to_be_visible()


def test_statistics_that_take_longer_are_asked_for_again_and_drawn(page: Page, stand_in: StandIn) -> None:
    stand_in.late = True
    page.goto(f"{stand_in.url}/#/statistics?from=2020-01-01&to=2100-01-01")
    page.goto(f"{stand_in.url}/#/statistics")
    page.get_by_role("link", name="90 days").click()
    page.locator(".busy").wait_for(state="detached")

    period = page.locator(".period .tile")
    expect(period.filter(has_text="Calls").locator("strong")).to_have_text(str(len(stand_in.calls)))
    expect(period.filter(has_text="credits").locator("strong")).to_have_text(
        f"{sum(call['cost'] or 0 for call in stand_in.calls):,}"
    )
    expect(period.filter(has_text="AWS, estimate").locator("strong")).to_have_text("US$0.032")
    assert page.locator(".chart canvas").count() == 6
    assert "from=" in page.url
    assert min(page.evaluate(SHADES)) > 20


def test_the_values_under_the_pointer_are_shown(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/statistics")
    page.locator(".chart canvas").first.wait_for()
    page.locator(".busy").wait_for(state="detached")
    over = page.locator(".chart .u-over").first
    over.hover(position={"x": 300, "y": 60})

    expect(page.locator(".tip")).to_contain_text("agent_harbour_office")
    page.mouse.move(5, 5)
    expect(page.locator(".tip")).to_have_count(0)


def test_today_stands_beside_the_same_weekday_before(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/statistics")
    today = stand_in.calls[0]["started_at"][:10]
    expected = sum(call["started_at"].startswith(today) for call in stand_in.calls)

    tile = page.get_by_role("region", name="Today so far").locator(".tile", has_text="Calls")
    expect(tile.locator("strong")).to_have_text(str(expected))
    expect(tile).to_contain_text("last ")


def test_the_figures_are_a_table_too_and_agents_can_be_chosen(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/statistics")
    page.get_by_label("Agent", exact=True).select_option("agent_night_line")
    page.get_by_text("All figures as a table").click()

    expect(page.locator(".figures tbody tr").first).to_contain_text("agent_night_line")
    expect(page.locator(".figures tbody")).not_to_contain_text("agent_boat_hire")
    assert "agent=agent_night_line" in page.url


def test_dates_that_cross_are_told_and_the_agents_stay(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/statistics")
    page.locator(".busy").wait_for(state="detached")
    page.get_by_label("From").fill("2099-01-01")
    page.get_by_label("From").press("Tab")

    expect(page.get_by_role("alert")).to_have_text("The start date is after the end date.")
    expect(page.get_by_label("Agent", exact=True)).to_contain_text("agent_night_line")
    assert not [path for path in stand_in.requests if "from=2099" in path]


def test_statistics_that_cannot_be_had_say_why(page: Page, stand_in: StandIn, said: list[str]) -> None:
    stand_in.faults["/api/stats"] = Fault(429, "Too many requests", "Slow down.")
    page.goto(f"{stand_in.url}/#/statistics")

    expect(page.get_by_role("alert").first).to_contain_text("Slow down.")
    said.clear()


def test_a_range_without_calls_says_so(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/statistics?from=2020-01-01&to=2020-01-07")

    expect(page.get_by_role("heading", name="No calls in this range")).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_names_its_controls_has_landmarks_and_fits_a_small_screen(
    page: Page, stand_in: StandIn, view: str
) -> None:
    page.goto(f"{stand_in.url}/{VIEWS[view]}")
    page.locator(READY[view]).first.wait_for()
    tree = page.locator("body").aria_snapshot()
    page.set_viewport_size({"width": 360, "height": 640})

    unnamed = [line for line in tree.splitlines() if line.strip(" -:") in {"button", "link", "textbox", "combobox"}]
    assert unnamed == []
    assert page.locator("h1").count() == 1
    for landmark in ("banner", "main", "navigation"):
        assert page.get_by_role(landmark).count() == 1  # type: ignore[arg-type]
    page.wait_for_timeout(100)  # charts are drawn again for the new width
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_reaches_search_content_and_calls(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.locator(".call").first.wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search calls")).to_be_focused()


def test_on_a_small_screen_filters_are_behind_a_button_that_counts_them(page: Page, stand_in: StandIn) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    page.goto(f"{stand_in.url}/#/?outcome=failure&text=the")
    expect(page.get_by_label("Any outcome")).to_be_hidden()
    page.get_by_role("button", name="Filters (1)").click()
    page.get_by_label("Any outcome").select_option("Success")

    page.wait_for_url("**outcome=success")
    expect(page.get_by_label("Longest")).to_be_in_viewport()


def test_on_a_small_screen_the_summary_is_above_the_transcript(page: Page, stand_in: StandIn) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    page.goto(f"{stand_in.url}/#/calls/conv_dog")
    page.locator("summary", has_text="Summary").click()

    expect(page.get_by_text("It may, on a lead.").first).to_be_in_viewport()


def test_the_keys_are_told_in_the_list_too(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.locator(".call").first.wait_for()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("From a call back to the list")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_view_that_is_opened_gets_the_focus(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.locator(".call .what a").first.press("Enter")
    page.locator(".player").wait_for()

    expect(page.locator("main")).to_be_focused()


def test_without_the_server_the_page_says_what_to_do(page: Page, stand_in: StandIn, said: list[str]) -> None:
    page.route("**/api/**", lambda route: route.abort())
    page.goto(stand_in.url)

    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    said.clear()
