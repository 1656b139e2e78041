"""ElevenLabs' API: calls, their recordings, and the workspace's webhooks.

Routes and fields follow its SDK 2.78. A listing has no phone numbers; a conversation is like a webhook's `data`.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any, BinaryIO

import httpx
import msgspec
from httpx_retries import Retry, RetryTransport

from shared.conversation import Conversation, read_conversation, read_seconds
from shared.errors import AnswerError, ElevenLabsError, KeyRefusedError, NotFoundError, PoisonError
from shared.hosts import JSON_BYTES, may_get_key, open_client, read_pieces
from shared.keys import is_id
from shared.parts import MISSING, Json, Part, elements, fields, read_json, scalar, text
from shared.webhooks import TRANSCRIPTION, read_event

PAGE = 100  # calls in one page: the API's maximum
PAGES = 20_000  # at most in one list: more than a scheduled pass can read at PER_SECOND
CURSOR_LENGTH = 4000  # characters
PAGES_WITHOUT_NEW = 10  # at most in a row; a few occur when the list changes
PER_SECOND = 20
PARTS = 10  # requests for one recording, if the download is interrupted
# Three times a webhook's maximum. A transcript needs five times its size in memory: 80 MB of the 512 MB of this
# function and of the archiver.
CONVERSATION_BYTES = 16 * 2**20
RECORDING_BYTES = 500_000_000  # /tmp has 512 MB
_TIMEOUT = httpx.Timeout(15, connect=5)
_CONVERSATIONS = "/v1/convai/conversations"
Raw = msgspec.Raw
_CURSOR_REFUSED = (400, 404, 422)
logging.getLogger("httpx_retries").setLevel(logging.CRITICAL)  # it logs the host's answers


class _Page(Part):
    conversations: Raw = MISSING
    has_more: Raw = MISSING
    next_cursor: Raw = MISSING


class _Item(Part):
    conversation_id: Raw = MISSING
    agent_id: Raw = MISSING
    status: Raw = MISSING
    start_time_unix_secs: Raw = MISSING
    call_duration_secs: Raw = MISSING


@dataclass(frozen=True)
class Listed:
    """A call in the listing."""

    conversation_id: str
    agent_id: str | None
    status: str | None
    start_time_unix_secs: float | None
    call_duration_secs: float | None

    @property
    def is_final(self) -> bool:
        """Whether the call is over and ElevenLabs has finished processing it."""
        return self.status in ("done", "failed")

    @property
    def started_at(self) -> datetime | None:
        start = self.start_time_unix_secs
        return None if start is None else datetime.fromtimestamp(start, timezone.utc)

    @property
    def ended_at(self) -> datetime | None:
        return self.started_at and self.started_at + timedelta(seconds=self.call_duration_secs or 0)


class ElevenLabs:
    """One pooled HTTP client, which threads may share. It starts at most `per_second` requests a second.

    Every method raises KeyRefusedError (401, 403), NotFoundError (404, 422) or another ElevenLabsError, after a limited
    number of retries where they may help.
    """

    def __init__(self, host: str, key: str, per_second: float | None = None) -> None:
        if not may_get_key(host):
            raise ElevenLabsError("the parameter ElevenLabsApiHost must be a valid address that begins with https://")
        if not (key.isascii() and key.isprintable()):
            raise KeyRefusedError("the key contains characters that no key has")
        transport = RetryTransport(PacedTransport(per_second or PER_SECOND), _RETRIES)
        self._http = open_client(host, headers={"xi-api-key": key}, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        self._http.close()

    def pages(self, since: datetime, until: datetime, agent_id: str | None = None) -> Iterator[list[Listed]]:
        """The calls that started between the two times, newest first, each once, even if the list changes.

        If a cursor no longer works, the listing continues from the start time that it had reached.
        """
        query: dict[str, Any] = {"page_size": PAGE, "call_start_after_unix": int(since.timestamp())}
        query |= {"call_start_before_unix": math.ceil(until.timestamp())} | ({"agent_id": agent_id} if agent_id else {})
        reached = query["call_start_before_unix"]
        seen: set[str] = set()
        cursor, has_progress, without_new = None, True, 0
        for _ in range(PAGES):
            try:
                items, following = self._page(query | ({"cursor": cursor} if cursor else {}))
            except ElevenLabsError as error:
                if cursor is None or not has_progress or error.status not in _CURSOR_REFUSED:
                    raise
                cursor, has_progress = None, False
                query["call_start_before_unix"] = reached + 1  # in case the list does not include that second
                continue
            page = list({each.conversation_id: each for each in items if each.conversation_id not in seen}.values())
            seen |= {each.conversation_id for each in page}
            has_progress, without_new = has_progress or bool(page), 0 if page else without_new + 1
            reached = min([reached, *(int(each.start_time_unix_secs) for each in page if each.start_time_unix_secs)])
            yield page
            if following is None:
                return
            if without_new >= PAGES_WITHOUT_NEW:
                raise ElevenLabsError("the list of conversations repeats itself")
            cursor = following
        raise ElevenLabsError("the list of conversations does not end: choose a shorter time")

    def conversation(self, conversation_id: str) -> tuple[bytes, Conversation]:
        """The call as ElevenLabs' JSON, byte for byte, and the fields that we use."""
        body = self._ask(
            f"{_CONVERSATIONS}/{conversation_id}", read=lambda answer: b"".join(read_pieces(answer, CONVERSATION_BYTES))
        )
        try:
            event = read_event(body)
        except PoisonError:
            raise ElevenLabsError("the answer is not a conversation") from None
        if event.type != TRANSCRIPTION or event.conversation_id != conversation_id:
            raise ElevenLabsError("the answer is another conversation")
        return body, read_conversation(event.data)

    def download(self, conversation_id: str, file: BinaryIO, seconds: float) -> None:
        """Write the call's recording into `file`; where it breaks off it goes on, as long as each part brings more.

        No part begins after so many seconds. Raises NotFoundError too for what is no MP3.
        """
        recording, deadline = _Recording(file), time.monotonic() + seconds
        for left in reversed(range(PARTS)):
            had = file.tell()
            try:
                self._download_part(conversation_id, recording, deadline)
                break
            except httpx.HTTPError as error:
                if left == 0 or file.tell() <= had or time.monotonic() > deadline:
                    raise ElevenLabsError(f"the recording broke off: {type(error).__name__}") from None
            except AnswerError as error:
                raise ElevenLabsError(f"the recording: {error}") from None
        file.seek(0)
        if not _is_mp3(file.read(3)):
            raise NotFoundError("the recording is not an MP3")

    def _download_part(self, conversation_id: str, recording: "_Recording", deadline: float) -> None:
        path, headers = f"{_CONVERSATIONS}/{conversation_id}/audio", recording.next_part()
        with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code != 416 or not headers:
                _raise_for(response)
                return recording.write(response, deadline)
            if recording.ends_with(response):
                return None
        recording.etag = ""
        return self._download_part(conversation_id, recording, deadline)

    def delete(self, conversation_id: str) -> bool:
        """Delete ElevenLabs' own copy of the call. False: it has none, or the key belongs to another workspace."""
        try:
            self._ask(f"{_CONVERSATIONS}/{conversation_id}", method="DELETE", read=lambda _: None)
        except NotFoundError:
            return False
        return True

    def webhooks(self) -> bytes:
        """The workspace's webhooks, as ElevenLabs' JSON."""
        answer: bytes = self._ask("/v1/workspace/webhooks", {"include_usages": "true"})
        return answer

    def _page(self, query: dict[str, Any]) -> tuple[list[Listed], str | None]:
        """The calls of one page that have valid ids, and the cursor of the next page."""
        page = fields(_Page, self._ask(_CONVERSATIONS, query))
        items = elements(page.conversations)
        if items is None:
            raise ElevenLabsError("the answer is not a list of conversations")
        if len(items) > PAGE:
            raise ElevenLabsError("the list of conversations has more than was requested")
        following = text(page.next_cursor) if scalar(page.has_more) else None
        if scalar(page.has_more) and not _is_cursor(following):
            raise ElevenLabsError("the list of conversations ends too early")
        return [each for each in map(_listed, items) if each], following

    def _ask(
        self, path: str, query: dict[str, Any] | None = None, method: str = "GET",
        read: Callable[[httpx.Response], Any] | None = None,
    ) -> Any:  # fmt: skip
        """The result of `read` for a 2xx answer. Other bodies are not read."""
        try:
            with self._http.stream(method, path, params=query) as response:
                _raise_for(response)
                return (read or _read_json)(response)
        except httpx.HTTPError as error:
            raise ElevenLabsError(f"no answer: {type(error).__name__}") from None
        except AnswerError as error:
            raise ElevenLabsError(str(error)) from None


