"""Over generated calls, every planted phrase is found in its turn, newest first, and each call is counted once."""

import os
from collections.abc import Iterator

import boto3
import pytest

from tests.conftest import forget
from tests.searching import run


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the clients, the session and the variables of other tests, and afterwards as before."""
    before = dict(os.environ)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials that it read first
    forget()
    yield
    os.environ.clear()
    os.environ |= before
    forget()


def test_in_200_calls_everything_planted_is_found_and_nothing_erased(own_environment) -> None:
    ((count, found, _, _),) = run([200], days=(0, 40, 380), times=0)

    assert (count, found) == (200, 4)  # of the five calls with a planted phrase, one is erased
