"""Lambda on loopback: a function's package under AWS's own runtime client, with nothing in reach that Lambda lacks."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Self

import pytest
from packaging.requirements import Requirement

from scripts.embedded.loopback import ProgramsOnlyHandler

ARN = "arn:aws:lambda:us-east-1:123456789012:function:packaged"
TIMEOUT_SECONDS = 900
PATIENCE_SECONDS = 60


def provide(folder: Path) -> Path:
    """Fill `folder` with what Lambda's Python has beside its own library: the runtime client, boto3, what they need."""
    if find_spec("runtime_client") is None:
        pytest.skip("AWS's runtime client is made for Linux alone")
    for name in needed("awslambdaric") | needed("boto3"):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (folder / top).symlink_to(distribution(name).locate_file(top))
    return folder


def needed(name: str) -> set[str]:
    """A distribution, and all that it requires."""
    requirements = [Requirement(each) for each in distribution(name).requires or []]
    wanted = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return {name}.union(*(needed(each) for each in wanted))


class FunctionError(Exception):
    """The function raised, or could not even be started. The text is the runtime client's report."""


class Function:
    """A package at work, in one execution environment, while the `with` block lasts."""

    def __init__(self, package: Path, handler: str, environment: Mapping[str, str], provided: Path) -> None:
        self._package, self._handler, self._environment, self._provided = package, handler, environment, provided
        self.events: Queue[bytes | None] = Queue()
        self.answers: Queue[tuple[str, Any]] = Queue()  # the last part of the path it was sent to, and the body
        self._server = _RuntimeApi(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._process = subprocess.Popen(
            # -S keeps the virtual environment out; nothing is written into the package, as on Lambda
            [sys.executable, "-S", "-B", "-P", "-m", "awslambdaric", self._handler],
            env=self._variables(),
            cwd=self._package,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self.events.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_SECONDS)

    def invoke(self, event: Any) -> Any:
        """What the handler returns. Raises FunctionError."""
        self.events.put(json.dumps(event).encode())
        kind, answer = self._answer()
        if kind != "response":
            raise FunctionError(json.dumps(answer, indent=2))
        return answer

    def _answer(self) -> tuple[str, Any]:
        for _ in range(PATIENCE_SECONDS):
            ended = self._process.poll() is not None
            try:
                return self.answers.get(timeout=0 if ended else 1)
            except Empty:
                if ended:
                    break
        raise FunctionError("The runtime client ended, or did not answer; its output says more.")

    def _variables(self) -> dict[str, str]:
        host, port = self._server.server_address[:2]
        return {
            **self._environment,
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join([str(self._package), str(self._provided)]),
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "packaged",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": str(self._package),
        }


class _RuntimeApi(ThreadingHTTPServer):
    def __init__(self, function: Function) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.function = function

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The runtime client is killed while it waits for an event."""


class _Handler(ProgramsOnlyHandler):
    """The Lambda Runtime API of 2018-06-01."""

    protocol_version = "HTTP/1.1"
    server: _RuntimeApi

    def do_GET(self) -> None:
        event = self.server.function.events.get()
        if event is None:
            self.close_connection = True
            return
        deadline = int((time.time() + TIMEOUT_SECONDS) * 1000)
        headers = {"Aws-Request-Id": "request-1", "Deadline-Ms": str(deadline), "Invoked-Function-Arn": ARN}
        self._write(200, event, {f"Lambda-Runtime-{name}": value for name, value in headers.items()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.function.answers.put((self.path.rsplit("/", 1)[1], body))
        self._write(202, b"{}")

    def _write(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")  # without it the runtime client dies
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
