"""Bugs to plant: each breaks one rule of the protocol, so that the oracles are seen to fail."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import archiver.archive
import archiver.finals
import archiver.handler
import archiver.recordings
import ingest.handler
import memory_writer.handler
import memory_writer.ledger
import memory_writer.remember
import reconciler.audio
import reconciler.calls
import reconciler.handler
import reconciler.sweep
import scripts.operations.erasure.protocol
import shared.batch
import shared.bucket
import shared.parts
import shared.record
import shared.tombstones
from memory_writer.memory import Answer
from shared.errors import PoisonError, UnavailableError
from tests.faults.simulator.patching import put


@dataclass(frozen=True)
class Bug:
    """`seen_by` are the oracles of which one must fail."""

    sentence: str
    seen_by: frozenset[str]
    replace: Callable[[], Iterator[tuple[Any, str, Any]]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for owner, name, value in self.replace():
                put(stack, owner, name, value)
            yield


def is_call(body: bytes) -> bool:
    return b"post_call_transcription" in body and not body.startswith(b"[") and b"../" not in body


PLANTED: dict[str, Bug] = {}
Replacing = Callable[[], Iterator[tuple[Any, str, Any]]]


def bug(sentence: str, *seen_by: str) -> Callable[[Replacing], Replacing]:
    def plant(replace: Replacing) -> Replacing:
        PLANTED[replace.__name__] = Bug(sentence, frozenset(seen_by), replace)
        return replace

    return plant


@bug("Ingest answers 200 although SQS did not take the claim check.", "durable")
def accepts_unqueued() -> Iterator[tuple[Any, str, Any]]:
    original = ingest.handler.send_claim_check

    def send(check: Any) -> None:
        with contextlib.suppress(UnavailableError):
            original(check)

    yield ingest.handler, "send_claim_check", send


@bug("The archiver writes the JSON in its own form.", "nothing_lost")
def rewrites_json() -> Iterator[tuple[Any, str, Any]]:
    original = shared.parts.restore
    yield archiver.archive, "restore", lambda part: json.dumps(json.loads(original(part)), indent=2).encode()


@bug("The version that is written last wins, not the newest one.", "nothing_lost", "record_agrees")
def last_wins() -> Iterator[tuple[Any, str, Any]]:
    def put(
        self: Any, key: str, body: Any, content_type: str, metadata: Any, *, force: bool = False, compress: bool = False
    ) -> str:
        self._put(key, body, content_type, metadata, {"Tagging": "tier=archive"})
        return "written"

    yield shared.bucket.Bucket, "put_newest", put


@bug("A payload is tagged before it is archived.", "tagged_last")
def tags_first() -> Iterator[tuple[Any, str, Any]]:
    original = archiver.handler.split_or_archive

    def archive(staged: Any, check: Any) -> Any:
        if is_call(staged.body):
            archiver.handler.aws().bucket.tag_archived(check.staged_key)
        return original(staged, check)

    yield archiver.handler, "split_or_archive", archive


@bug("A payload that is archived is not tagged.", "tagged")
def forgets_tags() -> Iterator[tuple[Any, str, Any]]:
    yield shared.bucket.Bucket, "tag_archived", lambda self, key: None


@bug(
    "The archiver acknowledges messages that failed, and does not announce their calls.",
    "announced",
    "remembered_once",
    "nothing_lost",
    "record_agrees",
)
def swallows_failures() -> Iterator[tuple[Any, str, Any]]:
    original = archiver.handler.announce

    def announce(announcement: Any) -> None:
        with contextlib.suppress(Exception):
            original(announcement)

    yield archiver.handler, "announce", announce


@bug("A recording that arrives before its call is forgotten.", "recordings_kept", "record_agrees", "complete")
def forgets_parked() -> Iterator[tuple[Any, str, Any]]:
    yield archiver.recordings.Recordings, "put_parked", lambda self, call: call


@bug(
    "The note about a parked recording is removed before the recording is written.",
    "recordings_kept",
    "tagged",
    "record_agrees",
)
def unparks_first() -> Iterator[tuple[Any, str, Any]]:
    original = archiver.recordings.Recordings.finish

    def finish(self: Any, call: Any, parked: Any, event: Any, audio: Any, *, force: bool) -> Any:
        self._records.unpark(call.conversation_id, parked.staged_key, {parked})
        return original(self, call, parked, event, audio, force=force)

    yield archiver.recordings.Recordings, "finish", finish


@bug("A memory writer does not look whether another one has the lease.", "remembered_once")
def ignores_leases() -> Iterator[tuple[Any, str, Any]]:
    def write(self: Any, values: dict[str, Any], give_back: tuple[str, ...] = ()) -> None:
        for name, value in values.items():
            self._client.update_item(
                TableName=self._table, Key=self._key, UpdateExpression="SET #name = :value",
                ExpressionAttributeNames={"#name": name}, ExpressionAttributeValues={":value": value},
            )  # fmt: skip
        self.entry = self._fetch()

    def acquire(self: Any, now: Any) -> None:
        self.note(owner=self._owner, state=self.entry.state or "sending", started=memory_writer.ledger.iso(now))

    yield memory_writer.ledger.Line, "_write", write
    yield memory_writer.ledger.Line, "acquire", acquire


@bug("After a lost answer the memory is sent again at once.", "remembered_once")
def sends_again() -> Iterator[tuple[Any, str, Any]]:
    yield memory_writer.remember.Writer, "_find", lambda self, memory: []
    yield memory_writer.remember.Writer, "_recent", lambda self, line: False


@bug("Mem0's acceptance counts as unknown: the event is never asked for.", "remembered_once")
def forgets_events() -> Iterator[tuple[Any, str, Any]]:
    yield memory_writer.remember.Writer, "_sent_before", lambda self, memory, line: Answer("FAILED")


@bug("The archiver does not look for tombstones of callers.", "erased")
def ignores_tombstones() -> Iterator[tuple[Any, str, Any]]:
    yield archiver.archive.Archiver, "_is_erased", lambda self, caller, started_at: False


@bug("An erasure does not wait for functions that are running.", "erased")
def erases_at_once() -> Iterator[tuple[Any, str, Any]]:
    yield scripts.operations.erasure.protocol.Run, "_wait", lambda self, until: None


@bug("An erasure leaves the records of its calls.", "erased", "rests")
def leaves_records() -> Iterator[tuple[Any, str, Any]]:
    yield shared.record.Records, "write_tombstone", lambda self, call, expires=None: None


@bug("The sweep notes its progress before it has queued the payloads.", "tagged", "nothing_lost", "erased")
def sweeps_too_far() -> Iterator[tuple[Any, str, Any]]:
    original = reconciler.sweep.sweep

    def sweep(bucket: Any, staging: Any, bookmarks: Any, unnamed: Any, now: Any, has_time: Any) -> int:
        bookmarks.write("swept", f"staging/{now - timedelta(hours=1):%Y/%m/%d/%H}/")
        return original(bucket, staging, bookmarks, unnamed, now, has_time)

    yield reconciler.handler, "sweep", sweep


@bug("The reconciler counts a call as fetched before it is.", "complete")
def counts_early() -> Iterator[tuple[Any, str, Any]]:
    yield reconciler.calls, "FETCHES", 0


@bug("Recordings are never fetched.", "complete")
def fetches_no_audio() -> Iterator[tuple[Any, str, Any]]:
    yield reconciler.handler, "fetch_audio", lambda *_: "AudioNotNeeded"


@bug("A poison message is retried, and reaches the dead-letter queue without its reason.", "rests")
def retries_poison() -> Iterator[tuple[Any, str, Any]]:
    def send(body: str, error: Exception, sqs: Any, dlq_url: str) -> None:
        raise error

    yield shared.batch, "send_to_dlq", send


@bug("A call is archived in another caller's folder too.", "nothing_invented")
def archives_twice() -> Iterator[tuple[Any, str, Any]]:
    original = archiver.finals.Finals.put

    def put(self: Any, kind: Any, call: Any, event: Any, body: Any, order: str, *, force: bool) -> None:
        original(self, kind, call, event, body, order, force=force)
        self._write(kind, f"12025550199/{call.conversation_id}.{kind.lower()}", body, {"order": order}, force)

    yield archiver.finals.Finals, "put", put


@bug("What cannot be processed is dropped, and not sent to the dead-letter queue.", "poison_kept")
def drops_poison() -> Iterator[tuple[Any, str, Any]]:
    yield shared.batch, "send_to_dlq", lambda *_: None


@bug("The payload of what cannot be processed is deleted.", "poison_kept")
def deletes_poison() -> Iterator[tuple[Any, str, Any]]:
    original = archiver.handler.handle_record

    def handle(record: Any) -> None:
        try:
            original(record)
        except PoisonError:
            bucket, key = archiver.handler.aws().bucket, json.loads(record.body)["staged_key"]
            for version in bucket.versions(key):
                bucket.delete_for_good(version)
            raise

    yield archiver.handler, "handle_record", handle


@bug("Memories are written for the agent, not for the caller.", "remembered_once")
def remembers_the_agent() -> Iterator[tuple[Any, str, Any]]:
    yield memory_writer.handler, "find_user", lambda *_: "agent_1"


@bug("Memories have another text.", "remembered_once")
def remembers_nonsense() -> Iterator[tuple[Any, str, Any]]:
    original = memory_writer.handler.build_memories

    def build(*arguments: Any) -> Any:
        return [replace(each, messages=[{"role": "user", "content": "-"}]) for each in original(*arguments)]

    yield memory_writer.handler, "build_memories", build


@bug("Other events about a call are acknowledged, and not written.", "events_kept")
def drops_events() -> Iterator[tuple[Any, str, Any]]:
    yield archiver.finals.Finals, "put_event", lambda self, *_, **__: None
