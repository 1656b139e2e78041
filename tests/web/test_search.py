"""What was said is found on the page, and a click leads to its place in the call."""

import re

from playwright.sync_api import Page, expect

from tests.web.stand_in import Fault, StandIn


def opened(page: Page, stand_in: StandIn, query: str) -> None:
    page.goto(f"{stand_in.url}/#/search?{query}")
    page.locator(".hit").first.wait_for()


def test_words_are_searched_from_the_list_and_found_in_what_was_said(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.get_by_label("Search calls").fill("quiet one")
    page.get_by_role("link", name="What was said").click()

    expect(page.locator(".hit")).to_have_count(1)
    hit = page.locator(".hit")
    expect(hit).to_contain_text("May my dog come along? He is a quiet one.")
    for told in ("Caller", "+12025550144", "May the dog come along?"):
        expect(hit.locator(".about")).to_contain_text(told)
    assert hit.locator("mark").all_inner_texts() == ["quiet", "one"]
    expect(page.get_by_role("status").first).to_contain_text("1 turn, searched back to 1 Jan 2020")
    expect(page.get_by_role("status").first).to_contain_text("1.2 MB read")


def test_a_click_opens_the_call_at_the_turn_and_its_second_and_back_leads_to_the_search(
    page: Page, stand_in: StandIn
) -> None:
    opened(page, stand_in, "q=QUIÉT&role=user")
    assert page.locator(".hit mark").all_inner_texts() == ["quiet"]
    page.locator(".hit a").press("Enter")

    turn = page.locator(".turn[aria-current]")
    expect(turn).to_contain_text("He is a quiet one.")
    assert turn.locator("mark").all_inner_texts() == ["quiet"]
    expect(page.locator(".clock")).to_contain_text(turn.locator("time").inner_text())
    page.keyboard.press("Escape")
    expect(page.locator(".hit a")).to_be_focused()
    assert page.url.endswith("#/search?q=QUI%C3%89T&role=user")


def test_of_two_turns_in_the_same_second_the_one_that_was_found_is_shown(page: Page, stand_in: StandIn) -> None:
    stand_in.hidden = {"conv_hour"}
    opened(page, stand_in, "q=kittiwake%20lies")
    page.get_by_role("button", name="Search older").click()
    page.locator('.hit a[href*="conv_hasty"]').click()

    expect(page.locator(".turn[aria-current]")).to_contain_text("The Kittiwake, she lies at B14.")


def test_older_turns_are_searched_when_asked_for(page: Page, stand_in: StandIn) -> None:
    opened(page, stand_in, "q=dredging")
    expect(page.locator(".hit")).to_have_count(10)
    page.get_by_role("button", name="Search older").click()

    expect(page.locator(".hit")).to_have_count(20)
    expect(page.get_by_role("status").first).to_contain_text("20 turns")
    expect(page.get_by_role("status").first).to_contain_text("2.5 MB read")


def test_a_late_answer_is_asked_for_again_and_its_progress_shown(page: Page, stand_in: StandIn) -> None:
    stand_in.late = True
    opened(page, stand_in, "q=quiet")

    expect(page.locator(".hit")).to_have_count(1)
    asked = [path for path in stand_in.requests if path.startswith("/api/search")]
    assert [re.findall(r"cursor=(\w+)", path) for path in asked] == [[], ["0"]]


def test_who_said_it_and_when_narrow_the_search(page: Page, stand_in: StandIn) -> None:
    opened(page, stand_in, "q=dredging")
    page.get_by_role("group", name="Who said it").get_by_role("link", name="Caller").click()
    expect(page.locator(".hit.agent")).to_have_count(0)
    page.get_by_role("link", name="30 days").click()

    page.locator(".hit").first.wait_for()
    assert "role=user" in page.url
    assert "from=" in page.url
    page.go_back()
    assert "from=" not in page.url


def test_words_in_cold_storage_say_so(page: Page, stand_in: StandIn) -> None:
    opened(page, stand_in, "q=dredging")

    expect(page.locator(".hit", has_text="Rope to Norway").first).to_contain_text("The transcript is in cold storage.")


def test_what_was_said_stays_text(page: Page, stand_in: StandIn) -> None:
    opened(page, stand_in, "q=alert")

    expect(page.locator(".hit").first).to_contain_text("<script>alert('x')</script>")
    assert set(page.locator(".hit mark").all_inner_texts()) == {"alert"}
    assert page.locator(".hit img, .hit script").count() == 0


def test_nothing_found_says_what_to_do(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/search?q=zebra&role=user")

    expect(page.get_by_role("heading", name="Nobody said this")).to_be_visible()
    page.get_by_role("link", name="Search all calls").click()
    expect(page).to_have_url(re.compile(r"#/search\?q=zebra$"))


def test_without_words_the_search_explains_itself_and_waits_for_them(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/search")

    expect(page.get_by_role("heading", name="Find what was said")).to_be_visible()
    expect(page.get_by_label("Search what was said")).to_be_focused()
    assert not [path for path in stand_in.requests if path.startswith("/api/")]
    page.keyboard.type("quiet")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(1)


def test_a_search_that_reads_too_much_is_told_in_the_words_of_the_api(
    page: Page, stand_in: StandIn, said: list[str]
) -> None:
    stand_in.faults["/api/search"] = Fault(400, "Bad Request", "This would read more than the stack allows at once.")
    page.goto(f"{stand_in.url}/#/search?q=the")

    expect(page.get_by_role("alert")).to_contain_text("more than the stack allows")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    said.clear()


def test_the_words_go_with_the_reader_between_the_two_searches(page: Page, stand_in: StandIn) -> None:
    opened(page, stand_in, "q=quiet")
    page.get_by_role("link", name="Numbers and summaries").click()

    expect(page.get_by_label("Search calls")).to_have_value("quiet")
    assert page.url.endswith("#/?text=quiet")
