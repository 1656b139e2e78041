"""ElevenLabs' API: the calls that it knows, their recordings, and the workspace's webhooks.

Routes and fields are those of its SDK 2.78. A listing names no phone number; a conversation has the shape of a
webhook's `data`.
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

PAGE = 100  # the most that the API lists at once
PAGES = 20_000  # of one list: more than a scheduled pass has time for at PER_SECOND
CURSOR_LENGTH = 4000  # characters
PAGES_IN_VAIN = 10  # one after the other with nothing new; a few come about when the list changes
PER_SECOND = 20
PARTS = 10  # requests for one recording, if it breaks off
# Three times what a webhook can bring. A transcript takes five times its size in memory: 80 MB of the 512 MB that this
# function and the archiver have.
CONVERSATION_BYTES = 16 * 2**20
RECORDING_BYTES = 500_000_000  # /tmp has 512 MB
_TIMEOUT = httpx.Timeout(15, connect=5)
_CONVERSATIONS = "/v1/convai/conversations"
Raw = msgspec.Raw
_CURSOR_REFUSED = (400, 404, 422)
logging.getLogger("httpx_retries").setLevel(logging.CRITICAL)  # it logs what the host answered


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
    """A call as the listing names it."""

    conversation_id: str
    agent_id: str | None
    status: str | None
    start_time_unix_secs: float | None
    call_duration_secs: float | None

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to come: not while it goes on, or is worked on."""
        return self.status in ("done", "failed")

    @property
    def started_at(self) -> datetime | None:
        start = self.start_time_unix_secs
        return None if start is None else datetime.fromtimestamp(start, timezone.utc)

    @property
    def ended_at(self) -> datetime | None:
        return self.started_at and self.started_at + timedelta(seconds=self.call_duration_secs or 0)


