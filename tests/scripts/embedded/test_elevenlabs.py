"""The stand-in for the ElevenLabs API, driven by httpx."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from scripts.demo.calls import harbour_call
from scripts.demo.recordings import mp3
from scripts.embedded.elevenlabs import ElevenLabs, Request

LIST, WEBHOOKS = "/v1/convai/conversations", "/v1/workspace/webhooks"
ONE, AUDIO = f"{LIST}/conv_1", f"{LIST}/conv_1/audio"
PATHS = {"list": LIST, "get": ONE, "audio": AUDIO, "webhooks": WEBHOOKS}
RECORDING = mp3(20)  # some 320 KB, five pieces


@pytest.fixture
def api() -> Iterator[ElevenLabs]:
    with ElevenLabs() as api:
        yield api


@pytest.fixture
def client(api: ElevenLabs) -> Iterator[httpx.Client]:
    with connect(api) as client:
        yield client


def connect(api: ElevenLabs, key: str = "xi-test") -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"xi-api-key": key}, timeout=10, verify=False)


def conversation(number: int, *, start: int | None = None, status: str = "done", agent: str = "agent_7") -> dict:
    metadata = {"start_time_unix_secs": 1000 + number if start is None else start, "call_duration_secs": 60}
    return {"conversation_id": f"conv_{number}", "agent_id": agent, "status": status, "metadata": metadata}


def page(client: httpx.Client, **parameters: Any) -> dict[str, Any]:
    return client.get(LIST, params=parameters).raise_for_status().json()


def ids(page: dict[str, Any]) -> list[str]:
    return [each["conversation_id"] for each in page["conversations"]]


def whole_list(client: httpx.Client, **parameters: Any) -> list[list[str]]:
    """The ids, page by page."""
    pages = [page(client, **parameters)]
    while pages[-1]["has_more"]:
        pages.append(page(client, cursor=pages[-1]["next_cursor"], **parameters))
    assert pages[-1]["next_cursor"] is None
    return [ids(each) for each in pages]


@contextmanager
def quickly() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("direction", "pages"),
    [
        ({}, [["conv_5", "conv_4"], ["conv_3", "conv_2"], ["conv_1"]]),
        ({"sort_direction": "desc"}, [["conv_5", "conv_4"], ["conv_3", "conv_2"], ["conv_1"]]),
        ({"sort_direction": "asc"}, [["conv_1", "conv_2"], ["conv_3", "conv_4"], ["conv_5"]]),
    ],
    ids=["default", "newest first", "oldest first"],
)
def test_a_list_comes_page_by_page_in_order(api, client, direction, pages):
    for number in (3, 1, 5, 2, 4):
        api.add(conversation(number))

    assert whole_list(client, page_size=2, **direction) == pages


def test_calls_of_the_same_second_are_told_apart_by_their_ids(api, client):
    for number in (2, 3, 1):
        api.add(conversation(number, start=1000))

    assert whole_list(client, page_size=1) == [["conv_3"], ["conv_2"], ["conv_1"]]


def test_a_last_page_that_is_full_has_no_more(api, client):
    for number in range(31):
        api.add(conversation(number))

    assert [len(each) for each in whole_list(client)] == [30, 1]
    assert [len(each) for each in whole_list(client, page_size=31)] == [31]


def test_an_empty_list_is_a_page_too(client):
    assert page(client) == {"conversations": [], "next_cursor": None, "has_more": False}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"agent_id": "agent_8"}, ["conv_2"]),
        ({"agent_id": ""}, []),
        ({"call_start_after_unix": 1003}, ["conv_4", "conv_3"]),
        ({"call_start_before_unix": 1002}, ["conv_2", "conv_1"]),
        ({"call_start_after_unix": 1002, "call_start_before_unix": 1003}, ["conv_3", "conv_2"]),
        ({"exclude_statuses": ["in-progress", "failed"]}, ["conv_2", "conv_1"]),
    ],
    ids=["agent", "empty agent", "after", "before", "between", "statuses"],
)
def test_a_list_is_filtered_on_every_page(api, client, filters, expected):
    statuses = {3: "failed", 4: "in-progress"}
    for number in (1, 2, 3, 4):
        agent = "agent_8" if number == 2 else "agent_7"
        api.add(conversation(number, status=statuses.get(number, "done"), agent=agent))

    assert sum(whole_list(client, page_size=1, **filters), []) == expected  # noqa: RUF017


@pytest.mark.parametrize(
    "parameters",
    [{"page_size": 0}, {"page_size": 101}, {"page_size": ""}, {"page_size": "x"}, {"call_start_after_unix": "now"}],
    ids=str,
)
def test_a_list_refuses_what_is_no_number_in_its_bounds(client, parameters):
    response = client.get(LIST, params=parameters)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", *parameters]


def test_an_item_tells_of_the_call_but_not_its_number(api, client):
    call = harbour_call()
    api.add(call.data)

    [item] = page(client)["conversations"]

    assert item == {
        "agent_id": call.data["agent_id"],
        "conversation_id": call.conversation_id,
        "start_time_unix_secs": call.data["metadata"]["start_time_unix_secs"],
        "call_duration_secs": 48,
        "message_count": len(call.data["transcript"]),
        "status": "done",
        "call_successful": "success",
        "direction": "inbound",
    }
    assert "2025550123" not in json.dumps(item)


def test_an_item_of_a_call_that_has_only_just_begun_is_listed(api, client):
    api.add({"conversation_id": "conv_1", "analysis": None, "metadata": {"phone_call": None}})

    assert ids(page(client)) == ["conv_1"]


def test_a_list_that_changes_while_it_is_read_neither_repeats_nor_drops_what_stays(api, client):
    for number in (1, 2, 3, 4, 5):
        api.add(conversation(number))

    def change(request: Request) -> None:
        if "cursor" in request.query and "conv_9" not in api.conversations:
            del api.conversations["conv_4"]
            api.add(conversation(9))

    api.before_answer = change

    assert whole_list(client, page_size=2) == [["conv_5", "conv_4"], ["conv_3", "conv_2"], ["conv_1"]]
    assert ids(page(client))[0] == "conv_9"


def test_expired_cursors_are_refused_and_later_ones_are_not(api, client):
    for number in (1, 2, 3):
        api.add(conversation(number))
    expired = page(client, page_size=1)["next_cursor"]

    api.expire_cursors()

    refused = client.get(LIST, params={"cursor": expired})
    fresh = page(client, page_size=1)["next_cursor"]
    assert (refused.status_code, refused.json()["detail"]["status"]) == (400, "invalid_cursor")
    assert ids(page(client, cursor=fresh)) == ["conv_2", "conv_1"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "é", "MCB4IGNvbnZfMQ==", "////"])
def test_a_cursor_that_is_none_is_refused(client, cursor):
    response = client.get(LIST, params={"cursor": cursor})

    assert (response.status_code, response.json()["detail"]["status"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("path", [*PATHS.values(), "/v1/other"])
def test_a_wrong_key_is_refused_and_uses_up_no_fault(api, path):
    api.add(conversation(1), RECORDING)
    for route in PATHS:
        api.plan(route, "500")

    with connect(api, "xi-other") as stranger, connect(api) as client:
        refused = stranger.get(path)
        known = client.get(path)

    assert (refused.status_code, refused.json()["detail"]["status"]) == (401, "invalid_api_key")
    assert known.status_code == (404 if path == "/v1/other" else 500)
    assert [each.key for each in api.requests] == ["xi-other", "xi-test"]


def test_a_conversation_is_answered_as_it_was_given(api, client):
    api.add(conversation(1) | {"transcript": [{"message": "Grüße…"}]})

    response = client.get(ONE, params={"format": "json"})

    assert response.json() == api.conversations["conv_1"]
    assert "Grüße…".encode() in response.content
    assert response.headers["content-type"] == "application/json"


def test_a_conversation_can_be_worked_on_still_whatever_the_list_says(api, client):
    api.add(conversation(1))
    api.plan("get", "processing")

    statuses = [page(client)["conversations"][0]["status"], *(client.get(ONE).json()["status"] for _ in range(2))]

    assert statuses == ["done", "processing", "done"]


def test_the_audio_arrives_chunked_and_byte_for_byte(api, client):
    api.add(conversation(1), RECORDING)

    response = client.get(AUDIO)

    assert response.content == RECORDING
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["content-type"] == "audio/mpeg"
    assert "content-length" not in response.headers


def test_the_rest_of_a_recording_is_sent_if_it_is_still_the_same(api, client):
    api.add(conversation(1), RECORDING)
    etag = client.get(AUDIO).headers["etag"]

    rest = client.get(AUDIO, headers={"Range": "bytes=1000-", "If-Range": etag})
    behind = client.get(AUDIO, headers={"Range": f"bytes={len(RECORDING)}-"})
    api.audio["conv_1"] = RECORDING[:2000]
    another = client.get(AUDIO, headers={"Range": "bytes=1000-", "If-Range": etag})

    assert (rest.status_code, rest.content) == (206, RECORDING[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(RECORDING) - 1}/{len(RECORDING)}"
    assert behind.status_code == 416
    assert (another.status_code, another.content) == (200, RECORDING[:2000])


def test_a_recording_may_be_sent_whole_whatever_part_was_asked_for(api, client):
    api.has_ranges = False
    api.add(conversation(1), RECORDING)

    answer = client.get(AUDIO, headers={"Range": "bytes=1000-"})

    assert (answer.status_code, answer.content) == (200, RECORDING)
    assert "etag" not in answer.headers


def test_a_long_recording_is_no_slower_than_its_client(api, client):
    api.add(conversation(1), bytes(34_000_000))

    with quickly():
        assert len(client.get(AUDIO).content) == 34_000_000


@pytest.mark.parametrize("path", [ONE, AUDIO, f"{LIST}/conv_2/audio"], ids=["get", "audio", "silent call"])
def test_what_is_not_known_is_not_found(api, client, path):
    api.add(conversation(2))

    response = client.get(path)

    assert (response.status_code, response.json()["detail"]["status"]) == (404, "conversation_not_found")


def test_a_deletion_forgets_a_conversation_and_its_audio(api, client):
    api.add(conversation(1), RECORDING)
    api.add(conversation(2))

    deleted, again = client.delete(ONE), client.delete(ONE)

    assert (deleted.status_code, deleted.json(), again.status_code) == (200, {}, 404)
    assert (list(api.conversations), api.audio) == (["conv_2"], {})


def test_the_webhooks_are_answered_as_they_are(api, client):
    none = client.get(WEBHOOKS, params={"include_usages": "true"}).json()

    api.webhooks = {"webhooks": [{"is_auto_disabled": True}]}

    assert none == {"webhooks": []}
    assert client.get(WEBHOOKS).json() == api.webhooks


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/user"), ("GET", f"{ONE}/transcript"), ("POST", LIST), ("PATCH", ONE), ("DELETE", WEBHOOKS)],
)
def test_nothing_else_is_found(client, method, path):
    first, second = (client.request(method, path, content=b"{}") for _ in range(2))

    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (404, {"detail": "Not Found"})


def test_every_request_is_remembered(api, client):
    client.get(LIST, params={"page_size": 2, "exclude_statuses": ["done", "failed"]})
    client.get(AUDIO)
    client.delete(f"{LIST}/conv%2F1")
    client.post("/v1/other", json={})

    assert [(each.method, each.path, each.route) for each in api.requests] == [
        ("GET", LIST, "list"),
        ("GET", AUDIO, "audio"),
        ("DELETE", f"{LIST}/conv%2F1", "delete"),
        ("POST", "/v1/other", None),
    ]
    assert api.requests[0].query == {"page_size": "2", "exclude_statuses": "failed"}
    assert [each.conversation_id for each in api.requests[1:3]] == ["conv_1", "conv/1"]


@pytest.mark.parametrize("status", [401, 403, 404, 422, 429, 500, 502, 503])
@pytest.mark.parametrize("route", PATHS)
def test_a_planned_status_comes_once_in_place_of_the_answer(api, client, route, status):
    api.add(conversation(1), RECORDING)
    api.plan(route, "ok", str(status))

    answers = [client.get(PATHS[route]) for _ in range(3)]

    assert [each.status_code for each in answers] == [200, status, 200]
    assert "detail" in answers[1].json()


def test_a_429_says_when_to_come_again(api, client):
    api.plan("list", "429", "429:2", "503")

    waits = [client.get(LIST).headers.get("Retry-After") for _ in range(3)]

    assert waits == ["0", "2", None]


@pytest.mark.parametrize("route", PATHS)
def test_a_dropped_request_has_no_answer(api, client, route):
    api.plan(route, "drop")

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.get(PATHS[route])


@pytest.mark.parametrize("route", PATHS)
def test_a_hanging_request_is_left_to_the_clients_timeout_and_ends_with_the_client(api, client, route):
    threads = threading.active_count()
    api.plan(route, "hang")

    with pytest.raises(httpx.ReadTimeout):
        client.get(PATHS[route], timeout=0.1)

    with quickly():
        while threading.active_count() > threads:
            time.sleep(0.01)


@pytest.mark.parametrize("route", ["list", "get", "webhooks"])
def test_a_cut_json_is_half_of_what_was_announced(api, client, route):
    api.add(conversation(1))
    whole = client.get(PATHS[route]).content
    api.plan(route, "cut")

    with client.stream("GET", PATHS[route]) as response:
        received = until_it_breaks(response)

    assert received == whole[: len(whole) // 2]
    assert response.headers["content-length"] == str(len(whole))


@pytest.mark.parametrize(
    ("fault", "framing"),
    [("cut", ("transfer-encoding", "chunked")), ("cut_identity", ("content-length", str(len(RECORDING))))],
)
def test_a_cut_recording_is_half_of_it_and_known_to_be_incomplete(api, client, fault, framing):
    api.add(conversation(1), RECORDING)
    api.plan("audio", fault)

    with client.stream("GET", AUDIO) as response:
        received = until_it_breaks(response)

    assert received == RECORDING[: len(RECORDING) // 2]
    assert framing in response.headers.items()


def until_it_breaks(response: httpx.Response) -> bytes:
    received = b""
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):  # noqa: PT012
        for piece in response.iter_raw():
            received += piece
    return received


def test_a_refusal_can_be_cut_too(api, client):
    api.plan("audio", "cut")

    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        client.get(AUDIO)


def test_a_truncated_recording_looks_whole(api, client):
    api.add(conversation(1), RECORDING)
    api.plan("audio", "truncated")

    response = client.get(AUDIO)

    assert response.content == RECORDING[: len(RECORDING) // 2]
    assert response.headers["transfer-encoding"] == "chunked"
    assert client.get(AUDIO).content == RECORDING


def test_a_recording_can_have_a_length(api, client):
    api.add(conversation(1), RECORDING)
    api.plan("audio", "identity")

    response = client.get(AUDIO)

    assert response.content == RECORDING
    assert response.headers["content-length"] == str(len(RECORDING))
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize("route", ["get", "audio"])
@pytest.mark.parametrize(("fault", "seconds"), [("slow", 0.3), ("slow:0.04", 0.7)])
def test_a_slow_answer_trickles_in_whole(api, client, route, fault, seconds):
    api.add(conversation(1), RECORDING)
    whole = client.get(PATHS[route]).content
    api.plan(route, fault)

    started = time.monotonic()
    with client.stream("GET", PATHS[route]) as response:
        pieces = list(response.iter_raw())

    assert b"".join(pieces) == whole
    assert len(pieces) > 5
    assert time.monotonic() - started > seconds


@pytest.mark.parametrize("route", PATHS)
def test_an_empty_answer_is_a_200_of_the_right_type(api, client, route):
    api.plan(route, "empty")

    response = client.get(PATHS[route])

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == ("audio/mpeg" if route == "audio" else "application/json")


@pytest.mark.parametrize("route", PATHS)
def test_html_is_a_200_too(api, client, route):
    api.plan(route, "html")

    response = client.get(PATHS[route])

    assert (response.status_code, response.text) == (200, "<html>not what you asked for</html>")
    assert response.headers["content-type"] == "text/html"


@pytest.mark.parametrize("fault", ["500", "drop", "hang", "empty", "html"])
def test_a_deletion_answered_otherwise_has_not_happened(api, client, fault):
    api.add(conversation(1))
    api.plan("delete", fault)

    try_to_delete(client)

    assert list(api.conversations) == ["conv_1"]


@pytest.mark.parametrize("fault", ["cut", "slow", "truncated"])
def test_a_deletion_whose_answer_is_spoilt_has_happened(api, client, fault):
    api.add(conversation(1))
    api.plan("delete", fault)

    try_to_delete(client)

    assert api.conversations == {}


def try_to_delete(client: httpx.Client) -> None:
    with suppress(httpx.TransportError):
        client.delete(ONE, timeout=0.2)


@pytest.mark.parametrize(("route", "fault", "error"), [("list", "418", ValueError), ("ping", "500", KeyError)])
def test_a_plan_that_can_never_come_true_is_refused(api, route, fault, error):
    with pytest.raises(error):
        api.plan(route, fault)


def test_the_stand_in_ends_quickly_with_connections_that_hang_or_idle_or_do_not_read():
    api = ElevenLabs()
    api.add(conversation(1), bytes(34_000_000))
    api.plan("list", "hang")

    with ThreadPoolExecutor() as pool, connect(api) as client, connect(api) as idle, connect(api) as lazy:
        with quickly(), api:
            idle.get(ONE)
            lazy.send(lazy.build_request("GET", AUDIO), stream=True)
            hanging = pool.submit(client.get, LIST)
            while len(api.requests) < 3:
                time.sleep(0.01)

        assert isinstance(hanging.exception(), httpx.RemoteProtocolError)
        with pytest.raises(httpx.TransportError):
            idle.get(ONE)


def test_a_client_that_goes_away_is_nothing_to_talk_about(capsys):
    with ElevenLabs() as api, connect(api) as client:
        api.add(conversation(1), bytes(34_000_000))
        with client.stream("GET", AUDIO):
            pass

    assert capsys.readouterr() == ("", "")


def test_the_stand_in_takes_the_port_that_it_is_given():
    with ElevenLabs() as first:
        pass

    with ElevenLabs("xi-other", port=httpx.URL(first.url).port) as again, connect(again, "xi-other") as client:
        assert (again.url, client.get(LIST).status_code) == (first.url, 200)
