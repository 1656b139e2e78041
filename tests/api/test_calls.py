"""Lists of calls: what they have, their order, their filters, their pages."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import api.handler
from api.access import Reader
from api.calls import Calls
from api.parameters import CallsQuery
from tests.api.conftest import Get, call, ids, pages, save, stage, table

AGENTS = ("agent_1", "agent_2", "agent_3")


def test_a_call_is_listed_with_what_its_record_says(aws, archive, get: Get) -> None:
    said = {"transcript_summary": "She asked about the dog.", "call_summary_title": "The dog"}
    archive(stage(aws, call(analysis=said | {"call_successful": "success"})))

    (row,) = get("/calls")["calls"]

    assert row | {"archived_at": ""} == {
        "conversation_id": "conv_1", "agent_id": "agent_1", "caller": "+12025550123",
        "started_at": "2026-03-03T15:00:00Z", "duration_secs": 60, "status": None, "outcome": "success",
        "title": "The dog", "summary": "She asked about the dog.", "audio": "pending", "cost": 100, "archived_at": "",
    }  # fmt: skip


def test_the_newest_call_comes_first(aws, archive, get: Get) -> None:
    archive(*(stage(aws, call(f"conv_{day}", 1772550000 + 86400 * day)) for day in (1, 3, 2)))

    assert ids(get("/calls")) == ["conv_3", "conv_2", "conv_1"]


def test_without_calls_the_list_is_empty_and_ends(get: Get) -> None:
    assert get("/calls") == {"calls": [], "next": None}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"agent": "agent_2"}, {"b"}),
        ([("agent", "agent_2"), ("agent", "agent_1")], {"a", "b", "c"}),
        ([("agent", f"agent_{number}") for number in range(1, 9)], {"a", "b", "c"}),
        ({"agent": "agent_9"}, set()),
        ({"caller": "12025550123"}, {"a", "c"}),
        ({"caller": "+12025550199"}, {"b"}),
        ("caller=+1%20(202)%20555-0199", {"b"}),
        ({"caller": "12025550123", "agent": "agent_2"}, set()),
        ({"from": "2026-11-02"}, {"b", "c"}),
        ({"to": "2026-11-02"}, {"a", "b"}),
        ({"from": "2026-11-02T10:00:00Z", "to": "2026-11-02T10:00:00Z"}, {"b"}),
        ({"from": "2026-11-02T11:30:00+02:00", "to": "2026-11-02T12:30:00+02:00"}, {"b"}),
        ({"from": "2026-11-02T10:00:01Z", "to": "2026-11-02"}, set()),
        ({"min_seconds": "60"}, {"b", "c"}),
        ({"max_seconds": "60"}, {"a", "b"}),
        ({"min_seconds": "60", "max_seconds": "60"}, {"b"}),
        ({"outcome": "failure"}, {"b"}),
        ({"audio": "none"}, {"a"}),
        ({"text": "DOG cafe"}, {"b"}),
        ({"text": "dogs"}, set()),
        ({"text": ""}, {"a", "b", "c"}),
    ],
)  # fmt: skip
def test_a_list_is_filtered(aws, get: Get, query: Any, found: set[str]) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z", duration_secs=59, call_successful="success", audio="none", summary="A dog.")
    save(
        aws, "b", "2026-11-02T10:00:00Z", "agent_2", "+12025550199", duration_secs=60, call_successful="failure",
        title="Dog", summary="In a Café.",
    )  # fmt: skip
    save(aws, "c", "2026-11-03T10:00:00Z", duration_secs=61)

    assert set(ids(get("/calls", query))) == found


def test_a_call_of_unknown_duration_is_not_found_by_its_duration(aws, get: Get) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z")

    assert ids(get("/calls", {"min_seconds": "0"})) == ids(get("/calls", {"max_seconds": "999"})) == []


def test_a_call_is_found_by_each_of_its_numbers_and_once_by_each(aws, get: Get) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z")
    api.handler.aws().records.add_staged("a", "staging/y", "2026-11-01T10:00:00Z", ["12025550123", "12025550177"])

    assert ids(get("/calls", {"caller": "12025550177"})) == ["a"]
    assert ids(get("/calls", {"caller": "12025550123"})) == ["a"]


def test_a_call_that_got_another_number_is_listed_once(aws, get: Get) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z", number="+12025550177")
    api.handler.aws().records.add_staged("a", "staging/y", "2026-11-01T10:00:00Z", ["12025550123"])
    save(aws, "a", "2026-11-01T10:00:00Z", number="+12025550123")

    assert ids(get("/calls", {"caller": "12025550123"})) == ["a"]


def test_a_call_of_which_only_other_events_came_is_not_listed(aws, get: Get) -> None:
    api.handler.aws().records.add_staged("a", "staging/y", "2026-11-01T10:00:00Z", ["12025550123"])

    assert get("/calls", {"caller": "12025550123"}) == {"calls": [], "next": None}


@pytest.fixture
def many(aws: Any) -> list[tuple[str, str, str]]:
    """60 calls of two days, with many in the same second: time, id and agent, newest first."""
    choose = random.Random(7)
    seconds = [f"2026-{day}T10:00:0{second}Z" for day in ("10-31", "11-01") for second in range(2)]
    found = [(choose.choice(seconds), f"conv_{number}", choose.choice(AGENTS)) for number in range(60)]
    for started, conversation_id, agent_id in found:
        save(aws, conversation_id, started, agent_id)
    table(aws).meta.client.meta.events.register("after-call.dynamodb.Query", mix_seconds)
    return sorted(found, reverse=True)


def mix_seconds(parsed: dict[str, Any], **_: Any) -> None:
    """Items with the same key are in no order in an index of DynamoDB; moto sorts them."""
    random.shuffle(parsed["Items"])
    if parsed["Items"] and "listed_at" in parsed["Items"][0]:
        parsed["Items"].sort(key=lambda item: item["listed_at"]["S"], reverse=True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(4, 50),
    most=st.integers(4, 50),
    agents=st.sets(st.sampled_from(AGENTS)),
    caller=st.booleans(),
    since=st.sampled_from(["", "2026-10-31T10:00:01Z", "2026-11-01"]),
    until=st.sampled_from(["", "2026-11-01T10:00:00Z", "2026-11-01"]),
)
def test_pages_have_each_call_once_and_in_order(many, limit, most, agents, caller, since, until) -> None:
    given_ = {"from": since, "to": until, "caller": "12025550123" if caller else ""}
    query = {name: value for name, value in given_.items() if value} | {"agent": list(agents), "limit": str(limit)}
    calls = Calls(api.handler.aws().table, api.handler.aws().records, Reader("ana"), most)

    rows, cursor = [], None
    for _ in range(400):
        page = calls.page(CallsQuery.model_validate(query | {"cursor": cursor}))
        assert len(page["calls"]) <= min(limit, most)
        rows, cursor = rows + ids(page), page["next"]
        if cursor is None:
            break

    assert rows == [
        conversation_id
        for started, conversation_id, agent_id in many
        if (not agents or agent_id in agents)
        and started >= (since or "0")
        and started <= (f"{until}T23:59:59Z" if len(until) == 10 else until or "9")
    ]


def test_the_last_page_says_that_it_is_the_last(aws, get: Get) -> None:
    for number in range(4):
        save(aws, f"conv_{number}", f"2026-11-0{number + 1}T10:00:00Z")

    assert [ids(page) for page in pages(get, limit=2)] == [["conv_3", "conv_2"], ["conv_1", "conv_0"]]


def test_a_call_that_is_archived_or_erased_between_two_pages_does_not_move_the_next_one(aws, get: Get) -> None:
    for number in range(4):
        save(aws, f"conv_{number}", f"2026-11-0{number + 1}T10:00:00Z")
    first = get("/calls", {"limit": 2})

    save(aws, "conv_new", "2026-11-09T10:00:00Z")
    records = api.handler.aws().records
    records.write_tombstone(records.erase("conv_2", "2026-11-10T00:00:00Z"))

    assert ids(get("/calls", {"limit": 2, "cursor": first["next"]})) == ["conv_1", "conv_0"]


def test_a_search_that_finds_little_examines_a_bounded_number_of_calls(aws, context) -> None:
    for number in range(60):
        save(aws, f"conv_{number}", f"2026-11-01T10:00:{number:02}Z")
    examined: list[int] = []
    meta = api.handler.aws().table.meta.client.meta
    meta.events.register("after-call.dynamodb.Query", lambda parsed, **_: examined.append(len(parsed["Items"])))
    calls = Calls(table(aws), api.handler.aws().records, Reader("ana"), most=10)

    page = calls.page(CallsQuery.model_validate({"text": "nothing has this"}))

    assert page["calls"] == []
    assert page["next"] is not None
    assert sum(examined) <= 8 * 10 + 1  # a page of each bucket, and the list of days


def test_a_list_over_many_days_asks_a_bounded_number_of_partitions(aws) -> None:
    for day in range(1, 61):
        save(aws, f"conv_{day:02}", f"2026-{9 + day // 31:02}-{day % 31 or 1:02}T10:00:00Z")
    asked: list[str] = []
    meta = api.handler.aws().table.meta.client.meta
    meta.events.register("before-call.dynamodb.Query", lambda **_: asked.append("query"))

    page = Calls(table(aws), api.handler.aws().records, Reader("ana")).page(CallsQuery(limit=200))

    assert page["next"] is not None
    assert len(asked) <= 401
