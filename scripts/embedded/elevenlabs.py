"""A stand-in for the ElevenLabs API on loopback: the routes that we use, with faults that a test can plan.

Where the API's documentation does not say, the stand-in does what is harder for a client: it refuses an empty
parameter, a cursor can expire, and each page is made from the calls that exist at that moment.
"""

import json
import re
import socket
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from scripts.embedded.loopback import OnLoopback, ProgramsOnlyHandler, StandInServer

ROUTES = {
    "list": "GET /v1/convai/conversations",
    "get": "GET /v1/convai/conversations/[^/]+",
    "audio": "GET /v1/convai/conversations/[^/]+/audio",
    "delete": "DELETE /v1/convai/conversations/[^/]+",
    "webhooks": "GET /v1/workspace/webhooks",
}
REFUSALS = {"401", "403", "404", "422", "429", "500", "502", "503"}
INSTEAD = {*REFUSALS, "drop", "hang", "empty", "html"}
SENDINGS = {"ok", "slow", "cut", "truncated", "identity", "cut_identity", "processing"}
JSON, MP3 = "application/json", "audio/mpeg"
PIECE_BYTES = 64 * 1024
SLOW_PIECES, SLOW_PAUSE = 20, 0.02  # 0.4 s an answer, however long

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One call of the API."""

    method: str
    target: str  # path and query, as sent
    key: str | None
    range: str | None = None
    if_range: str | None = None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def excluded(self) -> list[str]:
        return parse_qs(urlsplit(self.target).query).get("exclude_statuses", [])

    @property
    def route(self) -> str | None:
        """A name of ROUTES, None for what the API does not have."""
        sent = f"{self.method} {self.path}"
        return next((name for name, pattern in ROUTES.items() if re.fullmatch(pattern, sent)), None)

    @property
    def conversation_id(self) -> str:
        return unquote(self.path.split("/")[4])


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = "ok"


class Refused(Exception):
    """The API answers with an error. Attribute: answer."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(f"{status} {detail}")
        self.answer = Answer(status, encode({"detail": detail}))


class ElevenLabsApi:
    """The API without a network. Tests may change its public attributes at any time."""

    def __init__(self, key: str = "xi-test") -> None:
        self.key = key
        self.conversations: dict[str, Json] = {}  # by id, in the shape of a webhook's `data`
        self.audio: dict[str, bytes] = {}  # MP3, by conversation id
        self.webhooks: Any = {"webhooks": []}
        self.has_ranges = True  # if False, a recording is always sent whole, as if the Range header were unknown
        self.requests: list[Request] = []  # refused ones too
        self.before_answer: Callable[[Request], None] | None = None  # called before the answer is made
        self._faults: dict[str, deque[str]] = {route: deque() for route in ROUTES}
        self._expiries = 0

    def add(self, conversation: Json, audio: bytes | None = None) -> None:
        self.conversations[conversation["conversation_id"]] = conversation
        if audio is not None:
            self.audio[conversation["conversation_id"]] = audio

    def plan(self, route: str, *faults: str) -> None:
        """Plan one fault for each of the next requests to a route. A request with a wrong key uses none of them.

        Faults in place of the answer: a status of REFUSALS ("429:SECONDS" sets its Retry-After, otherwise 0), "drop"
        (the connection is closed), "hang" (it stays open without an answer), "empty" and "html" (with status 200).
        Faults of an answer that was made: "slow" or "slow:PAUSE"; "cut" (closed after half the body); "truncated" (half
        the body, with a length that fits it); "identity" and "cut_identity" (audio with a Content-Length; otherwise it
        is chunked); "processing" (the conversation is not finished, whatever the list says); "ok" (no fault).
        """
        for fault in faults:
            if fault.partition(":")[0] not in INSTEAD | SENDINGS:
                raise ValueError(fault)
        self._faults[route].extend(faults)

    def expire_cursors(self) -> None:
        """From now on, refuse every cursor that was given out before."""
        self._expiries += 1

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.before_answer is not None:
            self.before_answer(request)
        fault = "ok"
        if request.key == self.key and request.route is not None:
            with suppress(IndexError):
                fault = self._faults[request.route].popleft()
        try:
            answer = replace(planned_fault(fault, request) or self._perform(request), fault=fault)
        except Refused as refused:
            return replace(refused.answer, fault=fault)
        if fault == "processing":
            return replace(answer, body=encode(json.loads(answer.body) | {"status": "processing"}))
        return answer

    def _perform(self, request: Request) -> Answer:
        if request.key != self.key:
            raise Refused(401, {"status": "invalid_api_key", "message": "Invalid API key."})
        match request.route:
            case "list":
                return Answer(200, encode(self._page(request)))
            case "get":
                return Answer(200, encode(find(self.conversations, request)))
            case "audio":
                return self._recording(find(self.audio, request), request)
            case "delete":
                find(self.conversations, request)
                del self.conversations[request.conversation_id]
                self.audio.pop(request.conversation_id, None)
                return Answer(200, b"{}")
            case "webhooks":
                return Answer(200, encode(self.webhooks))
        raise Refused(404, "Not Found")

    def _recording(self, audio: bytes, request: Request) -> Answer:
        """The whole recording, or the part from the requested byte on if the recording has not changed."""
        etag = f'"{sha256(audio).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", request.range or "")
        if not (asked and self.has_ranges and request.if_range in (None, etag)):
            return Answer(200, audio, MP3, {"ETag": etag} if self.has_ranges else {})
        start = int(asked[1])
        if start >= len(audio):
            raise Refused(416, "Range Not Satisfiable")
        part = {"ETag": etag, "Content-Range": f"bytes {start}-{len(audio) - 1}/{len(audio)}"}
        return Answer(206, audio[start:], MP3, part)

    def _page(self, request: Request) -> Json:
        """The calls after the cursor. The call that the cursor names may have been deleted."""
        size, newest_first = number(request, "page_size", 30, 1, 100), request.query.get("sort_direction") != "asc"
        items = sorted(self._selected(request), key=place, reverse=newest_first)
        if "cursor" in request.query:
            last = self._read_cursor(request.query["cursor"])
            items = [each for each in items if (place(each) < last if newest_first else place(each) > last)]
        cursor = self._cursor(items[size - 1]) if len(items) > size else None
        return {"conversations": items[:size], "next_cursor": cursor, "has_more": cursor is not None}

    def _selected(self, request: Request) -> list[Json]:
        after = number(request, "call_start_after_unix", 0)
        before = number(request, "call_start_before_unix", sys.maxsize)
        agent, excluded = request.query.get("agent_id"), request.excluded
        return [
            each
            for each in map(item, list(self.conversations.values()))
            if after <= each["start_time_unix_secs"] <= before
            and agent in (None, each["agent_id"])
            and each["status"] not in excluded
        ]

    def _cursor(self, item: Json) -> str:
        start, conversation_id = place(item)
        return urlsafe_b64encode(f"{self._expiries} {start} {conversation_id}".encode()).decode()

    def _read_cursor(self, cursor: str) -> tuple[int, str]:
        with suppress(ValueError):
            expiries, start, conversation_id = urlsafe_b64decode(cursor).decode().split(" ", 2)
            if int(expiries) == self._expiries:
                return int(start), conversation_id
        raise Refused(400, {"status": "invalid_cursor", "message": "The cursor is invalid or has expired."})


