"""A host on loopback that answers every request alike, with whatever bytes a test wants a client to meet."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from threading import Thread
from typing import Self

WITHOUT_END = repeat(b"[" * 65536)
DEEP = b"[" * 100_000 + b"]" * 100_000
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {  # by Content-Encoding
    "gzip, gzip": lambda body: gzip.compress(gzip.compress(body)),
    "deflate": zlib.compress,
}

Body = bytes | Iterable[bytes]


class RawHost:
    """While the `with` block lasts. `body` may be made anew for each request, from its target."""

    def __init__(
        self, body: Body | Callable[[str], Body] = b"{}", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body, self.status = body, status
        self.headers = {"Content-Type": "application/json"} | dict(headers or {})
        self.requests: list[str] = []  # methods and targets
        self.headers_received: list[Mapping[str, str]] = []  # of each request
        host = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                host.requests.append(f"{self.command} {self.path}")
                host.headers_received.append(self.headers)
                body = host.body(self.path) if callable(host.body) else host.body
                self.send_response(host.status)
                for name, value in host.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):  # the client has had enough
                    for piece in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(piece)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
