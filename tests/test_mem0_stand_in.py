"""The stand-in for the hosted Mem0 API, driven by the real mem0.MemoryClient."""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.mem0_stand_in import HostedMem0

if TYPE_CHECKING:
    from mem0 import MemoryClient

# mem0 reads them while it is imported; the same as memory_writer/oss.py has, whoever comes first.
os.environ["MEM0_TELEMETRY"] = "False"
os.environ.setdefault("MEM0_DIR", f"{tempfile.gettempdir()}/mem0")

ALICE, BOB = "+12025550123", "+12025550188"
TURNS = [
    {"role": "assistant", "content": "How can I help you?"},
    {"role": "user", "content": "My fridge is warm. It is two years old."},
    {"role": "user", "content": "I moved to Austin!"},
]


@pytest.fixture
def mem0() -> Iterator[HostedMem0]:
    with HostedMem0() as stand_in:
        yield stand_in


@pytest.fixture
def client(mem0: HostedMem0) -> Iterator["MemoryClient"]:
    with real_client(mem0) as client:
        yield client


@contextmanager
def real_client(mem0: HostedMem0, key: str | None = None, **options: Any) -> Iterator["MemoryClient"]:
    """Import mem0 only here, and in tests: it takes seconds."""
    from mem0 import MemoryClient

    with httpx.Client(**({"timeout": 10} | options)) as http:
        yield MemoryClient(api_key=key or mem0.key, host=mem0.url, client=http)


def tags(conversation_id: str = "conv_1", type: str = "semantic") -> dict[str, Any]:
    return {
        "type": type, "agent_id": "agent_7", "conversation_id": conversation_id, "call_duration": None,
        "timestamp": "2026-11-22T10:00:00Z",
    }  # fmt: skip


def add(client: "MemoryClient", *, user_id: str = ALICE, infer: bool = False, **metadata: str) -> dict[str, Any]:
    return client.add(TURNS, user_id=user_id, metadata=tags(**metadata), infer=infer)


def event(client: "MemoryClient", added: dict[str, Any]) -> dict[str, Any]:
    """The client has no method for it."""
    return client.client.get(f"/v1/event/{added['event_id']}/").raise_for_status().json()


def of_call(user_id: str, conversation_id: str, type: str) -> dict[str, Any]:
    return {
        "AND": [{"user_id": user_id}, {"metadata": {"conversation_id": conversation_id}}, {"metadata": {"type": type}}]
    }


def texts(answer: dict[str, Any]) -> list[str]:
    return sorted(each["memory"] for each in answer["results"])


def test_the_real_clients_own_connection_pings_and_learns_its_project(mem0):
    from mem0 import MemoryClient

    client = MemoryClient(api_key=mem0.key, host=mem0.url)
    client.client.close()

    assert (client.org_id, client.project_id) == ("org_1", "proj_1")
    assert mem0.requests == [("GET", "/v1/ping/", None)]


def test_a_wrong_key_is_refused_and_uses_up_no_fault(mem0):
    mem0.plan("bad", route="ping")

    with pytest.raises(ValueError, match="Invalid API key"), real_client(mem0, key="m0-other"):
        pass
    with pytest.raises(ValueError, match="Refused as planned: bad"), real_client(mem0):
        pass


def test_an_add_without_inference_is_answered_at_once_and_kept_word_for_word(mem0, client):
    answer = add(client)

    listed = client.get_all(filters=of_call(ALICE, "conv_1", "semantic"))["results"]
    assert answer["status"] == "SUCCEEDED"
    assert [each["data"]["memory"] for each in answer["results"]] == [turn["content"] for turn in TURNS]
    assert {each["id"] for each in answer["results"]} == {each["id"] for each in listed}
    assert [each["metadata"] for each in listed] == [tags()] * 3
    assert [each["id"] for each in mem0.memories(ALICE)] == [each["id"] for each in answer["results"]]
    body = {"messages": TURNS, "user_id": ALICE, "metadata": tags(), "infer": False}
    assert ("POST", "/v3/memories/add/", body) in mem0.requests


def test_an_add_infers_by_default_and_stores_when_its_event_succeeds(mem0, client):
    mem0.plan_events("slow:2")

    answer = client.add(TURNS, user_id=ALICE, metadata=tags())
    before = [(event(client, answer)["status"], client.get_all(filters={"user_id": ALICE})["count"]) for _ in range(2)]
    after = event(client, answer)

    assert answer == {"event_id": after["id"], "status": "PENDING"}
    assert before == [("PENDING", 0)] * 2
    assert (after["status"], [each["event"] for each in after["results"]]) == ("SUCCEEDED", ["ADD", "ADD"])
    assert texts(client.get_all(filters={"user_id": ALICE})) == ["I moved to Austin!", "My fridge is warm."]