class ElevenLabs(OnLoopback, ElevenLabsApi):
    """The API on loopback, for the duration of a `with` block."""

    def __init__(self, key: str = "xi-test", *, port: int = 0) -> None:
        super().__init__(key)
        self._server = _Server(self, port)
        self.url = self._server.url


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def planned_fault(fault: str, request: Request) -> Answer | None:
    """The answer that a fault gives in place of the API; None if the API answers."""
    name, _, seconds = fault.partition(":")
    if name in REFUSALS:
        headers = {"Retry-After": seconds or "0"} if name == "429" else {}
        return Answer(int(name), encode({"detail": {"status": "planned", "message": "As planned."}}), headers=headers)
    if name == "html":
        return Answer(200, b"<html>not what you asked for</html>", "text/html")
    return Answer(200, b"", MP3 if request.route == "audio" else JSON) if name in INSTEAD else None


def find(known: dict[str, Any], request: Request) -> Any:
    """Raises Refused with 404 if there is no such conversation."""
    if request.conversation_id not in known:
        raise Refused(404, {"status": "conversation_not_found", "message": "Conversation not found."})
    return known[request.conversation_id]


def item(conversation: Json) -> Json:
    """A conversation as the list shows it: without a phone number."""
    metadata, analysis = (conversation.get(name) or {} for name in ("metadata", "analysis"))
    return {
        "agent_id": conversation.get("agent_id"),
        "conversation_id": conversation["conversation_id"],
        "start_time_unix_secs": metadata.get("start_time_unix_secs") or 0,
        "call_duration_secs": metadata.get("call_duration_secs") or 0,
        "message_count": len(conversation.get("transcript") or []),
        "status": conversation.get("status"),
        "call_successful": analysis.get("call_successful"),
        "direction": (metadata.get("phone_call") or {}).get("direction"),
    }


def place(item: Json) -> tuple[int, str]:
    return item["start_time_unix_secs"], item["conversation_id"]


def number(request: Request, name: str, default: int, low: int = 0, high: int = sys.maxsize) -> int:
    """The query's number. Raises Refused with 422 unless it is a number from `low` to `high`."""
    with suppress(ValueError):
        if low <= (value := int(request.query.get(name, default))) <= high:
            return value
    raise Refused(422, [{"loc": ["query", name], "msg": "Input should be a valid number", "type": "value_error"}])


class _Handler(ProgramsOnlyHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a small answer is one packet; two packets cost 40 ms on loopback
    disable_nagle_algorithm = True
    server: "_Server"

    def handle_call(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = (self.headers.get(name) for name in ("xi-api-key", "Range", "If-Range"))
        answer = self.server.api.answer(Request(self.command, self.path, *sent))
        if answer.fault == "hang":
            self.connection.recv(1)  # waits until one side closes the connection
        self.close_connection |= answer.fault in ("hang", "drop", "cut", "cut_identity")
        if answer.fault not in ("hang", "drop"):
            self.write(answer)

    do_GET = do_DELETE = do_POST = do_PUT = do_PATCH = handle_call

    def write(self, answer: Answer) -> None:
        body, half = memoryview(answer.body), len(answer.body) // 2
        chunked = answer.type == MP3 and not answer.fault.endswith("identity")
        if answer.fault == "truncated":
            body = body[:half]
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
        self.send_response(answer.status)
        for name, value in ({"Content-Type": answer.type} | framing | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        cut = answer.fault.startswith("cut")
        self.write_body(body[:half] if cut else body, chunked, answer.fault)
        if chunked and not cut:
            self.wfile.write(b"0\r\n\r\n")

    def write_body(self, body: memoryview, chunked: bool, fault: str) -> None:
        name, _, pause = fault.partition(":")
        size = len(body) // SLOW_PIECES + 1 if name == "slow" else PIECE_BYTES
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            self.wfile.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"] if chunked else [piece])
            if name == "slow":
                self.wfile.flush()
                time.sleep(float(pause or SLOW_PAUSE))


class _Server(StandInServer):
    def __init__(self, api: ElevenLabsApi, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.api = api
        self.connections: list[socket.socket] = []  # closed ones too

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        for connection in self.connections:
            with suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()
