"""The hosted Mem0 API on loopback, as far as we use it, with faults to order. The real mem0.MemoryClient works on it.

Its shapes are those of Mem0's openapi.json and of what mem0ai 2.2.1 sends and reads. Where neither tells, it takes the
side that is harder on a client: newest first, 404 for a page too far and for an unknown user, HTML with a 500.
"""

import json
import math
import re
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from threading import Event as Signal
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from uuid import uuid4

from scripts.embedded.loopback import OnLoopback, ProgramsOnlyHandler, StandInServer

ROUTES = {
    "ping": ("GET", "/v1/ping/"),
    "add": ("POST", "/v3/memories/add/"),
    "event": ("GET", "/v1/event/([^/]+)/"),
    "list": ("POST", "/v3/memories/"),
    "search": ("POST", "/v3/memories/search/"),
    "delete_all": ("DELETE", "/v1/memories/"),
    "delete": ("DELETE", "/v1/memories/([^/]+)/"),
    "delete_user": ("DELETE", "/v2/entities/([^/]+)/([^/]+)/"),
    "users": ("GET", "/v1/entities/"),
}
REFUSALS = {"refuse": 429, "bad": 400, "unauthorised": 401, "forbidden": 403, "invalid": 422}
FAULTS = {*REFUSALS, "ok", "error_before", "error_after", "drop_before", "drop_after", "hang_after"}
OUTCOMES = {"SUCCEEDED", "FAILED", "empty", "slow", "running"}
ENTITIES = ("user_id", "agent_id", "app_id", "run_id")
PAGE, LARGEST_PAGE = 100, 200
SLOW_SECONDS = 60  # a slow event that nobody polls succeeds all the same

Memory = dict[str, Any]


@dataclass
class Request:
    """One call of the API, taken apart."""

    method: str
    target: str  # path and query, as sent
    authorization: str | None
    body: Any

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def route(self) -> tuple[str, list[str]]:
        """The route's name and the path's variable segments. Raises Refused for a path the API does not have."""
        path = urlsplit(self.target).path
        for name, (method, pattern) in ROUTES.items():
            if method == self.method and (match := re.fullmatch(pattern, path)):
                return name, [unquote(segment) for segment in match.groups()]
        raise Refused(404, {"detail": "Not found."})


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The API answers with an error. Attribute: answer."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.answer = Answer(status, body, headers or {})


@dataclass
class Event:
    """An accepted add or deletion, and the memories that it leaves once it has succeeded."""

    id: str
    body: Any
    due: float  # on the clock; pending before
    created_at: str
    kind: str = "ADD"
    outcome: str = "SUCCEEDED"
    memories: list[Memory] = field(default_factory=list)
    polls: int = 0
    settled: bool = False

    def status(self, now: float) -> str:
        name, number = parse(self.outcome)
        waits = name in ("slow", "running") and self.polls <= (number or 0) and now < self.due + SLOW_SECONDS
        if not self.settled and (now < self.due or waits):
            return "RUNNING" if name == "running" else "PENDING"
        self.settled = True
        return "FAILED" if name == "FAILED" else "SUCCEEDED"

    def visible(self, now: float) -> list[Memory]:
        return self.memories if self.status(now) == "SUCCEEDED" else []

    def results(self) -> list[dict[str, Any]]:
        return [{"id": each["id"], "event": "ADD", "data": {"memory": each["memory"]}} for each in self.memories]


