"""A call: reading it, hearing it, and what is known of it."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.calls import HOSTILE, SAID
from tests.web.stand_in import Fault, StandIn


def open_call(page: Page, stand_in: StandIn, conversation_id: str, query: str = "") -> Locator:
    """The transcript's turns."""
    page.goto(f"{stand_in.url}/#/calls/{conversation_id}{query}")
    page.locator(".player").wait_for()
    return page.locator(".turn")


def position(page: Page) -> float:
    return float(page.evaluate("document.querySelector('audio').currentTime"))


def wait_for_audio(page: Page) -> None:
    until(page, "document.querySelector('audio').readyState > 0")


def until(page: Page, expression: str) -> None:
    """Wait until it is true. Playwright's own wait is code made of text, which the page's policy forbids."""
    for _ in range(160):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"Never true: {expression}")


def until_still(page: Page) -> None:
    """Wait for the end of a smooth scroll."""
    before = -1
    while before != (before := page.evaluate("scrollY")):
        page.wait_for_timeout(150)


def heard(page: Page) -> Locator:
    return page.locator(".turn[aria-current]")


def test_a_call_is_found_read_and_heard(page: Page, stand_in: StandIn) -> None:
    page.goto(stand_in.url)
    page.get_by_label("Search calls").fill("dog")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="May the dog come along?").click()
    page.get_by_text("May my dog come along? He is a quiet one.").click()

    until(page, "document.querySelector('audio').currentTime > 24.2")
    expect(heard(page)).to_contain_text("May my dog come along?")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_enter_on_the_time_of_a_turn_plays_from_there(page: Page, stand_in: StandIn) -> None:
    turns = open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    turns.nth(5).get_by_role("link").press("Enter")

    until(page, "document.querySelector('audio').currentTime > 24.1")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_click_on_a_turn_jumps_there_and_the_place_is_in_the_url(page: Page, stand_in: StandIn) -> None:
    turns = open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    turns.nth(7).click()

    expect(heard(page)).to_contain_text(SAID[7])
    assert 33 <= position(page) < 38
    assert page.url.endswith("#/calls/conv_dog?at=33")


