"""`ops send`: what is posted, and what an operator is told of the answer."""

import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ingest.handler import receive
from shared.errors import SignatureError
from tests.conftest import Stack
from tests.scripts.operations.conftest import deploy_outputs

ROOT = Path(__file__).parents[3]
PAYLOAD = '{"type": "post_call_transcription",\r\n "data": {"name": "Zoë"} }\n'.encode()


class Endpoint(ThreadingHTTPServer):
    """Ingest over HTTP, in front of the resources in moto; with `is_ingest` off it gives `answer`, or hangs up."""

    is_ingest = True
    answer: tuple[int, bytes] | None = None

    def receive(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        if not self.is_ingest:
            return self.answer
        event = {"headers": headers, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}
        try:
            return 200, json.dumps({"delivery_id": receive(event, datetime.now(timezone.utc))[0]}).encode()
        except SignatureError:
            return 401, b"{}"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        answer = self.server.receive(dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
        if answer:
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(stack: Stack) -> Iterator[Endpoint]:
    """The endpoint of the stack `calls`."""
    with Endpoint(("127.0.0.1", 0), Handler) as server:
        deploy_outputs(stack.outputs | {"PostCallUrl": f"http://127.0.0.1:{server.server_port}/post-call"})
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "payload.json"
    path.write_bytes(PAYLOAD)
    return path


@pytest.fixture
def send(run_ops: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr."""
    return lambda *words: run_ops("send", *map(str, words))


def staged(aws: Stack) -> list[bytes]:
    return [aws.body(key) for key in aws.object_keys("staging/")]


def test_a_payload_is_taken_in_byte_for_byte(aws, endpoint, file, send):
    code, out, err = send(file, "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "http_status": 200,
        "delivery_id": hashlib.sha256(PAYLOAD).hexdigest(),
        "size_bytes": len(PAYLOAD),
        "meaning": "stored and queued: the archiver takes it from here",
    }
    assert staged(aws) == [PAYLOAD]


def test_people_read_where_it_was_sent_and_its_delivery_id(endpoint, file, send):
    _, out, _ = send(file)

    assert out.startswith(f"Sent to http://127.0.0.1:{endpoint.server_port}/post-call")
    assert hashlib.sha256(PAYLOAD).hexdigest()[:12] in out


def test_a_payload_may_come_from_stdin(aws, endpoint, send, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PAYLOAD)))

    code, _, _ = send("-")

    assert (code, staged(aws)) == (0, [PAYLOAD])


@pytest.mark.parametrize("body", [b"not JSON", b"\xff", b"[" * 100_000], ids=["text", "no text", "deep"])
def test_what_is_no_json_is_sent_with_a_warning(aws, endpoint, file, send, body):
    file.write_bytes(body)

    code, out, err = send(file, "--json")

    assert (code, json.loads(out)["http_status"]) == (0, 200)
    assert err == "This is not JSON. It is sent nevertheless: ingest stores it, and its message goes to ArchiveDlq.\n"
    assert staged(aws) == [body]


@pytest.mark.parametrize(
    ("age", "code"), [("3500", 0), ("3700", 1), ("-200", 0), ("-400", 1)], ids=["old", "too old", "early", "too early"]
)
def test_it_is_signed_as_of_the_time_that_is_asked_for(aws, endpoint, file, send, age, code):
    found, out, _ = send(file, "--age", age, "--json")

    assert found == code
    assert len(staged(aws)) == (0 if code else 1)
    if code:
        answer = json.loads(out)
        assert (answer["http_status"], answer["delivery_id"]) == (401, None)
        assert answer["meaning"].startswith("refused, nothing is stored: the signature is too old or from the future")


@pytest.mark.parametrize(
    ("status", "content", "meaning"),
    [
        (413, b'{"message": "Request Entity Too Large"}', "refused, nothing is stored: a body may have at most 6 MB"),
        (
            429,
            b'{"message": "Too Many Requests"}',
            "refused, nothing is stored: the endpoint gets too many webhooks",
        ),
        (503, b'{"error": "..."}', "not accepted: ingest could not reach S3, SQS or the secret"),
        (502, b"<html>Bad Gateway</html>", "this is not an answer of ingest"),
        (201, b'["stored"]', "this is not an answer of ingest"),
    ],
)
def test_every_other_answer_is_explained_and_no_success(endpoint, file, send, status, content, meaning):
    endpoint.is_ingest, endpoint.answer = False, (status, content)

    code, out, _ = send(file, "--json")

    answer = json.loads(out)
    assert (code, answer["http_status"], answer["delivery_id"]) == (1, status, None)
    assert answer["meaning"].startswith(meaning)


def test_an_endpoint_out_of_reach_is_named(stack, file, send):
    deploy_outputs(stack.outputs | {"PostCallUrl": "http://127.0.0.1:9/post-call"})

    code, out, err = send(file)

    assert (code, out) == (1, "")
    assert err.startswith("The endpoint http://127.0.0.1:9/post-call cannot be reached: [Errno ")


def test_without_an_answer_nobody_knows_whether_it_is_stored(endpoint, file, send):
    endpoint.is_ingest = False

    code, out, err = send(file)

    assert (code, out) == (1, "")
    assert err.startswith(f"No answer from http://127.0.0.1:{endpoint.server_port}/post-call: Server disconnected")
    assert err.endswith("The webhook may be stored nevertheless. To send it again does no harm.\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.json", "There is no file {}."),
        ("empty.json", "{} is empty: there is nothing to send."),
        (".", "{} cannot be read: Is a directory."),
    ],
)
def test_a_file_without_a_payload_is_not_sent(tmp_path, send, name, said):
    (tmp_path / "empty.json").touch()
    path = tmp_path / name

    code, out, err = send(path)

    assert (code, out, err) == (2, "", said.format(path) + "\n")


def test_the_example_in_its_help_names_a_payload_that_is_there(send):
    code, out, _ = send("--help")

    example = re.findall(r"Example: ops --local send (\S+)", out)
    assert code == 0
    assert [json.loads((ROOT / path).read_bytes())["type"] for path in example] == ["post_call_transcription"]
