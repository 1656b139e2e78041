"""A caller's calls, and what Mem0 remembers of them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import api.handler
import api.remembered
from tests.api.conftest import Get, ids, save, token
from tests.conftest import client, close_clients, forget
from tests.mem0_stand_in import HostedMem0
from tests.raw_host import DEEP, RawHost

ALL = ("calls:read", "recordings:read", "numbers:read")


@pytest.fixture
def mem0(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedMem0]:
    """Hosted Mem0 with the key that the stack has."""
    secret = client("secretsmanager").create_secret(Name="mem0", SecretString="m0-test")["ARN"]
    with HostedMem0(key="m0-test") as stand_in:
        for name, value in {
            "MEMORY_BACKEND": "platform", "MEM0_HOST": stand_in.url, "MEMORY_SECRET_ARN": secret,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        forget()
        yield stand_in
        close_clients()
    forget()


def remember(
    mem0: HostedMem0,
    text: str,
    conversation_id: str | None = "conv_1",
    user: str = "+12025550123",
    at: str = "2026-11-01T10:00:00Z",
) -> None:
    metadata = {"type": "factual", "timestamp": at, "agent_id": "agent_1"}
    metadata |= {"conversation_id": conversation_id} if conversation_id else {}
    message = {"role": "assistant", "content": text}
    body = {"messages": [message], "user_id": user, "metadata": metadata, "infer": False}
    headers = {"Authorization": "Token m0-test"}
    httpx.post(f"{mem0.url}/v3/memories/add/", json=body, headers=headers).raise_for_status()


def test_a_caller_has_calls_and_memories_newest_first(aws, mem0, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    save(aws, "conv_2", "2026-11-02T10:00:00Z")
    remember(mem0, "She has a dog.")
    remember(mem0, "The dog is ill.", "conv_2", at="2026-11-02T10:00:00Z")

    answer = get("/callers/12025550123")

    assert (answer["caller"], ids(answer), answer["memories_note"]) == ("12025550123", ["conv_2", "conv_1"], "")
    assert answer["memories"] == [
        {"text": "The dog is ill.", "type": "factual", "at": "2026-11-02T10:00:00Z", "conversation_id": "conv_2"},
        {"text": "She has a dog.", "type": "factual", "at": "2026-11-01T10:00:00Z", "conversation_id": "conv_1"},
    ]


def test_a_caller_without_an_international_number_has_memories_under_the_digits(aws, mem0, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z", number="2025550123")
    remember(mem0, "She has a dog.", user="2025550123")

    assert [each["text"] for each in get("/callers/2025550123")["memories"]] == ["She has a dog."]


def test_memories_of_erased_calls_and_of_no_call_are_left_out(aws, mem0, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    api.handler.aws().records.erase("conv_1", "2026-11-22T10:00:00Z")
    for conversation_id in ("conv_1", "conv_unknown", None, "no id"):
        remember(mem0, "She has a dog.", conversation_id)

    assert get("/callers/12025550123")["memories"] == []


def test_memories_of_other_agents_are_left_out(aws, mem0, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z", "agent_1")
    save(aws, "conv_2", "2026-11-02T10:00:00Z", "agent_2")
    remember(mem0, "one", "conv_1")
    remember(mem0, "two", "conv_2")

    answer = get("/callers/12025550123", authorizer=token(*ALL, agents="agent_2"))

    assert [each["text"] for each in answer["memories"]] == ["two"]


def test_a_caller_nobody_knows_has_nothing(mem0, get: Get) -> None:
    answer = get("/callers/12025550123")

    assert (answer["calls"], answer["next"], answer["memories"]) == ([], None, [])


@pytest.mark.parametrize("fault", ["error_before", "drop_before", "refuse", "unauthorised", "bad"])
def test_if_mem0_fails_the_calls_are_still_answered(aws, mem0, get: Get, fault: str) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    mem0.plan(fault, route="list")

    answer = get("/callers/12025550123")

    assert (ids(answer), answer["memories"]) == (["conv_1"], None)
    assert answer["memories_note"].startswith("Mem0")


def test_without_a_service_at_mem0s_address_the_note_says_so(aws, mem0, get: Get, monkeypatch) -> None:
    monkeypatch.setenv("MEM0_HOST", "http://127.0.0.1:9")
    forget()

    assert get("/callers/12025550123")["memories_note"] == "Mem0 did not answer. Try again in some seconds."


@pytest.mark.parametrize(
    "setting", [{"MEMORY_BACKEND": "oss"}, {"MEMORY_SECRET_ARN": ""}, {"MEM0_HOST": "http://mem0.example"}]
)
def test_without_hosted_mem0_the_note_says_so(aws, mem0, get: Get, monkeypatch, setting: dict[str, str]) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    forget()

    answer = get("/callers/12025550123")

    assert answer["memories"] is None
    assert "does not keep its memories on Mem0's hosted platform" in answer["memories_note"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", DEEP, [], 7, None, {}, {"results": None}, {"results": 7}, {"results": [None, 7, {}]},
     {"results": [{"memory": 7, "metadata": [], "created_at": {}}]},
     {"results": [{"memory": "x", "metadata": {"conversation_id": "conv_1", "type": 7, "timestamp": None}}]}],
    ids=lambda content: repr(content)[:60],
)  # fmt: skip
def test_odd_answers_of_mem0_are_answered(aws, mem0, get: Get, monkeypatch, content: Any) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    with RawHost(content if isinstance(content, bytes) else json.dumps(content).encode()) as host:
        monkeypatch.setenv("MEM0_HOST", host.url)
        forget()
        answer = get("/callers/12025550123")
        close_clients()

    assert ids(answer) == ["conv_1"]


def test_the_calls_of_a_caller_have_pages(aws, get: Get) -> None:
    for number in range(3):
        save(aws, f"conv_{number}", f"2026-11-0{number + 1}T10:00:00Z")

    first = get("/callers/12025550123", {"limit": 2})
    second = get("/callers/12025550123", {"limit": 2, "cursor": first["next"]})

    assert (ids(first), ids(second), second["next"]) == (["conv_2", "conv_1"], ["conv_0"], None)


def test_memories_of_other_agents_do_not_take_the_place_of_others(aws, mem0, get: Get, monkeypatch) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z", "agent_1")
    save(aws, "conv_2", "2026-11-02T10:00:00Z", "agent_1", number="12025550123")
    save(aws, "conv_3", "2026-11-03T10:00:00Z", "agent_2")
    remember(mem0, "newest", "conv_3", user="+12025550123")
    remember(mem0, "older", "conv_2", user="12025550123")
    monkeypatch.setattr(api.remembered, "MOST", 1)

    answer = get("/callers/12025550123", authorizer=token(*ALL, agents="agent_1"))

    assert [each["text"] for each in answer["memories"]] == ["older"]
