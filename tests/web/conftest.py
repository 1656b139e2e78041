"""Tabs of the browser, and the stand-in that serves the page to them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.web.stand_in import StandIn, standing_in

expect.set_options(timeout=15_000)  # a busy machine takes its time


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with standing_in() as server:
        yield server


@pytest.fixture
def stand_in(server: StandIn) -> StandIn:
    server.forget()
    return server


@pytest.fixture
def profile(browser: Browser, stand_in: StandIn) -> Iterator[BrowserContext]:
    made = browser.new_context(
        viewport={"width": 1280, "height": 800},
        locale="en-GB",
        timezone_id="Europe/Paris",
        accept_downloads=True,
        extra_http_headers={"X-Test": stand_in.test},
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