class Mem0Api:
    """The API without a network. An add is worked off `delay` seconds later, on `clock`.

    Until then its event is pending and no listing shows it, not even an add without inference, which is answered at
    once. Sent again it is done again. With inference it leaves the first sentence of each user message.
    """

    def __init__(
        self, key: str = "m0-test", *, delay: float = 0, clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        make_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:  # fmt: skip
        self.key, self.delay, self._clock, self._now, self._make_id = key, delay, clock, now, make_id
        self.url = ""
        self.requests: list[tuple[str, str, Any]] = []  # method, path with query, body; refused ones too
        self._events: dict[str, Event] = {}
        self._faults: dict[tuple[str, str | None], deque[str]] = defaultdict(deque)
        self._outcomes: dict[str | None, deque[str]] = defaultdict(deque)
        self._lock, self.closing = Lock(), Signal()

    # What tests order and look at

    def plan(self, *faults: str, route: str = "add", type: str | None = None) -> None:
        """What happens to the next calls of a route, one each; with `type`, to the next adds of that type.

        "ok"; "refuse" or "refuse:SECONDS" (429); "bad" 400, "unauthorised" 401, "forbidden" 403, "invalid" 422; then
        with nothing done or all of it: "error_before" and "error_after" (500), "drop_before" and "drop_after" (closed
        without an answer), "hang_after" or "hang_after:SECONDS" (answered late). A wrong key uses none of them up.
        """
        check(faults, FAULTS)
        if route not in ROUTES:
            raise ValueError(route)
        with self._lock:
            self._faults[route, type].extend(faults)

    def plan_events(self, *outcomes: str, type: str | None = None) -> None:
        """What becomes of the next adds with inference, one each; with `type`, of those of that type.

        "SUCCEEDED", "FAILED", "empty" (SUCCEEDED, no results), "slow:N" (PENDING for N polls or SLOW_SECONDS, then
        SUCCEEDED), "running:N" (the same, but RUNNING).
        """
        check(outcomes, OUTCOMES)
        with self._lock:
            self._outcomes[type].extend(outcomes)

    def settle(self) -> None:
        """Work off now whatever is pending."""
        with self._lock:
            for event in self._events.values():
                event.settled = True

    def resume(self) -> None:
        """Be as if all adds were still pending; `settle` works them off."""
        with self._lock:
            for event in self._events.values():
                event.settled, event.due = False, math.inf

    def memories(self, user_id: str) -> list[Memory]:
        """What is stored and visible of a user, oldest first."""
        with self._lock:
            return [dict(each) for each in self._visible() if each["user_id"] == user_id]

    def adds(self, conversation_id: str, type: str) -> int:
        """How many adds took effect, or will when they are worked off: all that were accepted and did not fail."""
        return sum(outcome != "FAILED" for outcome in self.outcomes(conversation_id, type))

    def outcomes(self, conversation_id: str, type: str) -> list[str]:
        """What became of each add that was accepted, or will when it is worked off: an outcome of `plan_events`."""
        wanted = {"conversation_id": conversation_id, "type": type}
        with self._lock:
            events = [event for event in self._events.values() if event.kind == "ADD"]
            return [event.outcome for event in events if wanted.items() <= metadata(event.body).items()]

    def accepted(self, conversation_id: str) -> list[dict[str, Any]]:
        """The bodies of the adds that were accepted for a call."""
        with self._lock:
            bodies = [event.body for event in self._events.values() if event.kind == "ADD"]
            return [body for body in bodies if metadata(body).get("conversation_id") == conversation_id]

    def all_memories(self) -> list[Memory]:
        """What is stored and visible of all users."""
        with self._lock:
            return [dict(each) for each in self._visible()]

    # How a call is answered

    def answer(self, request: Request) -> Answer | None:
        """Return None to close the connection without a word."""
        with self._lock:
            self.requests.append((request.method, request.target, request.body))
            try:
                fault, answer = self._perform(request)
            except Refused as refused:
                return refused.answer
        name, seconds = parse(fault)
        if name == "hang_after":
            self.closing.wait(5 if seconds is None else seconds)
        return None if name.startswith("drop") else answer

    def _perform(self, request: Request) -> tuple[str, Answer]:
        if request.authorization != f"Token {self.key}":
            raise Refused(401, {"detail": "Invalid API key."})
        route, segments = request.route
        fault = self._fault(route, metadata(request.body).get("type"))
        if fault == "drop_before":
            return fault, Answer(0, None)
        fail(fault, "before")
        body = getattr(self, f"_{route}")(request, *segments)
        fail(fault, "after")
        return fault, Answer(200, body)

    def _fault(self, route: str, type: str | None) -> str:
        planned = self._faults[route, type] or self._faults[route, None]
        return planned.popleft() if planned else "ok"

    def _ping(self, request: Request) -> Any:
        return {"status": "ok", "org_id": "org_1", "project_id": "proj_1", "user_email": "operator@example.com"}

    def _add(self, request: Request) -> Any:
        body = read_add(request.body)
        event = self._event_of(body, self._clock() + self.delay)
        if infer := body.get("infer", True):
            planned = self._outcomes[metadata(body).get("type")] or self._outcomes[None]
            event.outcome = planned.popleft() if planned else "SUCCEEDED"
        event.memories = [] if event.outcome == "empty" else list(remembered(event, infer, self._make_id))
        if infer:
            return {"event_id": event.id, "status": "PENDING"}
        return {
            "message": "Memories added.", "status": "SUCCEEDED", "event_id": event.id, "results": event.results(),
        }  # fmt: skip

    def _event_of(self, body: Any, due: float, kind: str = "ADD") -> Event:
        event = Event(self._make_id(), body, due, self._now().isoformat(), kind)
        self._events[event.id] = event
        return event

    def _event(self, request: Request, id: str) -> Any:
        event = self._events.get(id)
        if event is None:
            raise Refused(404, {"error": "Event not found or you don't have permission to access it."})
        event.polls += 1
        status = event.status(self._clock())
        return {
            "id": id, "event_type": event.kind, "status": status, "payload": event.body, "metadata": None,
            "results": event.results() if status == "SUCCEEDED" else [], "created_at": event.created_at,
            "error": "Extraction failed." if status == "FAILED" else None,
        }  # fmt: skip

    def _list(self, request: Request) -> Any:
        found = self._found(request)[::-1]
        page, size = (number(request, name, default) for name, default in (("page", 1), ("page_size", PAGE)))
        size = min(size, LARGEST_PAGE)
        start, end = (page - 1) * size, page * size
        if page > 1 and start >= len(found):
            raise Refused(404, {"detail": "Invalid page."})
        return {
            "count": len(found),
            "next": self._page(page + 1, size) if end < len(found) else None,
            "previous": self._page(page - 1, size) if page > 1 else None,
            "results": found[start:end],
        }

    def _page(self, page: int, size: int) -> str:
        return f"{self.url}/v3/memories/?{urlencode({'page': page, 'page_size': size})}"

    def _search(self, request: Request) -> Any:
        """Rank by the share of the query's words that a memory has."""
        found, wanted = self._found(request), words(request.body.get("query") or "")
        if not wanted:
            raise Refused(400, {"error": "query must not be empty."})
        scored = [each | {"score": len(wanted & words(each["memory"])) / len(wanted)} for each in found]
        threshold = request.body.get("threshold", 0.1)
        ranked = sorted((each for each in scored if each["score"] >= threshold), key=lambda each: -each["score"])
        return {"results": ranked[: request.body.get("top_k", 10)]}

    def _delete(self, request: Request, id: str) -> Any:
        for event in self._events.values():
            if any(each["id"] == id for each in event.visible(self._clock())):
                event.memories = [each for each in event.memories if each["id"] != id]
                return {"message": "Memory deleted successfully!"}
        raise Refused(404, {"error": "Memory not found!"})

    def _delete_all(self, request: Request) -> Any:
        query = request.query
        if not query or not query.keys() <= set(ENTITIES):
            raise Refused(400, {"error": "At least one filter is required: user_id, agent_id, app_id or run_id."})
        return self._delete_matching(query)

    def _delete_user(self, request: Request, kind: str, name: str) -> Any:
        if f"{kind}_id" not in ENTITIES:
            raise Refused(400, {"message": "Invalid entity type"})
        if not any(matches({f"{kind}_id": name}, each) for each in self._visible()):
            raise Refused(404, {"error": "Entity not found."})
        return self._delete_matching({f"{kind}_id": name})

    def _delete_matching(self, filters: dict[str, Any]) -> Any:
        """Delete what is visible; an add that is still pending comes after, as with the real one."""
        now = self._clock()
        for event in self._events.values():
            if event.status(now) == "SUCCEEDED":
                event.memories = [each for each in event.memories if not matches(filters, each)]
        deletion = self._event_of(None, now, kind="DELETE")
        return {"message": "Delete in progress. This may take some time.", "event_id": deletion.id}

    def _users(self, request: Request) -> Any:
        names = dict.fromkeys(each["user_id"] for each in self._visible() if each["user_id"])
        users = [{"id": name, "name": name, "type": "user"} for name in names]
        return {"count": len(users), "next": None, "previous": None, "results": users, "total_users": len(users)}

    def _found(self, request: Request) -> list[Memory]:
        filters = read_filters(request.body)
        return [each for each in self._visible() if matches(filters, each)]

    def _visible(self) -> list[Memory]:
        now = self._clock()
        return [each for event in self._events.values() for each in event.visible(now)]


class HostedMem0(OnLoopback, Mem0Api):
    """The API on loopback, while the `with` block lasts."""

    def __init__(self, key: str = "m0-test", *, delay: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(key, delay=delay, clock=clock)
        self._server = _Server(self)
        self.url = self._server.url

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        super().__exit__()


def parse(planned: str) -> tuple[str, float | None]:
    """Take "slow:3" apart."""
    name, _, amount = planned.partition(":")
    return name, float(amount) if amount else None


def check(planned: Iterable[str], known: set[str]) -> None:
    for each in planned:
        if parse(each)[0] not in known:
            raise ValueError(each)


def fail(fault: str, moment: str) -> None:
    """Raise what a fault answers before or after the work, if it is one of that moment."""
    name, seconds = parse(fault)
    if name == f"error_{moment}":
        raise Refused(500, "<h1>Server Error (500)</h1>", {"Content-Type": "text/html"})
    if name in REFUSALS and moment == "before":
        headers = {"Retry-After": f"{seconds or 1:.0f}"} if name == "refuse" else {}
        raise Refused(REFUSALS[name], {"detail": f"Refused as planned: {name}."}, headers)


def metadata(body: Any) -> dict[str, Any]:
    return (body.get("metadata") if isinstance(body, dict) else None) or {}


def read_add(body: Any) -> dict[str, Any]:
    """Return the body of an add. Raises Refused with 400 unless it has messages and somebody to remember."""
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not all(map(is_message, messages)):
        raise Refused(400, {"error": "messages must be a list of role and content."})
    if not any(body.get(name) for name in ENTITIES):
        raise Refused(400, {"error": "At least one entity ID is required."})
    return body


def is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ("user", "assistant", "system")
        and isinstance(message.get("content"), str)
    )


def remembered(event: Event, infer: bool, make_id: Callable[[], str]) -> Iterable[Memory]:
    """Return verbatim one memory a message, or what is inferred.

    With an agent_id beside the user_id, what the assistant said is the agent's, as on the real platform.
    """
    for message in event.body["messages"]:
        if infer and message["role"] != "user":
            continue
        text = re.split(r"(?<=[.!?])\s", message["content"].strip())[0] if infer else message["content"]
        owners = {name: event.body.get(name) for name in ENTITIES}
        if owners["agent_id"]:
            owners["user_id" if message["role"] == "assistant" else "agent_id"] = None
        yield {
            "id": make_id(), "memory": text, **owners, "metadata": event.body.get("metadata"), "categories": [],
            "created_at": event.created_at, "updated_at": event.created_at, "expiration_date": None,
        }  # fmt: skip


def read_filters(body: Any) -> dict[str, Any]:
    """Return the filters of a listing or search. Raises Refused with 400 as the v3 routes do."""
    filters = body.get("filters") if isinstance(body, dict) else None
    if not isinstance(filters, dict) or set(ENTITIES) & body.keys():
        raise Refused(400, {"error": "Entity IDs must be passed inside filters."})
    fields = set(named(filters))
    known = {*ENTITIES, "metadata"}
    if not fields <= known:
        raise Refused(400, {"error": f"Invalid filter fields {sorted(fields - known)}; use one of {sorted(known)}."})
    if not fields & set(ENTITIES):
        raise Refused(400, {"error": "filters must include an entity ID."})
    return filters


def named(filters: dict[str, Any]) -> Iterable[str]:
    """Yield every field in the filters. Operators other than equality are Mem0's but not ours: refused."""
    for name, wanted in filters.items():
        if name in ("AND", "OR"):
            for each in wanted:
                yield from named(each)
            continue
        if any(isinstance(value, dict | list) for value in (wanted.values() if name == "metadata" else [wanted])):
            raise Refused(400, {"error": f"The stand-in compares {name} with plain values only."})
        yield name


def matches(filters: dict[str, Any], memory: Memory) -> bool:
    return all(holds(name, wanted, memory) for name, wanted in filters.items())


def holds(name: str, wanted: Any, memory: Memory) -> bool:
    if name in ("AND", "OR"):
        return (all if name == "AND" else any)(matches(each, memory) for each in wanted)
    if name == "metadata":
        return wanted.items() <= (memory["metadata"] or {}).items()
    return memory[name] == wanted or (wanted == "*" and memory[name] is not None)


def number(request: Request, name: str, default: int) -> int:
    """Return a number of the query, else of the body. Raises Refused with 400 if it is none."""
    value = request.query.get(name) or request.body.get(name) or default
    if not str(value).isdigit() or int(value) < 1:
        raise Refused(400, {"error": f"{name} must be a positive number."})
    return int(value)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class _Handler(ProgramsOnlyHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two cost 40 ms on loopback
    disable_nagle_algorithm = True
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.connected(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle_call(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.mem0.answer(
            Request(self.command, self.path, self.headers.get("Authorization"), json.loads(raw) if raw else None)
        )
        if answer is None:
            self.close_connection = True
        else:
            self.write(answer)

    do_GET = do_POST = do_DELETE = handle_call

    def write(self, answer: Answer) -> None:
        content = (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(StandInServer):
    def __init__(self, mem0: Mem0Api) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mem0 = mem0
        self.connections: set[socket.socket] = set()

    def connected(self, connection: socket.socket) -> None:
        self.connections.add(connection)
        if self.mem0.closing.is_set():
            self.disconnect()

    def disconnect(self) -> None:
        for connection in self.connections.copy():
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        self.disconnect()
        super().server_close()