def test_what_is_sent_again_is_added_again(mem0, client):
    add(client)
    add(client)

    assert mem0.adds("conv_1", "semantic") == 2
    assert client.get_all(filters={"user_id": ALICE})["count"] == 6


def test_beside_an_agent_the_assistants_words_are_the_agents(client):
    client.add(TURNS, user_id=ALICE, agent_id="agent_7", infer=False)

    assert len(client.get_all(filters={"user_id": ALICE})["results"]) == 2
    assert texts(client.get_all(filters={"agent_id": "agent_7"})) == ["How can I help you?"]


def test_listing_pages_and_links_to_the_next_page(mem0, client):
    client.add([{"role": "user", "content": str(number)} for number in range(5)], user_id=ALICE, infer=False)
    filters = {"user_id": ALICE}

    pages = [client.get_all(filters=filters, page=page, page_size=2) for page in (1, 2, 3)]

    assert [texts(page) for page in pages] == [["3", "4"], ["1", "2"], ["0"]]
    assert [page["count"] for page in pages] == [5, 5, 5]
    assert [page["next"] for page in pages] == [f"{mem0.url}/v3/memories/?page={n}&page_size=2" for n in (2, 3)] + [
        None
    ]
    assert pages[0]["previous"] is None
    assert client.client.post(pages[0]["next"], json={"filters": filters}).json() == pages[1]
    assert mem0.requests[2] == ("POST", "/v3/memories/?page=1&page_size=2", {"filters": filters})


def test_a_page_holds_200_memories_at_most_and_100_by_default(client):
    client.add([{"role": "user", "content": "x"}] * 250, user_id=ALICE, infer=False)
    filters = {"user_id": ALICE}

    sizes = [len(client.get_all(filters=filters, **options)["results"]) for options in ({}, {"page_size": 1000})]

    assert sizes == [100, 200]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (of_call(ALICE, "conv_1", "semantic"), 3),
        (of_call(ALICE, "conv_1", "factual"), 0),
        (of_call(BOB, "conv_1", "semantic"), 0),
        ({"user_id": ALICE, "metadata": {"conversation_id": "conv_2"}}, 3),
        ({"AND": [{"user_id": ALICE}, {"OR": [{"metadata": {"type": t}} for t in ("factual", "semantic")]}]}, 6),
        ({"user_id": "*"}, 9),
    ],
    ids=["call", "other type", "other user", "siblings", "or", "wildcard"],
)
def test_filters_narrow_a_listing(client, filters, found):
    add(client)
    add(client, conversation_id="conv_2", type="factual")
    add(client, user_id=BOB, conversation_id="conv_3")

    assert client.get_all(filters=filters)["count"] == found


@pytest.mark.parametrize(
    "filters",
    [
        {"AND": [{"user_id": ALICE}, {"conversation_id": "conv_1"}]},
        {"user_id": ALICE, "type": "semantic"},
        {"metadata": {"type": "semantic"}},
        {"user_id": ALICE, "metadata": {"type": {"in": ["semantic"]}}},
        {},
    ],
    ids=["flat metadata in AND", "flat metadata", "no entity", "operator on metadata", "empty"],
)
@pytest.mark.parametrize("route", ["list", "search"])
def test_filters_that_mem0_does_not_know_are_refused(client, filters, route):
    from mem0.exceptions import ValidationError

    with pytest.raises(ValidationError) as refused:
        client.get_all(filters=filters) if route == "list" else client.search("fridge", filters=filters)

    assert refused.value.debug_info["status_code"] == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v3/memories/", {"filters": {"user_id": ALICE}, "user_id": ALICE}),
        ("/v3/memories/add/", {"messages": TURNS}),
        ("/v3/memories/add/", {"messages": [], "user_id": ALICE}),
        ("/v3/memories/add/", {"messages": [{"role": "agent", "content": "x"}], "user_id": ALICE}),
    ],
    ids=["user beside filters", "nobody's", "no messages", "unknown role"],
)
def test_a_body_that_mem0_does_not_take_is_refused(mem0, client, path, body):
    assert client.client.post(path, json=body).status_code == 400
    assert mem0.memories(ALICE) == []


