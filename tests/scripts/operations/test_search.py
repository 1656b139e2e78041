"""`ops search`: what it asks the stack's API, and what an operator sees."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.raw_host import RawHost
from tests.scripts.operations.conftest import deploy_outputs

HIT = {
    "conversation_id": "conv_1", "caller": "+12025550123", "agent_id": "agent_1", "title": "The blender",
    "started_at": "2026-11-22T10:00:00Z", "index": 1, "at_secs": 75, "role": "user", "reason": None,
    "message": "Where is\x1b[31m my refund for the blender?",
}  # fmt: skip
COLD = HIT | {"conversation_id": "conv_2", "message": None, "role": None, "at_secs": None, "reason": "In cold storage."}


def page(hits: list[Any], following: str | None = None, begin: str = "2026-11-01") -> bytes:
    searched = {"from": f"{begin}T00:00:00Z", "to": "2026-11-25T12:00:00Z", "bytes": 400_000}
    return json.dumps({"hits": hits, "next": following, "searched": searched}).encode()


@pytest.fixture
def api(stack) -> Iterator[RawHost]:
    """The API of a stack in which a refund was spoken of in two calls."""
    with RawHost(lambda _: page([HIT, COLD])) as host:
        deploy_outputs(stack.outputs | {"ApiUrl": host.url})
        yield host


def asked(api: RawHost) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(each).query) for each in api.requests]


def test_what_was_said_is_shown_with_who_said_it_when_and_what_was_searched(api, run_ops):
    code, out, _ = run_ops("search", "refund blender")

    assert code == 0
    for told in ("2 turns", "2026-11-22T10:00:00Z", "+12025550123", "user", "1:15", "my refund for the blender?",
                 "conv_1", "In cold storage.", "Searched: 2026-11-01T00:00:00Z to 2026-11-25T12:00:00Z, 0.4 MB read",
                 "ops show ID"):  # fmt: skip
        assert told in out
    assert "\x1b[31m" not in out


def test_every_filter_is_asked_of_the_api(api, run_ops_json):
    words = ("refund & blender", "--role", "user", "--agent", "agent_1", "--agent", "agent_2", "--since", "2026-11-01",
             "--until", "2026-12-01T10:00", "--limit", "7")  # fmt: skip

    code, found = run_ops_json("search", *words)

    assert (code, found["rows"], found["searched"]["bytes"]) == (0, [HIT, COLD], 400_000)
    assert asked(api) == [{
        "q": ["refund & blender"], "role": ["user"], "agent": ["agent_1", "agent_2"], "limit": ["7"],
        "from": ["2026-11-01T00:00:00Z"], "to": ["2026-12-01T10:00:00Z"],
    }]  # fmt: skip


def test_a_long_search_goes_on_and_adds_up_what_was_read(api, run_ops_json):
    pages = iter([page([], "a"), page([HIT], "b", "2026-10-01"), page([COLD], None, "2025-01-01")])
    api.body = lambda _: next(pages)

    _, found = run_ops_json("search", "refund")

    assert found["rows"] == [HIT, COLD]
    assert [each.get("cursor") for each in asked(api)] == [None, ["a"], ["b"]]
    assert found["searched"] == {"from": "2025-01-01T00:00:00Z", "to": "2026-11-25T12:00:00Z", "bytes": 1_200_000}


def test_older_turns_are_mentioned_when_the_limit_is_reached(api, run_ops):
    api.body = page([HIT], "more")

    _, out, _ = run_ops("search", "refund", "--limit", "1")

    assert "There may be older turns. Raise --limit" in out


def test_nothing_found_is_said_with_what_was_searched(api, run_ops):
    api.body = page([])

    code, out, _ = run_ops("search", "zebra")

    assert code == 0
    assert "Nothing like this was said." in out
    assert "Searched: 2026-11-01T00:00:00Z" in out
