"""Headless Chromium, and the stand-in that serves the page to it."""

import os
from collections.abc import Iterator
from shutil import which

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.web.stand_in import StandIn, standing_in

CHROMIUM = which("chromium")
expect.set_options(timeout=15_000)  # a busy machine takes its time
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; without one the tests are skipped, but fail where CI is set, so that none is left out unnoticed."""
    if not CHROMIUM:
        reason = "No chromium: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with standing_in() as server:
        yield server


@pytest.fixture
def stand_in(server: StandIn) -> StandIn:
    server.forget()
    return server


@pytest.fixture
def profile(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-GB", timezone_id="Europe/Paris", accept_downloads=True
    )
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def said() -> list[str]:
    """What the browser complained about: errors, violations of the policy, failed requests."""
    return []


@pytest.fixture
def page(profile: BrowserContext, stand_in: StandIn, said: list[str]) -> Iterator[Page]:
    """A tab. The test fails if the console got a word that it did not take out of `said`."""
    opened = profile.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    yield opened
    assert said == []