def test_search_ranks_a_users_memories(client):
    add(client)
    add(client, user_id=BOB)

    found = client.search("how warm is the fridge", filters={"user_id": ALICE})["results"]
    best = client.search("how warm is the fridge", filters={"user_id": ALICE}, top_k=1)["results"]

    assert [each["memory"] for each in found] == [TURNS[1]["content"], TURNS[0]["content"]]
    assert 1 >= found[0]["score"] > found[1]["score"] > 0
    assert best == found[:1]


@pytest.mark.parametrize("method", ["delete_all", "delete_users"])
def test_deleting_a_user_spares_the_others(mem0, client, method):
    add(client)
    add(client, user_id=BOB)

    getattr(client, method)(user_id=ALICE)

    assert (len(mem0.memories(ALICE)), len(mem0.memories(BOB))) == (0, 3)
    path = {"delete_all": "/v1/memories/?user_id=%2B12025550123", "delete_users": "/v2/entities/user/%2B12025550123/"}
    assert mem0.requests[-1] == ("DELETE", path[method], None)
    assert mem0.adds("conv_1", "semantic") == 2


def test_one_memory_is_deleted(mem0, client):
    from mem0.exceptions import MemoryNotFoundError

    add(client)
    first, *others = mem0.memories(ALICE)

    client.delete(first["id"])

    assert mem0.memories(ALICE) == others
    with pytest.raises(MemoryNotFoundError):
        client.delete(first["id"])


def test_deleting_needs_somebody_who_exists(client):
    from mem0.exceptions import MemoryNotFoundError, ValidationError

    with pytest.raises(ValidationError):
        client.delete_all()
    with pytest.raises(MemoryNotFoundError):
        client.delete_users(user_id=ALICE)


def test_all_users_are_listed_and_deleted(mem0, client):
    add(client)
    add(client, user_id=BOB)

    names = [each["name"] for each in client.users()["results"]]
    client.delete_users()

    assert names == [ALICE, BOB]
    assert mem0.memories(ALICE) + mem0.memories(BOB) == []


@pytest.mark.parametrize(
    ("fault", "error", "code", "done"),
    [
        ("refuse:7", "RateLimitError", "HTTP_429", 0),
        ("bad", "ValidationError", "HTTP_400", 0),
        ("unauthorised", "AuthenticationError", "HTTP_401", 0),
        ("forbidden", "AuthenticationError", "HTTP_403", 0),
        ("invalid", "ValidationError", "HTTP_422", 0),
        ("error_before", "MemoryError", "HTTP_500", 0),
        ("error_after", "MemoryError", "HTTP_500", 1),
        ("drop_before", "NetworkError", "NET_GENERIC", 0),
        ("drop_after", "NetworkError", "NET_GENERIC", 1),
    ],
)
def test_a_planned_fault_hits_the_next_add_only(mem0, client, fault, error, code, done):
    from mem0 import exceptions

    mem0.plan("ok", fault)
    add(client, conversation_id="conv_0")
    with pytest.raises(getattr(exceptions, error)) as raised:
        add(client)
    seen = mem0.adds("conv_1", "semantic")
    add(client, conversation_id="conv_2")

    assert (raised.value.error_code, seen) == (code, done)
    assert len(mem0.memories(ALICE)) == 3 * (2 + done)
    assert raised.value.debug_info.get("retry_after") == (7 if code == "HTTP_429" else None)


def test_an_answer_may_come_after_the_client_gave_up(mem0):
    from mem0.exceptions import NetworkError

    mem0.plan("hang_after:30")
    with real_client(mem0, timeout=0.2) as client, pytest.raises(NetworkError) as raised:
        add(client)

    assert raised.value.error_code == "NET_TIMEOUT"
    assert mem0.adds("conv_1", "semantic") == 1


def test_a_late_answer_is_a_whole_one(mem0, client):
    mem0.plan("hang_after:0.2")
    began = time.monotonic()

    assert add(client)["status"] == "SUCCEEDED"
    assert time.monotonic() - began >= 0.2


def test_leaving_the_block_ends_a_call_that_hangs():
    with ThreadPoolExecutor(1) as pool:
        with HostedMem0() as mem0:
            mem0.plan("hang_after:30", route="ping")
            call = pool.submit(
                httpx.get, f"{mem0.url}/v1/ping/", headers={"Authorization": f"Token {mem0.key}"}, timeout=60
            )
            while not mem0.requests:
                time.sleep(0.01)
            began = time.monotonic()
        took = time.monotonic() - began

    assert call.exception() is None or isinstance(call.exception(), httpx.TransportError)
    assert took < 5


