"""The client of ElevenLabs' API with hostile or faulty hosts: the key stays safe, and every answer is limited."""

import gzip
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from reconciler.elevenlabs import ElevenLabs
from shared.errors import ElevenLabsError, KeyRefusedError, NotFoundError
from tests.conftest import close_clients
from tests.raw_host import COMPRESSED, DEEP, WITHOUT_END, RawHost
from tests.reconciler.conftest import NOW

CALLS: dict[str, Callable[[ElevenLabs], Any]] = {
    "pages": lambda api: list(api.pages(NOW - timedelta(days=1), NOW)),
    "conversation": lambda api: api.conversation("conv_1"),
    "webhooks": lambda api: api.webhooks(),
}
MP3 = {"Content-Type": "audio/mpeg"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
    monkeypatch.setattr("reconciler.elevenlabs.PER_SECOND", 10_000)
    yield
    close_clients()


def client(host: RawHost) -> ElevenLabs:
    return ElevenLabs(host.url, "xi-test")


def page(*conversations: Any, cursor: Any = None) -> bytes:
    answer = {"conversations": conversations, "has_more": cursor is not None, "next_cursor": cursor}
    return json.dumps(answer).encode()


@pytest.mark.parametrize("address", ["http://api.elevenlabs.io", "ftp://127.0.0.1", "none"])
def test_a_key_is_never_sent_unencrypted(address):
    with pytest.raises(ElevenLabsError, match="ElevenLabsApiHost") as refused:
        ElevenLabs(address, "xi-test")

    assert not isinstance(refused.value, KeyRefusedError)  # its alarm would ask for another key


@pytest.mark.parametrize("call", [*CALLS.values(), lambda api: api.download("conv_1", io.BytesIO(), 60)])
def test_a_redirect_is_not_followed_with_the_key(call):
    with (
        RawHost() as elsewhere,
        RawHost(status=307, headers={"Location": elsewhere.url}) as host,
        pytest.raises(ElevenLabsError, match="307"),
    ):
        call(client(host))

    assert elsewhere.requests == []


def test_a_key_for_this_machine_is_shown_to_no_proxy(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    answer = b"{}"
    with RawHost(answer) as host, RawHost(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client(host).webhooks()

    assert (len(host.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "body", [WITHOUT_END, DEEP, b"<html>", b"\xff\xfe\x00"], ids=["without end", "deep", "html", "no text"]
)
def test_an_unusable_answer_is_an_error_of_elevenlabs(call, body):
    with RawHost(body) as host, pytest.raises(ElevenLabsError):
        call(client(host))


@pytest.mark.parametrize("call", [*CALLS.values(), lambda api: api.download("conv_1", io.BytesIO(), 60)])
@pytest.mark.parametrize(("coding", "body"), COMPRESSED.items(), ids=COMPRESSED)
def test_a_compressed_answer_is_refused_before_it_is_decompressed(call, coding, body):
    with (
        RawHost(body(b"ID3"), headers=MP3 | {"Content-Encoding": coding}) as host,
        pytest.raises(ElevenLabsError, match="a compression that is not supported"),
    ):
        call(client(host))

    assert [sent["Accept-Encoding"] for sent in host.headers_received] == ["identity"]


def test_an_endless_error_body_is_not_read():
    with RawHost(WITHOUT_END, status=404) as host, pytest.raises(NotFoundError):
        client(host).conversation("conv_1")


def test_an_endless_recording_is_an_error_of_elevenlabs(monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.RECORDING_BYTES", 1_000_000)
    file = io.BytesIO()
    with RawHost(WITHOUT_END, headers=MP3) as host, pytest.raises(ElevenLabsError, match="larger than 1 MB"):
        client(host).download("conv_1", file, 60)

    assert file.tell() <= 1_000_000


Planned = tuple[int, dict[str, str], bytes]
TAG = {"ETag": '"1"'}
BROKEN: Planned = (200, {"Content-Length": "10"} | TAG, b"ID3 5")  # the rest is never sent
CHUNKED = {"Transfer-Encoding": "chunked"}
REST: Planned = (206, {"Content-Range": "bytes 5-9/10"}, b"6789X")
WHOLE: Planned = (200, {"Content-Length": "10"}, b"ID3 56789X")
ASKED_ON = {"Range": "bytes=5-", "If-Range": '"1"'}


def chunk(data: bytes) -> bytes:
    """One chunk, without the empty chunk that ends an answer."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def download(*planned: Planned, seconds: float = 60) -> tuple[bytes, list[dict[str, str | None]]]:
    """The recording from a host with these answers, and the requested range of each request."""
    answers = iter(planned)

    def answer(_: str) -> bytes:
        host.status, headers, body = next(answers)
        host.headers = MP3 | headers
        return body

    file = io.BytesIO()
    with RawHost(answer) as host:
        client(host).download("conv_1", file, seconds)
    asked = [{name: sent[name] for name in ("Range", "If-Range") if sent[name]} for sent in host.headers_received]
    return file.getvalue(), asked


def test_an_interrupted_recording_continues():
    assert download(BROKEN, REST) == (b"ID3 56789X", [{}, ASKED_ON])


@pytest.mark.parametrize("tag", [{}, {"ETag": 'W/"1"'}], ids=["no tag", "a weak tag"])
def test_without_a_strong_etag_an_interrupted_recording_starts_again(tag):
    assert download((200, {"Content-Length": "10"} | tag, b"ID3 5"), WHOLE) == (b"ID3 56789X", [{}, {}])


def test_a_part_that_was_not_requested_is_not_joined():
    with pytest.raises(ElevenLabsError, match="another part"):
        download((200, {"Content-Length": "10"}, b"ID3 5"), REST)


def test_a_part_that_ends_early_is_not_the_end():
    short = (206, {"Content-Range": "bytes 5-6/10"}, b"67")

    found, asked = download(BROKEN, short, (206, {"Content-Range": "bytes 7-9/10"}, b"89X"))

    assert (found, asked[2]) == (b"ID3 56789X", {"Range": "bytes=7-", "If-Range": '"1"'})


def test_a_recording_is_complete_if_only_the_end_of_the_answer_was_lost():
    lost = (206, {"Content-Range": "bytes 5-9/10"} | CHUNKED, chunk(b"6789X"))

    assert download(BROKEN, lost) == (b"ID3 56789X", [{}, ASKED_ON])


def test_a_recording_is_complete_if_nothing_follows():
    all_of_it = (200, CHUNKED | TAG, chunk(b"ID3 5"))

    assert download(all_of_it, (416, {"Content-Range": "bytes */5"}, b"")) == (b"ID3 5", [{}, ASKED_ON])


@pytest.mark.parametrize(
    ("first", "said"),
    [
        pytest.param((200, CHUNKED | TAG, chunk(b"ID3 5")), {}, id="the length is not told"),
        pytest.param((200, CHUNKED | TAG, chunk(b"ID3 5")), {"Content-Range": "bytes */10"}, id="it is longer"),
        pytest.param(BROKEN, {"Content-Range": "bytes */5"}, id="it was longer before"),
    ],
)
def test_a_recording_that_may_be_incomplete_starts_again(first, said):
    assert download(first, (416, said, b""), WHOLE) == (b"ID3 56789X", [{}, ASKED_ON, {}])


@pytest.mark.parametrize(
    "second",
    [
        pytest.param((206, {"Content-Range": "bytes 4-9/10"}, b"56789X"), id="another part"),
        pytest.param((206, {}, b"6789X"), id="a part of which nothing is said"),
        pytest.param((206, {"Content-Range": "bytes 5-9/*"}, b"6789X"), id="a part of nobody knows how much"),
        pytest.param((206, {"Content-Range": "bytes 5-9/10", "ETag": '"2"'}, b"6789X"), id="a part of another one"),
        pytest.param((206, {"Content-Range": "bytes 5-9/10", "Content-Length": "5"}, b""), id="a part with nothing"),
        pytest.param((200, {"Content-Length": "10"}, b"ID3 5"), id="whole, and no further than before"),
        pytest.param((206, {"Content-Range": "bytes 5-9/10", "Content-Type": "text/html"}, b"6789X"), id="no audio"),
    ],
)
def test_a_recording_that_never_continues_is_an_error_of_elevenlabs(second):
    with pytest.raises(ElevenLabsError):
        download(BROKEN, second, REST)


def test_an_interrupted_compressed_recording_is_fetched_again():
    packed = gzip.compress(b"ID3 " + bytes(range(256)) * 9, mtime=0)
    half = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}

    found, asked = download((200, half, packed[:-20]), (200, half, packed))

    assert (found, asked) == (gzip.decompress(packed), [{}, {}])


def test_a_recording_that_takes_too_long_is_an_error_of_elevenlabs():
    with pytest.raises(ElevenLabsError, match="takes too long"):
        download(WHOLE, seconds=-1)


def test_no_part_is_requested_after_the_time_limit():
    def answer(_: str) -> Iterator[bytes]:
        yield b"ID3 5"
        time.sleep(0.6)  # and the rest is never sent

    with (
        RawHost(answer, headers=MP3 | TAG | {"Content-Length": "10"}) as host,
        pytest.raises(ElevenLabsError, match="broke off"),
    ):
        client(host).download("conv_1", io.BytesIO(), 0.5)

    assert len(host.requests) == 1


def test_the_size_limit_holds_for_all_parts_of_a_recording_together(monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.RECORDING_BYTES", 8)

    with pytest.raises(ElevenLabsError, match="larger than"):
        download(BROKEN, REST)


@pytest.mark.parametrize("item", [None, 7, "text", [], {}, {"conversation_id": 7}, {"conversation_id": "../x"}])
def test_an_element_of_a_list_that_is_not_a_call_is_ignored(item):
    with RawHost(page(item, {"conversation_id": "conv_1"})) as host:
        (found,) = client(host).pages(NOW - timedelta(days=1), NOW)

    assert [each.conversation_id for each in found] == ["conv_1"]


def test_a_page_with_more_calls_than_requested_is_an_error_of_elevenlabs():
    full = [{"conversation_id": f"conv_{n}"} for n in range(100)]
    with RawHost(page(*full)) as host:
        assert [len(found) for found in CALLS["pages"](client(host))] == [100]
    with RawHost(page(*full, None)) as host, pytest.raises(ElevenLabsError, match="more than was requested"):
        CALLS["pages"](client(host))


@pytest.mark.parametrize("cursor", [7, "c" * 4001, "\ud800"], ids=["a number", "long", "no text"])
def test_an_unusable_cursor_is_an_error_of_elevenlabs(cursor):
    with (
        RawHost(page({"conversation_id": "conv_1"}, cursor=cursor)) as host,
        pytest.raises(ElevenLabsError, match="ends too early"),
    ):
        CALLS["pages"](client(host))

    assert len(host.requests) == 1


def test_a_list_with_nothing_new_for_many_pages_is_an_error_of_elevenlabs(monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.PAGES_WITHOUT_NEW", 3)
    cursors = count()
    with (
        RawHost(lambda _: page({"conversation_id": "conv_1"}, cursor=f"c{next(cursors)}")) as host,
        pytest.raises(ElevenLabsError, match="repeats itself"),
    ):
        CALLS["pages"](client(host))

    assert len(host.requests) == 1 + 3


def test_an_endless_list_is_an_error_of_elevenlabs(monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.PAGES", 3)
    numbers = count()

    def fresh(_: str) -> bytes:
        number = next(numbers)
        return page({"conversation_id": f"conv_{number}"}, cursor=f"c{number}")

    with RawHost(fresh) as host, pytest.raises(ElevenLabsError, match="does not end"):
        CALLS["pages"](client(host))

    assert len(host.requests) == 3


@pytest.mark.parametrize(
    "wait",
    ["nan", "inf", "-5", "0", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", f"Mon, {'9' * 20} Jan 2026 00:00:00 GMT",
     f"Mon, 01 Jan 2026 00:00:00 +{'9' * 20}", "Wed, 21 Oct 2026 07:28:00 -0000 (\x1b[31m+12025550123)",
     "21 Oct 2026 07:28:00 \x9b31m", "\xb2"],
)  # fmt: skip
def test_after_a_rate_limit_with_any_wait_there_is_an_error_of_elevenlabs(wait, caplog):
    caplog.set_level(logging.WARNING)
    with RawHost(status=429, headers={"Retry-After": wait}) as host, pytest.raises(ElevenLabsError, match="429"):
        client(host).webhooks()

    assert len(host.requests) == 4
    assert caplog.text == ""


def test_retries_leave_nothing_in_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    with RawHost(status=429) as host, pytest.raises(ElevenLabsError):
        client(host).conversation("conv_1")

    assert [each for each in caplog.records if each.name.startswith("httpx_retries")] == []