class _Recording:
    """A download into a file. It continues after an interruption only with a strong ETag; otherwise it starts again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.etag = file, ""
        self._total: int | None = None

    def next_part(self) -> dict[str, str]:
        """The headers that request the rest of the file."""
        if self.etag:
            return {"Range": f"bytes={self._file.tell()}-", "If-Range": self.etag}
        self._empty()
        return {}

    def ends_with(self, refusal: httpx.Response) -> bool:
        """Whether a 416 means that the file is already complete."""
        return self._total is None and refusal.headers.get("Content-Range") == f"bytes */{self._file.tell()}"

    def write(self, response: httpx.Response, deadline: float) -> None:
        """Write the rest, or everything if the server sent everything."""
        if not response.headers.get("Content-Type", "").startswith("audio/"):
            raise NotFoundError("the recording is not an MP3")
        if response.status_code == 206:
            self._total = self._total_of(response)
        else:
            self._begin(response)
        try:
            for piece in read_pieces(response, RECORDING_BYTES - self._file.tell()):
                if time.monotonic() > deadline:
                    raise AnswerError("it takes too long")
                self._file.write(piece)
        except httpx.HTTPError:
            if self._file.tell() != self._total:
                raise
        if self._total is not None and self._file.tell() < self._total:
            raise httpx.ReadError("the part is not the last one")

    def _begin(self, response: httpx.Response) -> None:
        """A compressed answer has no parts, and its length is not the recording's."""
        self._empty()
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        etag, length = (response.headers.get(name, "") if is_plain else "" for name in ("ETag", "Content-Length"))
        self.etag = etag if etag.startswith('"') else ""
        self._total = int(length) if re.fullmatch("[0-9]{1,15}", length) else None

    def _total_of(self, part: httpx.Response) -> int:
        asked = rf"bytes {self._file.tell()}-[0-9]+/([0-9]{{1,15}})"
        matched = re.fullmatch(asked, part.headers.get("Content-Range", ""))
        if matched is None or not self.etag or part.headers.get("ETag", self.etag) != self.etag:
            raise AnswerError("the server sent another part than requested")
        return int(matched[1])

    def _empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()


