"""Mem0's and ElevenLabs' APIs in process: what the functions' HTTP clients send goes to the stand-ins' own logic."""

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx

from scripts.embedded import elevenlabs
from tests import mem0_stand_in
from tests.faults.simulator.patching import put

MEM0, ELEVENLABS = "http://127.0.0.1:9", "http://127.0.0.1:8"
Call = Callable[[str, str, httpx.Request, Callable[[], httpx.Response]], httpx.Response]


@contextlib.contextmanager
def hosts(mem0: mem0_stand_in.Mem0Api, api: elevenlabs.ElevenLabsApi, call: Call) -> Iterator[None]:
    """Replace httpx's transport: `call` decides what becomes of each request. No connection is ever made."""

    def handle(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if str(request.url).startswith(MEM0):
            asked = mem0_request(request)
            return call("mem0", asked.route[0], request, partial(answer_mem0, mem0, asked))
        sent = elevenlabs_request(request)
        return call("elevenlabs", sent.route or "", request, partial(answer_elevenlabs, api, sent))

    transport: Any = httpx.HTTPTransport
    nothing = lambda *_, **__: None  # noqa: E731 (its own would make a TLS context, which takes longer than a schedule)
    with contextlib.ExitStack() as stack:
        for name, value in (("__init__", nothing), ("handle_request", handle), ("close", nothing)):
            put(stack, transport, name, value)
        yield


def mem0_request(request: httpx.Request) -> mem0_stand_in.Request:
    body = request.read()
    target, key = request.url.raw_path.decode(), request.headers.get("Authorization")
    return mem0_stand_in.Request(request.method, target, key, json.loads(body) if body else None)


def answer_mem0(mem0: mem0_stand_in.Mem0Api, request: mem0_stand_in.Request) -> httpx.Response:
    answer = mem0.answer(request)
    assert answer, "the simulator plans its faults itself"
    return httpx.Response(answer.status, headers=answer.headers, stream=Pieces(json.dumps(answer.body).encode()))


def elevenlabs_request(request: httpx.Request) -> elevenlabs.Request:
    headers = [request.headers.get(name) for name in ("xi-api-key", "Range", "If-Range")]
    return elevenlabs.Request(request.method, request.url.raw_path.decode(), *headers)


def answer_elevenlabs(api: elevenlabs.ElevenLabsApi, request: elevenlabs.Request) -> httpx.Response:
    answer = api.answer(request)
    headers = {"Content-Type": answer.type} | answer.headers
    return httpx.Response(answer.status, headers=headers, stream=Pieces(answer.body))


class Pieces(httpx.SyncByteStream):
    """An answer's body. With `is_broken` the connection ends in the middle of it."""

    def __init__(self, content: bytes, is_broken: bool = False) -> None:
        self._content, self._is_broken = content, is_broken

    def __iter__(self) -> Iterator[bytes]:
        if self._is_broken:
            yield self._content[: len(self._content) // 2]
            raise httpx.RemoteProtocolError("planned")
        yield self._content

    def broken(self) -> "Pieces":
        return Pieces(self._content, is_broken=True)


Effect = Callable[[], httpx.Response]


def _not_connected(request: httpx.Request, _: Effect) -> httpx.Response:
    raise httpx.ConnectError("planned", request=request)


def _no_answer(request: httpx.Request, effect: Effect) -> httpx.Response:
    effect()
    raise httpx.ReadTimeout("planned", request=request)


def _too_late(request: httpx.Request, _: Effect) -> httpx.Response:
    raise httpx.ReadTimeout("planned", request=request)


def _error_after(_: httpx.Request, effect: Effect) -> httpx.Response:
    effect()
    return _refused(500)


def _broken_off(_: httpx.Request, effect: Effect) -> httpx.Response:
    answer = effect()
    assert isinstance(answer.stream, Pieces)
    answer.stream = answer.stream.broken()
    return answer


def _refused(status: int) -> httpx.Response:
    headers = {"Retry-After": "2"} if status == 429 else {}
    return httpx.Response(status, headers=headers, stream=Pieces(b'{"detail":"planned"}'))


HOST_FAULTS: dict[str, Callable[[httpx.Request, Effect], httpx.Response]] = {
    "before": _not_connected, "after": _no_answer, "error_before": lambda *_: _refused(503),
    "error_after": _error_after, "throttled": lambda *_: _refused(429), "denied": lambda *_: _refused(401),
    "broken_off": _broken_off, "too_late": _too_late,
}  # fmt: skip
