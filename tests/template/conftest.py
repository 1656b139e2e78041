"""The embedded AWS that the template's tests deploy to, and the functions at work."""

from collections.abc import Iterator

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.template.world import world as world  # a fixture


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as started:
        yield started