class ElevenLabs:
    """One pooled HTTP client, which threads may share; so many requests begin in a second, and no more.

    Every method raises KeyRefusedError (401, 403), NotFoundError (404, 422) or another ElevenLabsError, after bounded
    retries where they may help.
    """

    def __init__(self, host: str, key: str, per_second: float | None = None) -> None:
        if not may_get_key(host):
            raise ElevenLabsError("the parameter ElevenLabsApiHost must be a valid address that begins with https://")
        if not (key.isascii() and key.isprintable()):
            raise KeyRefusedError("the key is no key: it holds characters that none has")
        transport = RetryTransport(PacedTransport(per_second or PER_SECOND), _RETRIES)
        self._http = open_client(host, headers={"xi-api-key": key}, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        self._http.close()

    def pages(self, since: datetime, until: datetime, agent_id: str | None = None) -> Iterator[list[Listed]]:
        """The calls that started between the two times, newest first and each once, however the list may change.

        A cursor that no longer works is replaced by the start time that the listing had come to.
        """
        query: dict[str, Any] = {"page_size": PAGE, "call_start_after_unix": int(since.timestamp())}
        query |= {"call_start_before_unix": math.ceil(until.timestamp())} | ({"agent_id": agent_id} if agent_id else {})
        reached = query["call_start_before_unix"]
        seen: set[str] = set()
        cursor, is_going_on, in_vain = None, True, 0
        for _ in range(PAGES):
            try:
                items, following = self._page(query | ({"cursor": cursor} if cursor else {}))
            except ElevenLabsError as error:
                if cursor is None or not is_going_on or error.status not in _CURSOR_REFUSED:
                    raise
                cursor, is_going_on = None, False
                query["call_start_before_unix"] = reached + 1  # whether or not it includes that second
                continue
            page = list({each.conversation_id: each for each in items if each.conversation_id not in seen}.values())
            seen |= {each.conversation_id for each in page}
            is_going_on, in_vain = is_going_on or bool(page), 0 if page else in_vain + 1
            reached = min([reached, *(int(each.start_time_unix_secs) for each in page if each.start_time_unix_secs)])
            yield page
            if following is None:
                return
            if in_vain >= PAGES_IN_VAIN:
                raise ElevenLabsError("the list of conversations goes round in circles")
            cursor = following
        raise ElevenLabsError("the list of conversations does not end: ask for a shorter time")

    def conversation(self, conversation_id: str) -> tuple[bytes, Conversation]:
        """The call as JSON, byte for byte as ElevenLabs tells it, and what we use of it."""
        body = self._ask(
            f"{_CONVERSATIONS}/{conversation_id}", read=lambda answer: b"".join(read_pieces(answer, CONVERSATION_BYTES))
        )
        try:
            event = read_event(body)
        except PoisonError:
            raise ElevenLabsError("the conversation is none") from None
        if event.type != TRANSCRIPTION or event.conversation_id != conversation_id:
            raise ElevenLabsError("the conversation is another one")
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
            raise NotFoundError("the recording is no MP3")

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
        """Delete ElevenLabs' own copy of the call. False: it has none (any more), or the key is of elsewhere."""
        try:
            self._ask(f"{_CONVERSATIONS}/{conversation_id}", method="DELETE", read=lambda _: None)
        except NotFoundError:
            return False
        return True

    def webhooks(self) -> bytes:
        """The workspace's webhooks as JSON, as ElevenLabs tells of them."""
        answer: bytes = self._ask("/v1/workspace/webhooks", {"include_usages": "true"})
        return answer

    def _page(self, query: dict[str, Any]) -> tuple[list[Listed], str | None]:
        """The calls of one page whose ids are ids, and the cursor of the next page."""
        page = fields(_Page, self._ask(_CONVERSATIONS, query))
        items = elements(page.conversations)
        if items is None:
            raise ElevenLabsError("the list of conversations is none")
        if len(items) > PAGE:
            raise ElevenLabsError("the list of conversations holds more than was asked for")
        following = text(page.next_cursor) if scalar(page.has_more) else None
        if scalar(page.has_more) and not _is_cursor(following):
            raise ElevenLabsError("the list of conversations breaks off")
        return [each for each in map(_listed, items) if each], following

    def _ask(
        self, path: str, query: dict[str, Any] | None = None, method: str = "GET",
        read: Callable[[httpx.Response], Any] | None = None,
    ) -> Any:  # fmt: skip
        """What `read` makes of a 2xx answer; the body of any other is not read."""
        try:
            with self._http.stream(method, path, params=query) as response:
                _raise_for(response)
                return (read or _read_json)(response)
        except httpx.HTTPError as error:
            raise ElevenLabsError(f"no answer: {type(error).__name__}") from None
        except AnswerError as error:
            raise ElevenLabsError(str(error)) from None


class _Recording:
    """A recording on its way into a file. Its parts are joined only under one strong ETag: else each begins anew."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.etag = file, ""
        self._total: int | None = None

    def next_part(self) -> dict[str, str]:
        """The headers that ask for what follows in the file."""
        if self.etag:
            return {"Range": f"bytes={self._file.tell()}-", "If-Range": self.etag}
        self._empty()
        return {}

    def ends_with(self, refusal: httpx.Response) -> bool:
        """Whether nothing follows because the file has all of it."""
        return self._total is None and refusal.headers.get("Content-Range") == f"bytes */{self._file.tell()}"

    def write(self, response: httpx.Response, deadline: float) -> None:
        """Write what follows, or all of it anew if that is what came."""
        if not response.headers.get("Content-Type", "").startswith("audio/"):
            raise NotFoundError("the recording is no MP3")
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
        """What is compressed has no parts, and its length is not the recording's."""
        self._empty()
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        etag, length = (response.headers.get(name, "") if is_plain else "" for name in ("ETag", "Content-Length"))
        self.etag = etag if etag.startswith('"') else ""
        self._total = int(length) if re.fullmatch("[0-9]{1,15}", length) else None

    def _total_of(self, part: httpx.Response) -> int:
        asked = rf"bytes {self._file.tell()}-[0-9]+/([0-9]{{1,15}})"
        said = re.fullmatch(asked, part.headers.get("Content-Range", ""))
        if said is None or not self.etag or part.headers.get("ETag", self.etag) != self.etag:
            raise AnswerError("another part than was asked for")
        return int(said[1])

    def _empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()


class SafeRetry(Retry):
    """Waits as usual where Retry-After is no number of seconds. A date is none: the library logs it as it stands."""

    def parse_retry_after(self, retry_after: str) -> float:
        return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0


# Pauses of up to 1, 2 and 4 s; a longer Retry-After is cut to 10 s. A silent API fails a request after 4 x 15 s and the
# pauses. What fails then is left to the next attempt of SQS, or to the next pass.
_RETRIES = SafeRetry(total=3, backoff_factor=0.5, max_backoff_wait=10, status_forcelist=[429, 500, 502, 503, 504])


class PacedTransport(httpx.HTTPTransport):
    """Lets at most `per_second` requests begin in a second, retries too."""

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
    """None for what has no id. Any other odd field is as good as absent: it never costs the call."""
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
        raise AnswerError("the answer is no JSON") from None


def _is_cursor(value: str | None) -> bool:
    return value is not None and value.isascii() and len(value) <= CURSOR_LENGTH


def _is_mp3(head: bytes) -> bool:
    """An ID3 tag, or the eleven set bits with which each frame of MPEG audio begins (ISO/IEC 11172-3, 2.4.1.3)."""
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