class SafeRetry(Retry):
    """Ignores a Retry-After that is not a number of seconds. The library would log a date as it was received."""

    def parse_retry_after(self, retry_after: str) -> float:
        return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0


# Pauses of up to 1, 2 and 4 s; a longer Retry-After is cut to 10 s. If the API does not answer, a request fails after
# 4 x 15 s and the pauses. The next attempt of SQS or the next pass then retries it.
_RETRIES = SafeRetry(total=3, backoff_factor=0.5, max_backoff_wait=10, status_forcelist=[429, 500, 502, 503, 504])


class PacedTransport(httpx.HTTPTransport):
    """Starts at most `per_second` requests a second, retries included."""

    def __init__(self, per_second: float) -> None:
        super().__init__()
        self._interval, self._next, self._lock = 1 / per_second, 0.0, Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._interval
        time.sleep(max(0, begin - time.monotonic()))
        return super().handle_request(request)


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise KeyRefusedError(f"the key is refused ({status})", status)
    if status in (404, 422):
        raise NotFoundError(f"not found ({status})", status)
    if not response.is_success:
        raise ElevenLabsError(f"answered {status}", status)


def _listed(part: Json) -> Listed | None:
    """A listed call, or None without a valid id. Any other unexpected field counts as absent."""
    item = fields(_Item, part)
    conversation_id = text(item.conversation_id)
    if not is_id(conversation_id):
        return None
    start, duration = read_seconds(item.start_time_unix_secs), read_seconds(item.call_duration_secs)
    return Listed(conversation_id, text(item.agent_id), text(item.status), start, duration)


def _read_json(response: httpx.Response) -> bytes:
    try:
        return read_json(b"".join(read_pieces(response, JSON_BYTES)))
    except ValueError:
        raise AnswerError("the answer is not JSON") from None


def _is_cursor(value: str | None) -> bool:
    return value is not None and value.isascii() and len(value) <= CURSOR_LENGTH


def _is_mp3(head: bytes) -> bool:
    """An ID3 tag, or the eleven set bits at the start of an MPEG audio frame (ISO/IEC 11172-3, 2.4.1.3)."""
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
