"""Mem0's hosted platform as the backend: those routes of its API that we need.

Its own client is not used: with what it needs it takes 200 MB and 1.7 s to import, has a timeout of 300 s and no
retries, and writes to the home folder, which Lambda has not.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx

from memory_writer.memory import Answer, Memory
from shared.errors import EventUnknownError, MemoryBackendError, NotSentError, RefusedError

RATE_LIMITED_TRIES = 3
PAGE = 100
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSALS = {
    401: "Mem0 refused the key (401). Put the right one into the secret of the stack's parameter Mem0ApiKey.",
    403: "Mem0 refused the key for this project (403). Look at its permissions and at the plan's limits.",
}


class PlatformBackend:
    """Implements MemoryBackend over one pooled HTTP client, which threads may share.

    `timeout` is in seconds. A third of it may pass in waits for a rate limit; a longer Retry-After is left to SQS.
    """

    def __init__(self, host: str, key: str, timeout: float) -> None:
        self._patience = timeout / 3
        patience = httpx.Timeout(timeout, connect=min(timeout, 5))
        self._http = httpx.Client(base_url=host, headers={"Authorization": f"Token {key}"}, timeout=patience)

    def add(self, memory: Memory, *, again: bool) -> Answer:  # noqa: ARG002 (hosted Mem0 takes all or nothing)
        # agent_id belongs in the metadata: beside user_id, Mem0 would file the assistant's facts under the agent.
        metadata = {name: value for name, value in memory.metadata.items() if value is not None}
        body = {"messages": memory.messages, "user_id": memory.user_id, "metadata": metadata, "infer": memory.infer}
        return _answer(self._request("POST", "/v3/memories/add/", json=body))

    def look(self, event_id: str) -> Answer:
        return _answer(
            self._request("GET", f"/v1/event/{event_id}/", unknown=EventUnknownError("Mem0 knows no such event"))
        )

    def find(self, memory: Memory) -> list[str]:
        return self._list(memory.user_id, conversation_id=memory.metadata["conversation_id"], type=memory.type)

    def list_user(self, user_id: str) -> list[str]:
        return self._list(user_id)

    def delete(self, memory_ids: Sequence[str]) -> None:
        for each in memory_ids:
            self._delete(f"/v1/memories/{quote(each, safe='')}/")

    def delete_user(self, user_id: str) -> None:
        self._delete(f"/v2/entities/user/{quote(user_id, safe='')}/")

    def _delete(self, path: str) -> None:
        with suppress(EventUnknownError):
            self._request("DELETE", path, unknown=EventUnknownError("it is deleted already"))

    def _list(self, user_id: str, **metadata: str | int | None) -> list[str]:
        conditions = [{"user_id": user_id}, *({"metadata": {name: value}} for name, value in metadata.items())]
        found: list[str] = []
        page = 1
        while True:
            parameters = {"page": page, "page_size": PAGE}
            listed = self._request("POST", "/v3/memories/", params=parameters, json={"filters": {"AND": conditions}})
            found += [str(each["id"]) for each in listed["results"]]
            if not listed.get("next"):
                return found
            page += 1

    def _request(self, method: str, path: str, unknown: Exception | None = None, **options: Any) -> dict[str, Any]:
        """The JSON of a 2xx answer; raises `unknown` for a 404. Nothing of what was sent gets into an error."""
        response, patience = self._send(method, path, **options), self._patience
        for _ in range(RATE_LIMITED_TRIES - 1):
            wait = _retry_after(response) if response.status_code == 429 else math.inf
            if wait > patience:
                break
            time.sleep(wait)
            patience -= wait
            response = self._send(method, path, **options)
        if response.status_code == 404 and unknown:
            raise unknown
        return _content(response)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except _NOT_SENT as error:
            raise NotSentError(f"Mem0 could not be reached: {type(error).__name__}") from None
        except httpx.TransportError as error:
            raise MemoryBackendError(f"Mem0 did not answer: {type(error).__name__}") from None


def _content(response: httpx.Response) -> dict[str, Any]:
    status = response.status_code
    if status == 429:
        raise NotSentError("Mem0's rate limit is reached (429)")
    if 400 <= status < 500 and status != 408:
        raise RefusedError("mem0", _REFUSALS.get(status, f"Mem0 refused the request ({status})."))
    if not response.is_success:
        raise MemoryBackendError(f"Mem0 answered {status}")
    try:
        content = response.json()
    except ValueError:
        raise MemoryBackendError("Mem0's answer is no JSON") from None
    if not isinstance(content, dict):
        raise MemoryBackendError("Mem0's answer is no object")
    return content


def _answer(content: dict[str, Any]) -> Answer:
    status = content.get("status")
    ids = [str(each["id"]) for each in content.get("results") or [] if isinstance(each, dict) and "id" in each]
    if status in ("SUCCEEDED", "FAILED"):
        return Answer(status, content.get("event_id"), ids)
    event_id = content.get("event_id") or content.get("id")
    if not event_id:
        raise MemoryBackendError("Mem0's answer names no event")
    return Answer("PENDING", str(event_id))


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(float(response.headers.get("Retry-After", "1")), 0)
    except ValueError:  # a date, which Mem0 is not known to send
        return math.inf
