"""A stand-in of the API and of S3's signed URLs on loopback, which serves web/ too, over generated calls."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from threading import Thread
from time import sleep, time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

from scripts.demo.calls import mp3
from shared.texts import fold, needles
from tests.web.calls import Call, generated, transcript

WEB = Path(__file__).parent.parent.parent / "web"
recording = cache(mp3)


def policy() -> str:
    """The Content-Security-Policy that index.html names, as a server sends it."""
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', (WEB / "index.html").read_text())
    assert found
    return f"{found[1]}; frame-ancestors 'none'"


class Fault(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.body = status, {"type": "about:blank", "title": title, "status": status, "detail": detail}


class StandIn(ThreadingHTTPServer):
    """`faults` are answered instead of what is asked for, by path; `requests` are the paths that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.calls = generated(datetime.now(timezone.utc))
        self.forget()

    def forget(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.requests: list[str] = []
        self.test = uuid4().hex  # which test asks: what an earlier one asked may still arrive
        self.hidden: set[str] = set()  # conversation_ids that no list has
        self.looks_at = 60  # calls a page looks at: filters that match little get short pages, as with the real API
        self.late = False  # searches and statistics take longer than one answer
        self.url_seconds = 900.0
        self.may = {"hear": True, "numbers": True}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when the browser closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listed(self) -> list[Call]:
        return [call for call in self.calls if call["conversation_id"] not in self.hidden]

    def call(self, conversation_id: str) -> Call:
        for call in self.calls:
            if call["conversation_id"] == conversation_id:
                return call
        raise Fault(404, "Not found", "There is no call of this id.")

    def answer(self, path: list[str], query: dict[str, list[str]]) -> Any:
        match path:
            case ["calls"]:
                return self.page(self.listed(), query)
            case ["calls", conversation_id]:
                return self.call(conversation_id) | {"may": self.may}
            case ["calls", conversation_id, "transcript"]:
                return {"turns": transcript(self.call(conversation_id))}
            case ["calls", conversation_id, "audio" | "json" as kind]:
                return self.signed(self.call(conversation_id), kind, query)
            case ["callers", number]:
                return self.caller(number, query)
            case ["search"]:
                return self.search(query)
            case ["stats"]:
                return self.statistics(query)
        raise Fault(404, "Not found", "There is no such route.")

    def page(self, calls: list[Call], query: dict[str, list[str]]) -> dict[str, Any]:
        start, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["50"])[0])
        found = []
        for place, call in enumerate(calls[start : start + self.looks_at], start + 1):  # noqa: B007
            found += [row(call)] if matches(call, query) else []
            if len(found) == limit:
                break
        return {"calls": found, "next": str(place) if calls[start:] and place < len(calls) else None}

    def signed(self, call: Call, kind: str, query: dict[str, list[str]]) -> dict[str, Any]:
        expires = time() + self.url_seconds
        name = f"{call['conversation_id']}.{'mp3' if kind == 'audio' else 'json'}"
        url = f"{self.url}/media/{name}?expires={expires}{'&download=1' if 'download' in query else ''}"
        at = datetime.fromtimestamp(expires, timezone.utc).isoformat()
        return {"url": url, "expires_at": at, "content_type": "audio/mpeg" if kind == "audio" else "application/json"}

    def caller(self, number: str, query: dict[str, list[str]]) -> dict[str, Any]:
        calls = [call for call in self.listed() if digits(call["caller"] or "") == digits(number)]
        if number == "+12025550199":
            return self.page(calls, query) | {
                "caller": number,
                "memories": None,
                "memories_note": "Mem0 did not answer.",
            }
        memories = [
            {"type": "semantic", "text": "Has a dog named Biscuit.", "at": calls[0]["started_at"],
             "conversation_id": calls[0]["conversation_id"]},
            {"type": "factual", "text": calls[0]["summary"], "at": calls[0]["started_at"],
             "conversation_id": calls[0]["conversation_id"]},
        ] if calls else []  # fmt: skip
        return self.page(calls, query) | {"caller": number, "memories": memories, "memories_note": ""}

    def statistics(self, query: dict[str, list[str]]) -> dict[str, Any]:
        if self.is_late(query):
            return {"rows": [], "next": "later", "bytes": 0}
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for call in (each for each in self.listed() if matches(each, query)):
            count(rows.setdefault((call["started_at"][:10], call["agent_id"]), {}), call)
        found = [{"day": day, "agent_id": agent} | values for (day, agent), values in rows.items()]
        return {"rows": found, "next": None, "bytes": 20_000}

    def is_late(self, query: dict[str, list[str]]) -> bool:
        """Whether the answer comes only when it is asked for again."""
        return self.late and "cursor" not in query

    def search(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Turns in pages of ten. The words of one call are in cold storage."""
        now = datetime.now(timezone.utc)
        searched = {"from": "2020-01-01T00:00:00Z", "to": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "bytes": 1_234_567}
        if self.is_late(query):
            return {"hits": [], "next": "0", "searched": searched | {"from": "2026-01-01T00:00:00Z"}}
        calls = [each for each in self.listed() if matches(each, {k: v for k, v in query.items() if k != "text"})]
        hits = [
            {name: call[name] for name in ("conversation_id", "caller", "agent_id", "started_at", "title")}
            | {name: turn[name] for name in ("index", "at_secs", "role", "message")} | {"reason": None}
            for call in calls for turn in transcript(call)
            if all(needle in fold(turn["message"] or "") for needle in needles(query["q"][0]))
            and query.get("role", [turn["role"]]) == [turn["role"]]
        ]  # fmt: skip
        cold = {"message": None, "role": None, "at_secs": None, "reason": "The transcript is in cold storage."}
        hits = [hit | (cold if hit["conversation_id"] == "conv_silent" else {}) for hit in hits]
        start = int(query.get("cursor", ["0"])[0])
        following = str(start + 10) if start + 10 < len(hits) else None
        return {"hits": hits[start : start + 10], "next": following, "searched": searched}


def count(values: dict[str, Any], call: Call) -> None:
    for name in ("calls", "minutes", "success", "failure", "unknown", "with_audio", "cost"):
        values.setdefault(name, 0)
    values["calls"] += 1
    values["minutes"] = round(values["minutes"] + call["duration_secs"] / 60, 2)
    values[call["outcome"] or "unknown"] += 1
    values["with_audio"] += call["audio"] == "archived"
    values["cost"] += call["cost"] or 0
    values["timed"] = values["calls"]
    values["average_secs"] = round(values["minutes"] * 60 / values["calls"], 1)


DETAILS = ("origin", "direction", "language", "termination_reason", "evaluation", "collected", "memories", "files")


def row(call: Call) -> Call:
    return {name: value for name, value in call.items() if name not in {*DETAILS, "completeness"}}


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def matches(call: Call, query: dict[str, list[str]]) -> bool:
    one = {name: values[0] for name, values in query.items()}
    moment = datetime.fromisoformat
    text = f"{call['title']} {call['summary']}".lower()
    return (
        digits(one.get("caller", "")) in ("", digits(call["caller"] or ""))
        and call["agent_id"] in query.get("agent", [call["agent_id"]])
        and moment(one.get("from", "2000-01-01T00:00Z")) <= moment(call["started_at"])
        and moment(one.get("to", "2100-01-01T00:00Z")) >= moment(call["started_at"])
        and int(one.get("min_seconds", 0)) <= call["duration_secs"] <= int(one.get("max_seconds", 99999))
        and one.get("outcome", call["outcome"]) == call["outcome"]
        and one.get("audio", call["audio"]) == call["audio"]
        and all(word in text for word in one.get("text", "").lower().split())
    )


class Answer(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.headers.get("X-Test") == self.server.test:
            self.server.requests.append(self.path)
        first, *rest = [unquote(part) for part in url.path.strip("/").split("/")]
        if first == "api":
            self.api(url.path, rest, parse_qs(url.query))
        elif first == "media":
            self.media(rest[0], parse_qs(url.query))
        else:
            self.file(url.path.strip("/") or "index.html")

    def api(self, whole: str, path: list[str], query: dict[str, list[str]]) -> None:
        try:
            if fault := self.server.faults.get(whole):
                raise fault
            self.send(200, json.dumps(self.server.answer(path, query)).encode(), "application/json")
        except Fault as fault:
            self.send(fault.status, json.dumps(fault.body).encode(), "application/problem+json")

    def media(self, name: str, query: dict[str, list[str]]) -> None:
        call = self.server.call(name.split(".")[0])
        if float(query["expires"][0]) < time():
            return self.send(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
        as_file = {"Content-Disposition": f'attachment; filename="{name}"'} if "download" in query else {}
        if name.endswith(".json"):
            return self.send(200, json.dumps(call).encode(), "application/json", as_file)
        body = recording(call["duration_secs"])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.send(200, body, "audio/mpeg", as_file | {"Accept-Ranges": "bytes"})
        start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        return self.send(
            206, body[start : end + 1], "audio/mpeg",
            {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{end}/{len(body)}"},
        )  # fmt: skip

    def file(self, name: str) -> None:
        path = (WEB / name).resolve()
        if not path.is_file() or not path.is_relative_to(WEB):
            return self.send(404, b"", "text/plain")
        kind = "text/javascript" if path.suffix == ".js" else guess_type(name)[0] or "text/plain"
        return self.send(200, path.read_bytes(), kind, {"Content-Security-Policy": policy()})

    def send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            named = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
            for name, value in (named | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # browsers end the download of a recording as soon as they have enough
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def standing_in() -> Iterator[StandIn]:
    with StandIn() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


if __name__ == "__main__":
    with standing_in() as server:
        print(server.url, flush=True)  # noqa: T201
        sleep(3600)
