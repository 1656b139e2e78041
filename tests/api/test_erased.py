"""An erased call or caller is in no answer from the moment of its tombstone."""

from typing import Any

import pytest

import api.handler
from tests.api.conftest import Get, audio, call, index, stage
from tests.athena_stand_in import Athena

PATHS = ["/calls/conv_1", "/calls/conv_1/transcript", "/calls/conv_1/audio", "/calls/conv_1/json"]


@pytest.fixture
def archived(aws: Any, archive: Any, athena: Athena, get: Get) -> None:
    """A call that every answer has."""
    archive(stage(aws, call(transcript=[{"role": "user", "message": "Hello."}])), stage(aws, audio()))
    assert all("detail" not in get(path) for path in PATHS)
    index(aws, athena, "conv_1")
    assert len(get("/calls")["calls"]) == len(get("/callers/12025550123")["calls"]) == 1
    assert len(get("/search", "q=hello")["hits"]) == 1


def mark() -> None:
    api.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")


def finish() -> None:
    records = api.handler.aws().records
    records.write_tombstone(records.erase("conv_1", "2026-11-22T10:00:00Z"))


@pytest.mark.parametrize("erase", [mark, finish])
def test_an_erased_call_is_in_no_answer(archived, get: Get, erase: Any) -> None:
    erase()

    assert {get(path)["status"] for path in PATHS} == {404}
    for path, query in (("/calls", ""), ("/calls", "caller=12025550123"), ("/calls", "agent=agent_1")):
        assert get(path, query) == {"calls": [], "next": None}
    assert get("/callers/12025550123")["calls"] == []
    assert get("/search", "q=hello")["hits"] == []


@pytest.mark.parametrize("path", PATHS)
def test_an_erased_call_is_like_one_that_never_was(archived, get: Get, path: str) -> None:
    finish()

    assert get(path) == get(path.replace("conv_1", "conv_never"))


def test_an_index_that_lags_shows_no_erased_call(archived, aws, get: Get) -> None:
    """The index still has an entry of what the table no longer has."""
    entry = aws.call("conv_1")
    finish()
    api.handler.aws().table.put_item(Item=entry | {"item": "entry of before"})

    assert get("/calls") == get("/calls", "agent=agent_1") == {"calls": [], "next": None}
    assert get("/callers/12025550123")["calls"] == []
