"""The platform's client with hostile or faulty hosts: the key is not sent to others, and every answer is limited."""

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memory_writer.memory import Memory
from memory_writer.platform import PlatformBackend
from shared.errors import MemoryBackendError, NotSentError, RefusedError
from tests.conftest import close_clients
from tests.raw_host import COMPRESSED, DEEP, WITHOUT_END, RawHost

MEMORY = Memory("+12025550123", "factual", [{"role": "user", "content": "Hello."}], {"conversation_id": "c"}, False)
CALLS: dict[str, Callable[[PlatformBackend], Any]] = {
    "add": lambda backend: backend.add(MEMORY, again=False),
    "look": lambda backend: backend.check_event("event_1"),
    "find": lambda backend: backend.find(MEMORY),
    "list_user": lambda backend: backend.list_user("+12025550123"),
}

BAD_IDS = [
    pytest.param("m" * 201, id="long"), pytest.param("a\nb", id="two lines"), pytest.param("a b", id="a space"),
    pytest.param("\x1b[31m", id="control"), pytest.param("سلام", id="not ASCII"), pytest.param("\ud800", id="no text"),
    pytest.param(".", id="the folder"), pytest.param("..", id="the folder above"), pytest.param(7, id="a number"),
    pytest.param({"a": 1}, id="an object"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_connection_stays_open() -> Iterator[None]:
    yield
    close_clients()


def backend(host: RawHost) -> PlatformBackend:
    return PlatformBackend(host.url, "m0-test", 5)


def listing(*items: Any, more: bool = False) -> bytes:
    return json.dumps({"results": items, "next": "another page" if more else None}).encode()


def test_an_error_of_the_connection_names_the_host_and_nothing_else_of_the_address():
    with pytest.raises(NotSentError) as error:
        PlatformBackend("http://user:word@127.0.0.1:9/path?key=m0-test", "m0-test", 5).find(MEMORY)

    assert str(error.value) == "Mem0 at http://127.0.0.1:9 could not be reached (ConnectError)"


@pytest.mark.parametrize("address", ["http://api.mem0.ai", "ftp://127.0.0.1", "none"])
def test_a_key_is_never_sent_unencrypted(address):
    with pytest.raises(RefusedError, match="Mem0Host"):
        PlatformBackend(address, "m0-test", 5)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_redirect_is_not_followed_with_the_key(call):
    with (
        RawHost() as elsewhere,
        RawHost(status=307, headers={"Location": elsewhere.url}) as host,
        pytest.raises(MemoryBackendError, match="307"),
    ):
        call(backend(host))

    assert elsewhere.requests == []


def test_a_key_for_this_machine_is_shown_to_no_proxy(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    answer = listing()
    with RawHost(answer) as host, RawHost(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        backend(host).find(MEMORY)

    assert (len(host.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(WITHOUT_END, id="without end"), pytest.param(DEEP, id="deep"),
        pytest.param(b"[]", id="array"), pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b'{"results": 7}', id="a number of results"), pytest.param(b"{}", id="nothing"),
        pytest.param(b'{"results": {"id": 1}}', id="an object of results"),
    ],
)  # fmt: skip
def test_an_unusable_answer_is_an_error_of_mem0(call, body):
    with RawHost(body) as host, pytest.raises(MemoryBackendError):
        call(backend(host))


def test_an_endless_error_body_is_not_read():
    with RawHost(WITHOUT_END, status=400) as host, pytest.raises(RefusedError, match="400"):
        backend(host).find(MEMORY)


@pytest.mark.parametrize(("coding", "body"), COMPRESSED.items(), ids=COMPRESSED)
def test_a_compressed_answer_is_refused_before_it_is_decompressed(coding, body):
    with (
        RawHost(body(listing()), headers={"Content-Encoding": coding}) as host,
        pytest.raises(MemoryBackendError, match="a compression that is not supported"),
    ):
        backend(host).find(MEMORY)

    assert [sent["Accept-Encoding"] for sent in host.headers_received] == ["identity"]


def test_an_answer_that_is_compressed_once_is_read():
    with RawHost(gzip.compress(listing({"id": "m1"})), headers={"Content-Encoding": "gzip"}) as host:
        assert backend(host).find(MEMORY) == ["m1"]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(bytes(2**26), 1), gzip.compress(listing())[:-9], b"no gzip"],
    ids=["bomb", "breaks off", "damaged"],
)
def test_an_unusable_compressed_answer_is_an_error_of_mem0_and_needs_little_memory(body):
    with RawHost(body, headers={"Content-Encoding": "gzip"}) as host:
        tracemalloc.start()
        try:
            with pytest.raises(MemoryBackendError):
                backend(host).find(MEMORY)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 40 * 2**20


def test_an_answer_that_says_it_is_not_compressed_is_read():
    with RawHost(listing(), headers={"Content-Encoding": "Identity"}) as host:
        assert backend(host).find(MEMORY) == []


@pytest.mark.parametrize("item", [None, 7, "text", [], {}, {"id": None}])
def test_a_list_with_an_element_that_is_not_a_memory_is_an_error_of_mem0(item):
    with (
        RawHost(listing({"id": "m1"}, item)) as host,
        pytest.raises(MemoryBackendError, match=r"not a list of memories|unusable id"),
    ):
        backend(host).list_user("+12025550123")


def test_a_page_with_more_memories_than_requested_is_an_error_of_mem0():
    full = [{"id": f"m{n}"} for n in range(100)]
    with RawHost(listing(*full)) as host:
        assert len(backend(host).list_user("+12025550123")) == 100
    with RawHost(listing(*full, {"id": "m100"})) as host, pytest.raises(MemoryBackendError, match="more memories than"):
        backend(host).list_user("+12025550123")


@pytest.mark.parametrize("status", ["SUCCEEDED", "PENDING"])
@pytest.mark.parametrize("bad", BAD_IDS)
def test_an_unusable_id_is_an_error_of_mem0(bad, status):
    answer = json.dumps({"status": status, "event_id": bad, "results": [{"id": bad}]}).encode()
    for call in CALLS.values():
        with RawHost(answer) as host, pytest.raises(MemoryBackendError, match="unusable id"):
            call(backend(host))


@pytest.mark.parametrize("bad", BAD_IDS)
def test_nothing_is_requested_or_deleted_with_an_unusable_id(bad):
    for call in (lambda mem0: mem0.check_event(bad), lambda mem0: mem0.delete([bad])):
        with RawHost() as host, pytest.raises(MemoryBackendError, match="unusable id"):
            call(backend(host))
        assert host.requests == []


def test_an_id_stays_one_part_of_the_address():
    with RawHost(b'{"status": "SUCCEEDED"}') as host:
        backend(host).check_event("../../x?y=1#z")
        backend(host).delete(["../../x?y=1#z"])

    assert host.requests == ["GET /v1/event/..%2F..%2Fx%3Fy%3D1%23z/", "DELETE /v1/memories/..%2F..%2Fx%3Fy%3D1%23z/"]


def test_a_list_ends_at_an_empty_page():
    with RawHost(lambda target: listing(*([{"id": "m1"}] if "page=1&" in target else []), more=True)) as host:
        found = backend(host).list_user("+12025550123")

    assert found == ["m1"]
    assert len(host.requests) == 2


def test_a_list_that_repeats_itself_is_an_error_because_it_may_be_incomplete():
    with (
        RawHost(listing({"id": "m1"}, {"id": "m2"}, more=True)) as host,
        pytest.raises(MemoryBackendError, match="list does not end"),
    ):
        backend(host).list_user("+12025550123")

    assert len(host.requests) == 2


def test_an_endless_list_is_an_error_of_mem0(monkeypatch):
    monkeypatch.setattr("memory_writer.platform.PAGES", 3)

    def page(target: str) -> bytes:
        return listing({"id": target}, more=True)

    with RawHost(page) as host, pytest.raises(MemoryBackendError, match="list does not end"):
        backend(host).list_user("+12025550123")

    assert len(host.requests) == 3


@pytest.mark.parametrize(
    "wait", ["nan", "-nan", "inf", "-inf", "1e999", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", ""]
)
def test_after_a_rate_limit_with_any_wait_the_memory_is_not_sent(wait, monkeypatch):
    monkeypatch.setattr("memory_writer.platform.DEFAULT_WAIT", 0.01)
    with RawHost(status=429, headers={"Retry-After": wait}) as host, pytest.raises(NotSentError, match="429"):
        backend(host).add(MEMORY, again=False)