def test_a_link_to_a_second_opens_there(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_hour", "?at=1800")
    wait_for_audio(page)

    expect(heard(page)).to_be_in_viewport()
    assert position(page) == 1800


def test_the_transcript_follows_the_recording_until_the_reader_scrolls_away(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_hour")
    wait_for_audio(page)
    page.get_by_label("Speed").select_option("3×")
    page.get_by_role("button", name="Play").click()
    page.evaluate("document.querySelector('audio').currentTime = 1799")
    expect(page.locator('[data-turn="401"]')).to_have_attribute("aria-current", "true")
    expect(heard(page)).to_be_in_viewport()
    until_still(page)

    page.mouse.move(400, 500)
    page.mouse.wheel(0, -4000)
    expect(heard(page)).not_to_be_in_viewport()
    page.evaluate("document.querySelector('audio').currentTime = 1900")
    expect(page.get_by_role("button", name="Follow the recording")).to_be_visible()
    expect(heard(page)).not_to_be_in_viewport()

    page.get_by_role("button", name="Follow the recording").click()
    expect(heard(page)).to_be_in_viewport()


def test_keys_play_and_move(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(heard(page)).to_contain_text(SAID[2])
    page.keyboard.press("k")
    expect(heard(page)).to_contain_text(SAID[1])
    page.keyboard.press("ArrowRight")
    assert position(page) == 9
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert position(page) == 0
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime > 0.1")
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('audio').paused")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next or previous turn")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_after_a_speed_is_chosen_keys_move_in_the_call(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    page.get_by_label("Speed").focus()
    page.get_by_label("Speed").select_option("2×")
    page.keyboard.press("j")

    expect(heard(page)).to_contain_text(SAID[0])


def test_escape_goes_back_to_the_row_of_the_call(page: Page, stand_in: StandIn) -> None:
    page.goto(f"{stand_in.url}/#/?outcome=failure")
    row = page.locator(".call .what a").nth(4)
    href = row.get_attribute("href")
    row.click()
    page.locator(".player").wait_for()
    page.keyboard.press("Escape")

    expect(page.locator(f'a[href="{href}"]')).to_be_focused()
    assert page.url.endswith("#/?outcome=failure")


def test_the_link_that_is_copied_has_the_moment_and_no_filter(page: Page, stand_in: StandIn) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_call(page, stand_in, "conv_dog", "?text=dog&at=33")
    wait_for_audio(page)
    page.get_by_role("button", name="Copy a link to this moment").click()

    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{stand_in.url}/#/calls/conv_dog?at=33"


def test_turns_of_the_same_second_are_walked_one_by_one(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_hasty")
    wait_for_audio(page)
    for said in SAID[:4]:
        page.keyboard.press("j")
        expect(heard(page)).to_contain_text(said)


def test_keys_do_not_play_while_something_is_typed(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    page.get_by_label("Speed").focus()
    page.keyboard.press("j")

    expect(heard(page)).to_have_count(0)


def test_a_click_on_the_strip_jumps_and_the_speed_is_kept(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_hour")
    wait_for_audio(page)
    page.get_by_label("Speed").select_option("2×")
    strip = page.get_by_role("slider")
    box = strip.bounding_box()
    assert box
    strip.click(position={"x": box["width"] / 2, "y": 10})

    assert abs(position(page) - 1800) < 5
    expect(strip).to_have_attribute("aria-valuetext", "30:00")
    assert page.evaluate("document.querySelector('audio').playbackRate") == 2


def test_an_hour_is_read_in_ranges_and_never_decoded_whole(page: Page, stand_in: StandIn) -> None:
    turns = open_call(page, stand_in, "conv_hour", "?at=3590")
    wait_for_audio(page)
    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('audio').currentTime > 3590.2")

    assert turns.count() == 800
    assert page.locator(".strip path").count() == 2
    assert page.evaluate("Math.round(document.querySelector('audio').duration)") == 3600


def test_a_url_that_expired_is_renewed_where_the_recording_was(page: Page, stand_in: StandIn, said: list[str]) -> None:
    stand_in.url_seconds = 19  # less than the page wants to have left
    turns = open_call(page, stand_in, "conv_dog")
    wait_for_audio(page)
    stand_in.url_seconds = 900
    turns.nth(5).click()
    until(page, "document.querySelector('audio').currentTime > 24.1")

    assert len([path for path in stand_in.requests if path == "/api/calls/conv_dog/audio"]) == 2
    said.clear()


def test_a_recording_that_fails_says_so_and_can_be_tried_again(page: Page, stand_in: StandIn, said: list[str]) -> None:
    stand_in.faults["/api/calls/conv_dog/audio"] = Fault(503, "Service unavailable", "S3 did not answer.")
    open_call(page, stand_in, "conv_dog")
    expect(page.get_by_role("alert")).to_contain_text("S3 did not answer.")
    stand_in.faults.clear()
    page.get_by_role("button", name="Try again").click()
    until(page, "document.querySelector('audio').currentTime > 0.1")

    expect(page.get_by_role("alert")).to_have_count(0)
    said.clear()


def test_a_hostile_transcript_is_text(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_hostile")
    page.get_by_text("Show the whole sentence").click()
    for tool in page.locator(".tool summary").all():
        tool.click()
    shown = page.locator("main").inner_text()

    assert "<script>alert('x')</script><img src=x onerror=alert(1)>" in shown
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert page.locator("main script, main img, a[href^='javascript']").count() == 0
    assert page.title().startswith("<script>")
    page.go_back()
    page.goto(f"{stand_in.url}/#/?caller=12025550166")
    expect(page.locator(".call", has_text="<script>").first).to_contain_text(HOSTILE[:40])


def test_the_words_that_were_searched_are_marked_and_shown(page: Page, stand_in: StandIn) -> None:
    page.set_viewport_size({"width": 1280, "height": 360})
    open_call(page, stand_in, "conv_hour", "?text=DREDGING+job+(")

    marks = page.locator("main mark")
    expect(page.locator("h1 mark")).to_have_text(["job", "job"])
    expect(page.locator("aside .summary mark")).to_have_text("dredging")
    expect(page.locator(".turn mark").first).to_be_in_viewport()
    assert {word.lower() for word in marks.all_inner_texts()} == {"dredging", "job"}


def test_tools_are_folded_into_their_turn(page: Page, stand_in: StandIn) -> None:
    turns = open_call(page, stand_in, "conv_dog")
    assert turns.count() == 10  # the turn that holds only a result is not one of its own
    expect(turns.nth(4).get_by_text('"berth": "C3"')).to_be_hidden()
    turns.nth(4).get_by_text("find_berth").click()
    turns.nth(8).get_by_text("send_message").click()

    expect(turns.nth(4)).to_contain_text('"boat": "Kittiwake"')
    expect(turns.nth(4)).to_contain_text('"berth": "C3"')
    expect(turns.nth(4)).to_contain_text("0.42 s")
    expect(turns.nth(8)).to_contain_text("failed")
    expect(turns.nth(8)).to_contain_text("timeout")
    expect(turns.nth(8)).to_contain_text("The gateway did not answer")


def test_numbers_are_shown_as_they_were_sent(page: Page, stand_in: StandIn) -> None:
    turn = open_call(page, stand_in, "conv_dog").nth(6)
    turn.get_by_text("find_bill").click()

    expect(turn).to_contain_text('{"bill": 12345678901234567890}')
    expect(turn.get_by_text("2.50", exact=True)).to_be_visible()


def test_an_interrupted_turn_shows_what_was_heard_and_the_whole(page: Page, stand_in: StandIn) -> None:
    turn = open_call(page, stand_in, "conv_dog").nth(4)
    expect(turn.get_by_text("Thank you. I see her", exact=True)).to_be_visible()
    turn.get_by_text("Show the whole sentence").click()

    expect(turn.get_by_text(SAID[4])).to_be_visible()


def test_what_is_known_of_the_call_stands_beside_it(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_dog")
    about = page.get_by_role("complementary")

    expect(about).to_contain_text("The mooring was moved as asked.")
    expect(about).to_contain_text("caller_name Robin")
    expect(about).to_contain_text("Facts Remembered")
    expect(about).to_contain_text("Conversation Sent, not confirmed yet")
    expect(about).to_contain_text("288 credits")
    about.get_by_text("Receipt").click()
    expect(about).to_contain_text("6f1c2f0e-21d8-4a57-9f5e")


@pytest.mark.parametrize(
    ("conversation_id", "told", "player"),
    [
        ("conv_dog", "Yes", "/ 0:48"),
        ("conv_pending", "It is fetched from ElevenLabs every hour for a day.", "has not arrived yet"),
        ("conv_missing", "deleted at ElevenLabs", "could not be fetched"),
        ("conv_silent", "Yes", "not recorded"),
    ],
)
def test_whether_all_of_it_is_here_is_told(
    page: Page, stand_in: StandIn, conversation_id: str, told: str, player: str
) -> None:
    open_call(page, stand_in, conversation_id)

    expect(page.locator("section", has_text="Is all of it here?").last).to_contain_text(told)
    expect(page.get_by_role("region", name="Recording")).to_contain_text(player)


def test_turns_can_be_walked_without_a_recording(page: Page, stand_in: StandIn) -> None:
    open_call(page, stand_in, "conv_silent").nth(3).click()
    page.keyboard.press("j")

    expect(heard(page)).to_contain_text("Thank you. I see her")


def test_who_may_not_hear_gets_no_player(page: Page, stand_in: StandIn) -> None:
    stand_in.may = {"hear": False, "numbers": False}
    open_call(page, stand_in, "conv_masked")

    expect(page.get_by_text("You may not hear recordings.")).to_be_visible()
    expect(page.get_by_role("button", name="Call as JSON")).to_have_count(0)
    assert not [path for path in stand_in.requests if path.endswith("/audio")]


def test_both_files_can_be_downloaded(page: Page, stand_in: StandIn, tmp_path: Path) -> None:
    open_call(page, stand_in, "conv_dog")
    with page.expect_download() as download:
        page.get_by_role("button", name="Call as JSON").click()
    download.value.save_as(tmp_path / "call.json")
    with page.expect_download() as recording:
        page.get_by_role("button", name="Recording, MP3").click()
    recording.value.save_as(tmp_path / "call.mp3")

    assert json.loads((tmp_path / "call.json").read_text())["conversation_id"] == "conv_dog"
    assert (tmp_path / "call.mp3").stat().st_size > 700_000
    assert "?download=1" in next(path for path in stand_in.requests if "/json" in path)
    assert page.url.endswith("#/calls/conv_dog")


def test_an_unknown_call_says_what_may_be_the_reason(page: Page, stand_in: StandIn, said: list[str]) -> None:
    page.goto(f"{stand_in.url}/#/calls/conv_nope")

    expect(page.get_by_role("alert")).to_contain_text("There is no call of this id.")
    expect(page.get_by_role("alert")).to_contain_text("erased")
    expect(page.get_by_role("link", name="Calls").first).to_be_visible()
    expect(page.get_by_role("button", name="Older call")).to_be_disabled()
    expect(page.get_by_role("button", name="Newer call")).to_be_disabled()
    said.clear()


def test_the_words_of_a_recording_say_who_wrote_them_down(page: Page, stand_in: StandIn) -> None:
    said = [("speaker_0", "Hello."), ("speaker_1", "My refund?"), ("speaker_0", "Soon.")]
    turns = [
        {"index": place, "role": role, "message": message, "at_secs": place}
        for place, (role, message) in enumerate(said)
    ]
    page.route("**/transcript", lambda route: route.fulfill(json={"source": "transcribe", "turns": turns}))

    open_call(page, stand_in, "conv_dog")

    expect(page.get_by_text("Transcribed by Amazon Transcribe")).to_be_visible()
    expect(page.locator(".turn .role")).to_have_text(["Speaker 1", "Speaker 2", "Speaker 1"])
    expect(page.locator(".turn.user")).to_have_count(1)
