"""Mem0's hosted platform as the backend: the routes of its API that we need.

Mem0's own client is not used. It needs 200 MB and 1.7 s to import, has a timeout of 300 s and no retries, and writes to
the home folder, which Lambda does not have.
"""

import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx

from memory_writer.memory import Answer, Memory
from shared.errors import AnswerError, EventUnknownError, MemoryBackendError, NotSentError, RefusedError
from shared.hosts import may_get_key, open_client, read_json

RATE_LIMITED_TRIES = 3
DEFAULT_WAIT = 1.0  # seconds, if a rate limit gives no usable time
PAGE = 100
PAGES = 1000  # at most in one list: 100,000 memories of a caller
_ID = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,200}")  # not "." or "..", which URLs resolve
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSALS = {
    401: "Mem0 refused the key (401). Put a valid one into the secret of the stack's parameter Mem0ApiKey.",
    403: "Mem0 refused the key for this project (403). Look at its permissions and at the plan's limits.",
}


class PlatformBackend:
    """Implements MemoryBackend with one pooled HTTP client, which threads may share.

    `timeout` is in seconds. At most a third of it is spent waiting for a rate limit; SQS retries after a longer one.
    Raises RefusedError if no key may be sent to the host.
    """

    def __init__(self, host: str, key: str, timeout: float) -> None:
        if not may_get_key(host):
            raise RefusedError(
                "mem0", "The stack's parameter Mem0Host must be a valid address that begins with https://."
            )
        self._longest_wait = timeout / 3
        limits = httpx.Timeout(timeout, connect=min(timeout, 5))
        self._address = _named(host)
        self._http = open_client(host, headers={"Authorization": f"Token {key}"}, timeout=limits)

    def add(self, memory: Memory, *, again: bool) -> Answer:  # noqa: ARG002 (hosted Mem0 stores all or nothing)
        # agent_id must be in the metadata: next to user_id, Mem0 would store the assistant's facts under the agent.
        metadata = {name: value for name, value in memory.metadata.items() if value is not None}
        body = {"messages": memory.messages, "user_id": memory.user_id, "metadata": metadata, "infer": memory.infer}
        return _answer(self._request("POST", "/v3/memories/add/", json=body))

    def check_event(self, event_id: str) -> Answer:
        path = f"/v1/event/{quote(_id(event_id), safe='')}/"
        return _answer(self._request("GET", path, unknown=EventUnknownError("Mem0 knows no such event")))

    def find(self, memory: Memory) -> list[str]:
        return self._list(memory.user_id, conversation_id=memory.metadata["conversation_id"], type=memory.type)

    def list_user(self, user_id: str) -> list[str]:
        return self._list(user_id)

    def delete(self, memory_ids: Sequence[str]) -> None:
        for each in memory_ids:
            self._delete(f"/v1/memories/{quote(_id(each), safe='')}/")

    def delete_user(self, user_id: str) -> None:
        self._delete(f"/v2/entities/user/{quote(user_id, safe='')}/")

    def _delete(self, path: str) -> None:
        with suppress(EventUnknownError):
            self._request("DELETE", path, unknown=EventUnknownError("it is already deleted"))

    def _list(self, user_id: str, **metadata: str | int | None) -> list[str]:
        conditions = [{"user_id": user_id}, *({"metadata": {name: value}} for name, value in metadata.items())]
        found: dict[str, None] = {}  # in the list's order, each once
        for page in range(1, PAGES + 1):
            parameters = {"page": page, "page_size": PAGE}
            listed = self._request("POST", "/v3/memories/", params=parameters, json={"filters": {"AND": conditions}})
            ids, known = _ids(listed.get("results")), len(found)
            found |= dict.fromkeys(ids)
            if not ids or not listed.get("next"):
                return list(found)
            if len(found) == known:
                break
        raise MemoryBackendError("Mem0's list does not end")

    def _request(self, method: str, path: str, unknown: Exception | None = None, **options: Any) -> dict[str, Any]:
        """The JSON of a 2xx answer; raises `unknown` for a 404. Errors quote nothing of the request."""
        (response, content), time_left = self._send(method, path, **options), self._longest_wait
        for _ in range(RATE_LIMITED_TRIES - 1):
            wait = _retry_after(response) if response.status_code == 429 else math.inf
            if wait > time_left:
                break
            time.sleep(wait)
            time_left -= wait
            response, content = self._send(method, path, **options)
        if response.status_code == 404 and unknown:
            raise unknown
        _raise_for(response)
        if not isinstance(content, dict):
            raise MemoryBackendError("Mem0's answer is not an object")
        return content

    def _send(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, Any]:
        """The response, and its JSON for a 2xx. Other bodies are not read."""
        try:
            with self._http.stream(method, path, **options) as response:
                return response, read_json(response) if response.is_success else None
        except _NOT_SENT as error:
            raise NotSentError(f"{self._address} could not be reached ({type(error).__name__})") from None
        except httpx.RequestError as error:
            raise MemoryBackendError(f"Mem0 did not answer: {type(error).__name__}") from None
        except AnswerError as error:
            raise MemoryBackendError(f"Mem0: {error}") from None


def _named(host: str) -> str:
    """How errors name an address: without a user, path or query, which may be secret."""
    url = httpx.URL(host)
    return f"Mem0 at {url.scheme}://{url.netloc.decode()}"


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if status == 429:
        raise NotSentError("Mem0's rate limit is reached (429)")
    if 400 <= status < 500 and status != 408:
        raise RefusedError("mem0", _REFUSALS.get(status, f"Mem0 refused the request ({status})."))
    if not response.is_success:
        raise MemoryBackendError(f"Mem0 answered {status}")


def _ids(results: Any) -> list[str]:
    """The ids of one page of a list."""
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise MemoryBackendError("Mem0's answer is not a list of memories")
    if len(results) > PAGE:
        raise MemoryBackendError("Mem0's answer has more memories than requested")
    return [_id(each.get("id")) for each in results]


def _id(value: Any) -> str:
    """`value`, if it can be one part of a path and is short enough to store thousands of them."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise MemoryBackendError("Mem0 sent an unusable id")
    return value


def _answer(content: dict[str, Any]) -> Answer:
    status, results, event_id = content.get("status"), content.get("results"), content.get("event_id")
    if status in ("SUCCEEDED", "FAILED"):
        stored = results if isinstance(results, list) else []
        ids = [_id(each["id"]) for each in stored if isinstance(each, dict) and each.get("id") is not None]
        return Answer(status, _id(event_id) if event_id else None, ids)
    return Answer("PENDING", _id(event_id or content.get("id")))


def _retry_after(response: httpx.Response) -> float:
    """The seconds to wait; infinity for a date, which Mem0 does not normally send."""
    try:
        seconds = float(response.headers.get("Retry-After", DEFAULT_WAIT))
    except ValueError:
        return math.inf
    return seconds if seconds >= 0 else DEFAULT_WAIT  # for a negative number or NaN
