"""Servers on loopback are for programs only: no web page may read or change anything through the user's browser."""

import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]*)?", re.IGNORECASE)
REFUSAL = "This port answers programs only, not web browsers, and only under a loopback name such as 127.0.0.1."

STOP_SECONDS = 10.0

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def is_from_program(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the request comes from a program, and its Host is loopback itself.

    A Host of another name can be one that an attacker pointed to 127.0.0.1 (DNS rebinding). Current browsers send
    Sec-Fetch-Site with every request to loopback. None of its values is safe: `none` also marks a link from an e-mail
    whose site redirects to loopback. Older browsers send Origin, but not with a GET such as that of an image: they are
    recognised by other headers that a page cannot leave out.
    """
    named = [(name.lower(), value) for name, value in headers]
    hosts = [value for name, value in named if name == "host"]
    return (
        method != "OPTIONS"  # only browsers send a preflight request
        and target.startswith("/")  # an absolute target may name another host than the header
        and not any(is_browsers(name, value) for name, value in named)
        and len(hosts) == 1
        and LOOPBACK.fullmatch(hosts[0]) is not None
    )


def is_browsers(name: str, value: str) -> bool:
    """Whether only browsers send this header. The name is in lower case."""
    if name == "user-agent":
        return value.lower().startswith("mozilla/")
    return name in ("origin", "referer", "accept-language") or name.startswith("sec-")


def programs_only(app: App) -> App:
    """The ASGI application, for programs only, without the CORS headers that let web pages read its answers."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["type"] == "http" and is_from_program(scope["method"], *target_and_headers(scope)):
            await app(scope, receive, without_cors(send))
        else:
            await refuse(scope, receive, send)

    return guarded


def target_and_headers(scope: Scope) -> tuple[str, list[tuple[str, str]]]:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return scope["raw_path"].decode("latin-1"), headers


def without_cors(send: Send) -> Send:
    async def send_without(message: Any) -> None:
        kept = [each for each in message.get("headers", []) if not each[0].lower().startswith(b"access-control-")]
        await send(message | {"headers": kept} if "headers" in message else message)

    return send_without


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 403. A WebSocket is closed."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REFUSAL)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL.encode()})


class ProgramsOnlyHandler(BaseHTTPRequestHandler):
    """Handles requests of programs, and refuses those of browsers with 403."""

    error_message_format, error_content_type = "%(explain)s", "text/plain"

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if is_from_program(self.command, self.path, self.headers.items()):
            return True
        self.send_error(
            403, explain=REFUSAL
        )  # and close the connection: a body that follows must not be read as a request
        return False

    def log_message(self, format: str, *args: Any) -> None:
        pass


class OnLoopback:
    """A stand-in for an API on loopback, for the duration of a `with` block. `_server` is set by the subclass."""

    _server: "StandInServer"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End every connection, also one that hangs."""
        self._server.shutdown()
        self._thread.join(STOP_SECONDS)
        self._server.server_close()


class StandInServer(ThreadingHTTPServer):
    """A server of a stand-in for an API, with a thread for each connection."""

    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client closed the connection. Any other error is a fault of the stand-in: print it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