def test_a_plan_for_a_type_leaves_adds_of_others_alone(mem0, client):
    from mem0.exceptions import RateLimitError

    mem0.plan("refuse", type="factual")
    mem0.plan_events("FAILED", type="factual")

    inferred = add(client, infer=True, type="semantic")
    with pytest.raises(RateLimitError):
        add(client, infer=True, type="factual")
    failed = add(client, infer=True, type="factual")

    assert [event(client, each)["status"] for each in (inferred, failed)] == ["SUCCEEDED", "FAILED"]


def test_other_routes_have_faults_of_their_own(mem0, client):
    mem0.plan("error_before", route="event")
    mem0.plan("refuse", route="list")
    added = add(client)

    answers = [client.client.get(f"/v1/event/{added['event_id']}/") for _ in range(2)]
    listed = [client.client.post("/v3/memories/", json={"filters": {"user_id": ALICE}}) for _ in range(2)]

    assert [each.status_code for each in answers + listed] == [500, 200, 429, 200]
    assert listed[0].headers["Retry-After"] == "1"


@pytest.mark.parametrize("planned", ["refused", "hang_before"])
def test_a_fault_that_does_not_exist_is_no_plan(mem0, planned):
    with pytest.raises(ValueError, match=planned):
        mem0.plan(planned)
    with pytest.raises(ValueError, match=planned):
        mem0.plan_events(planned)


@pytest.mark.parametrize(
    ("outcome", "statuses", "stored", "adds"),
    [
        ("SUCCEEDED", ["SUCCEEDED", "SUCCEEDED"], 2, 1),
        ("FAILED", ["FAILED", "FAILED"], 0, 0),
        ("empty", ["SUCCEEDED", "SUCCEEDED"], 0, 1),
        ("running:1", ["RUNNING", "SUCCEEDED"], 2, 1),
    ],
)
def test_an_event_ends_as_planned(mem0, client, outcome, statuses, stored, adds):
    mem0.plan_events(outcome)
    added = add(client, infer=True)

    polls = [event(client, added) for _ in range(2)]

    assert [poll["status"] for poll in polls] == statuses
    assert len(polls[-1]["results"]) == len(mem0.memories(ALICE)) == stored
    assert mem0.adds("conv_1", "semantic") == adds


def test_an_unknown_event_is_not_found(client):
    assert client.client.get("/v1/event/e5b2a1f0/").status_code == 404


def test_adds_become_visible_late_whether_anybody_polls_or_not():
    now = 0.0
    with HostedMem0(delay=100, clock=lambda: now) as mem0, real_client(mem0) as client:
        verbatim, inferred = add(client), add(client, infer=True, conversation_id="conv_2")
        early = (verbatim["status"], event(client, inferred)["status"], len(mem0.memories(ALICE)))
        now = 100.0
        late = (event(client, inferred)["status"], len(mem0.memories(ALICE)))

    assert early == ("SUCCEEDED", "PENDING", 0)
    assert late == ("SUCCEEDED", 5)


def test_a_slow_event_that_nobody_polls_succeeds_after_a_minute_or_when_told():
    now = 0.0
    with HostedMem0(clock=lambda: now) as mem0, real_client(mem0) as client:
        mem0.plan_events("slow:9", "slow:9")
        add(client, infer=True)
        counts = [len(mem0.memories(ALICE))]
        now = 60.0
        counts += [len(mem0.memories(ALICE))]
        add(client, infer=True)
        counts += [len(mem0.memories(ALICE))]
        mem0.settle()
        counts += [len(mem0.memories(ALICE))]

    assert counts == [0, 2, 2, 4]


def test_concurrent_calls_use_each_fault_once(mem0):
    mem0.plan(*["refuse"] * 10)
    body = {"messages": TURNS, "user_id": ALICE, "metadata": tags(), "infer": False}
    headers = {"Authorization": f"Token {mem0.key}"}
    with httpx.Client(base_url=mem0.url, headers=headers) as http, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.post("/v3/memories/add/", json=body).status_code, range(40)))

    assert (answers.count(429), answers.count(200)) == (10, 30)
    assert mem0.adds("conv_1", "semantic") == 30


def test_a_connection_is_kept(mem0, client):
    answers = [client.client.get("/v1/ping/") for _ in range(2)]

    ports = {answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}
    assert (len(ports), answers[0].http_version) == (1, "HTTP/1.1")
