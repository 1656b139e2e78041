"""What Mem0's hosted platform remembers of a caller."""

from collections.abc import Callable, Iterable
from typing import Any

import httpx

from shared.call import Call
from shared.caller import found_by
from shared.errors import AnswerError
from shared.hosts import may_get_key, open_client, read_json
from shared.keys import is_id
from shared.observability import logger

TIMEOUT = 3.0  # seconds
MOST = 100
NOT_HOSTED = "This stack does not keep its memories on Mem0's hosted platform, so they cannot be shown here."
NO_ANSWER = "Mem0 did not answer. Try again in some seconds."
REFUSED = "Mem0 refused the request. The key in the stack's parameter Mem0ApiKey may be wrong."


class UnreadableError(Exception):
    """The memories cannot be read; the text says why."""


class Remembered:
    """Mem0 at `host`. `get_calls` reads records, so that memories of erased calls are left out."""

    def __init__(self, host: str, key: str, get_calls: Callable[[Iterable[str]], dict[str, Call]]) -> None:
        if not may_get_key(host):
            raise UnreadableError(NOT_HOSTED)
        self._http = open_client(host, headers={"Authorization": f"Token {key}"}, timeout=TIMEOUT)
        self._get_calls = get_calls

    def read(self, users: Iterable[str], may_see: Callable[[Call], bool]) -> list[dict[str, Any]]:
        """The newest memories of these users that are of archived calls, newest first. Raises UnreadableError."""
        listed = [each for user in users for each in self._list(user) if is_id(each["conversation_id"])]
        found = sorted(listed, key=lambda each: str(each["at"]), reverse=True)
        calls = self._get_calls({each["conversation_id"] for each in found})
        return [each for each in found if _is_kept(calls.get(each["conversation_id"]), may_see)][:MOST]

    def _list(self, user: str) -> list[dict[str, Any]]:
        try:
            with self._http.stream(
                "POST",
                "/v3/memories/",
                params={"page": 1, "page_size": MOST},
                json={"filters": {"AND": [{"user_id": user}]}},
            ) as response:
                if response.status_code == 429 or response.is_server_error:
                    raise UnreadableError(NO_ANSWER)
                if not response.is_success:
                    raise UnreadableError(REFUSED)
                content = read_json(response)
        except (httpx.RequestError, AnswerError):
            raise UnreadableError(NO_ANSWER) from None
        results = content.get("results") if isinstance(content, dict) else None
        return [_memory(each) for each in results or () if isinstance(each, dict)] if isinstance(results, list) else []


def read_memories(
    connect: Callable[[], Remembered | None], caller: str, calls: Iterable[dict[str, Any]],
    may_see: Callable[[Call], bool],
) -> dict[str, Any]:  # fmt: skip
    """What Mem0 remembers of a caller, under the numbers as they came; null and why if it cannot be read."""
    users = {call["caller"] for call in calls if found_by(call["caller"] or "") == found_by(caller)}
    try:
        if (backend := connect()) is None:
            return {"memories": None, "memories_note": NOT_HOSTED}
        found = backend.read(sorted(users) or [f"+{found_by(caller)}"], may_see)
    except UnreadableError as error:
        logger.warning("Memories could not be read", reason=str(error))
        return {"memories": None, "memories_note": str(error)}
    return {"memories": found, "memories_note": ""}


def _memory(found: dict[str, Any]) -> dict[str, Any]:
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return {
        "text": str(found.get("memory") or ""), "type": _text(metadata.get("type")),
        "at": _text(metadata.get("timestamp")) or _text(found.get("created_at")),
        "conversation_id": _text(metadata.get("conversation_id")),
    }  # fmt: skip


def _is_kept(call: Call | None, may_see: Callable[[Call], bool]) -> bool:
    return call is not None and not call.erased_at and may_see(call)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
