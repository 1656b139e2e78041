"""A test call, sent as ElevenLabs would send it: it is archived and remembered, and then deleted.

It has no phone number, so its objects are under `no-phone/` and its memories under a Mem0 user of its own. It is
announced on CallArchivedTopic like any call. Subscribers recognise it by its id, which begins with `canary_`.
"""

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from secrets import token_hex
from typing import Any

import httpx

from shared import keys
from shared.aws_errors import AwsError, error_code
from shared.bucket import Bucket
from shared.errors import AgenticMemoryError
from shared.messages import Announcement
from shared.record import DISCARDED_FOR, Records
from shared.signature import signed_headers
from shared.times import utc

AGENT = USER = "agentic-memory-canary"
PREFIX = keys.TEST_CALLS
POLL = 0.5
SILENCE = b"\xff\xfb\x10\xc4" + bytes(100)  # one frame of MPEG audio, layer III
LEFT_BEHIND = timedelta(hours=1)  # older canaries did not finish: their process was killed
_FAULTS: tuple[type[Exception], ...] = (httpx.HTTPError, TimeoutError, AgenticMemoryError, *AwsError)


class CanaryError(AgenticMemoryError):
    """A step failed or timed out. `step` names it."""

    def __init__(self, step: str, fault: str) -> None:
        super().__init__(f"The canary failed: {step}: {fault}")
        self.step = step


@dataclass(frozen=True)
class Step:
    """A finished step and its duration in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Canary:
    """One run. `memory_queue_url` is empty if the stack writes no memories; a step may take `step_seconds`.

    `agent_id`, `call_seconds` and `keeps_audio` follow the stack's parameters, so that they do not leave the call out.
    If the memory step fails, a memory of the canary's own Mem0 user may remain in Mem0.
    """

    url: str
    secret: str
    bucket: Bucket
    records: Records
    sqs: Any
    memory_queue_url: str
    step_seconds: float
    agent_id: str
    call_seconds: int
    keeps_audio: bool

    @cached_property
    def conversation_id(self) -> str:
        return f"{PREFIX}{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}_{token_hex(4)}"

    def run(self) -> Iterator[Step]:
        """Yields each finished step, and deletes the call at the end, or if a step fails. Raises CanaryError.

        A caller that stops before the end must call `clean_up`.
        """
        now, conversation_id = datetime.now(timezone.utc), self.conversation_id
        with suppress(*_FAULTS):
            self._delete_old_canaries(now)
        try:
            yield self._timed("received", lambda: self._send(conversation_id, now))
            yield self._timed("archived", lambda: self._wait(lambda: self._is_archived(conversation_id)))
            if self.memory_queue_url:
                yield self._timed("remembered", lambda: self._wait(lambda: self._is_remembered(conversation_id)))
        except Exception:
            with suppress(*_FAULTS):  # report the step that failed first
                self._delete(conversation_id)
            raise
        yield self.clean_up()

    def clean_up(self) -> Step:
        """Delete the call. A second run does no harm, and completes an interrupted one. Raises CanaryError."""
        return self._timed("deleted", lambda: self._delete(self.conversation_id))

    def _timed(self, name: str, act: Callable[[], None]) -> Step:
        begun = time.monotonic()
        try:
            act()
        except AwsError as error:
            raise CanaryError(name, error_code(error)) from None
        except _FAULTS as error:
            raise CanaryError(name, str(error) or type(error).__name__) from None
        return Step(name, round(time.monotonic() - begun, 2))

    def _send(self, conversation_id: str, now: datetime) -> None:
        """Send both webhooks, the audio first, so that it has to wait for its call."""
        for event, data in (
            ("post_call_audio", self._audio(conversation_id)),
            ("post_call_transcription", self._transcript(conversation_id, now)),
        ):
            body = json.dumps({"type": event, "event_timestamp": int(now.timestamp()), "data": data}).encode()
            headers = signed_headers(body, self.secret, str(int(time.time())), is_test=True)
            httpx.post(self.url, content=body, headers=headers, timeout=30).raise_for_status()

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.step_seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {self.step_seconds:.0f} s")
            time.sleep(POLL)

    def _is_archived(self, conversation_id: str) -> bool:
        call = self.records.get(conversation_id)
        wanted = [call.json_key, *([call.mp3_key] if self.keeps_audio else [])] if call else [None]
        return all(key and self.bucket.exists(key) for key in wanted)

    def _is_remembered(self, conversation_id: str) -> bool:
        return [entry.get("state") for entry in self.records.ledger(conversation_id).values()] == ["done", "done"]

    def _delete(self, conversation_id: str) -> None:
        """Delete the call like an erasure; the memory writer deletes its memories. A tombstone remains."""
        now = datetime.now(timezone.utc)
        call = self.records.erase(conversation_id, utc(now))
        for key in call.staged_keys:
            self.records.note_discarded(str(keys.staged_delivery_id(key)), now)
        prefixes = (f"{keys.NO_PHONE}/{conversation_id}.", *call.staged_keys)
        gone = [self.bucket.delete_for_good(each) for prefix in prefixes for each in self.bucket.versions(prefix)]
        if self._has_memories(conversation_id) and self.memory_queue_url:
            self.sqs.send_message(QueueUrl=self.memory_queue_url, MessageBody=Announcement.of(call).to_json())
            self._wait(lambda: not self._has_memories(conversation_id))
        self.records.write_tombstone(call, expires=now + DISCARDED_FOR)
        if not all(gone):
            raise TimeoutError("its objects could not be deleted yet: the bucket is locked, or a policy forbids it")

    def _has_memories(self, conversation_id: str) -> bool:
        """Whether there are memories that the memory writer can delete: it knows only finished ones."""
        return any(entry.get("state") == "done" for entry in self.records.ledger(conversation_id).values())

    def _delete_old_canaries(self, now: datetime) -> None:
        """Delete the calls of earlier runs that were killed."""
        found = {version.key for version in self.bucket.versions(f"{keys.NO_PHONE}/{PREFIX}")}
        oldest = f"{PREFIX}{now - LEFT_BEHIND:%Y%m%dT%H%M%SZ}"
        for conversation_id in {key.split("/")[1].split(".")[0] for key in found}:
            if conversation_id < oldest:
                self._delete(conversation_id)

    def _transcript(self, conversation_id: str, now: datetime) -> dict[str, Any]:
        started = int(now.timestamp()) - self.call_seconds
        return {
            "conversation_id": conversation_id, "agent_id": self.agent_id, "user_id": USER,
            "status": "done", "has_audio": True,
            "transcript": [{"role": "user", "message": "Is this call archived and remembered?"}],
            "metadata": {"start_time_unix_secs": started, "call_duration_secs": self.call_seconds},
            "analysis": {"call_successful": "success", "transcript_summary": "A call that tests the archive."},
        }  # fmt: skip

    def _audio(self, conversation_id: str) -> dict[str, Any]:
        full_audio = b64encode(SILENCE).decode()
        return {"conversation_id": conversation_id, "agent_id": self.agent_id, "full_audio": full_audio}


def agent_of(agent_ids: str) -> str:
    """One of the agents whose calls are kept, or the canary's own agent if all are kept."""
    return agent_ids.split(",")[0].strip() or AGENT
