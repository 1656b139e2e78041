"""The page of web/ on loopback, with the API under /api, which is asked with the operator's credentials."""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from scripts.api_client import Answer, Api, problem
from scripts.aws_session import explained

WEB = Path(__file__).parents[1] / "web"
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
    ".png": "image/png", ".ico": "image/x-icon", ".json": "application/json", ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}  # fmt: skip
# The page's own policy is in its <meta>; a page cannot say in it who may frame it.
HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}  # fmt: skip
POLICY = re.compile(r"<meta[^>]*http-equiv=\"Content-Security-Policy\"[^>]*content=\"([^\"]+)\"", re.IGNORECASE)
OF_FILES = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Content-Disposition", "ETag")
FILE_SECONDS, STOP_SECONDS = 30.0, 10.0


class Page:
    """The page for the duration of a `with` block. Port 0 means any free port; OSError if it is in use.

    A browser may not ask the embedded AWS. So recordings in its `bucket_url` are handed on, under /files.
    """

    def __init__(self, api: Api, port: int = 0, web: Path = WEB, bucket_url: str = "") -> None:
        self._server = Server(api, port, web, bucket_url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(STOP_SECONDS)
        self._server.server_close()


# Nothing else is signed: no dots, which another server could read as a way to elsewhere.
API_PATH = re.compile(r"/api/(?:calls|callers|search|stats)(?:/(?:[A-Za-z0-9_+-]|%2[Bb])+)*")


class Server(ThreadingHTTPServer):
    daemon_threads = True  # a recording that is still being played does not hold up the end

    def __init__(self, api: Api, port: int, web: Path, bucket_url: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.api, self.bucket_url = api, bucket_url
        self.files = {f"/{file.relative_to(web).as_posix()}": file for file in web.rglob("*") if file.is_file()}
        self.files["/"] = web / "index.html"

    @property
    def policy(self) -> str:
        found = POLICY.search(self.files["/"].read_text())
        return f"{found[1].rstrip('; ')}; frame-ancestors 'none'" if found else "default-src 'none'"

    @property
    def hosts(self) -> set[str]:
        return {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when the browser closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; the base class answers all other methods with 501."""

    server: Server
    server_version, sys_version = "page", ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self.is_ours(path):
            self.send(problem(403, "This page answers only its own requests, under 127.0.0.1 or localhost."))
        elif API_PATH.fullmatch(path):
            self.send(self.ask(self.path.removeprefix("/api")))
        elif self.server.bucket_url and path.startswith("/files/"):
            self.hand_on(self.path.removeprefix("/files"))
        elif file := self.server.files.get(path):
            self.send(Answer(200, file.read_bytes(), TYPES.get(file.suffix, "application/octet-stream")))
        else:
            self.send(problem(404, "There is nothing at this address."))

    do_HEAD = do_GET

    def is_ours(self, path: str) -> bool:
        """Whether no other site can have caused the request, and none can read its answer.

        A Host of another name can be one that an attacker pointed to 127.0.0.1 (DNS rebinding). Opening the page by a
        link is harmless, but only the page itself may ask for calls.
        """
        hosts, origin = self.headers.get_all("Host", []), self.headers.get("Origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts or not self.path.startswith("/"):
            return False
        is_data = path.startswith(("/api/", "/files/"))
        asked_by = self.headers.get("Sec-Fetch-Site", "none")
        return origin in (None, f"http://{hosts[0]}") and (not is_data or asked_by in ("same-origin", "none"))

    def ask(self, target: str) -> Answer:
        try:
            answer = self.server.api.get(target)
        except (BotoCoreError, ClientError) as error:
            return problem(502, str(explained(error)))
        if self.server.bucket_url and answer.status == 200 and target.partition("?")[0].endswith(("/audio", "/json")):
            signed = answer.json
            url = signed["url"].replace(f"{self.server.bucket_url}/", f"http://{self.headers['Host']}/files/", 1)
            return Answer(200, json.dumps(signed | {"url": url}).encode(), answer.content_type)
        return answer

    def send(self, answer: Answer) -> None:
        self.begin(answer.status, {"Content-Type": answer.content_type, "Content-Length": str(len(answer.content))})
        if self.command == "GET":
            self.wfile.write(answer.content)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Security-Policy": self.server.policy} | HEADERS | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def hand_on(self, target: str) -> None:
        """Answer with a part of an object, whose address is signed, or with all of it."""
        bucket = urlsplit(self.server.bucket_url)
        asked = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
        with closing(HTTPConnection(str(bucket.hostname), bucket.port, timeout=FILE_SECONDS)) as connection:
            try:
                connection.request("GET", bucket.path + target, headers=asked)
                response = connection.getresponse()
            except OSError:
                self.send(problem(502, "The recordings cannot be reached. Does make local still run?"))
                return
            self.begin(response.status, {name: value for name in OF_FILES if (value := response.getheader(name))})
            if self.command == "GET":
                shutil.copyfileobj(response, self.wfile)

    def log_message(self, format: str, *args: Any) -> None:
        pass
