"""Erases a caller, or one call, from everything that a stack keeps.

The order makes it safe to be interrupted and repeated. Tombstones come first: from then on nothing more is archived,
fetched or remembered of these calls. The functions that began before are waited out. Then go messages, memories, staged
bodies and final objects; and last what the table knows of the calls, by which a second run finds what is left. Whose
they are is written beside each tombstone until then: audio does not say it, once its transcript is deleted.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from botocore.exceptions import ClientError

from archiver.caller import find_caller
from archiver.finals import dump
from memory_writer.memories import find_user
from memory_writer.memory import Memory, MemoryBackend
from reconciler.staging import Staging
from scripts.aws_session import OpsError
from scripts.ops_dlq import Dead, Hold
from scripts.ops_stack import Stack, memory_backend
from scripts.ops_view import undisturbed
from shared import keys
from shared.aws_errors import error_code
from shared.bucket import Version, content
from shared.errors import EventUnknownError, PoisonError, StorageError
from shared.messages import Announcement
from shared.observability import mask_key
from shared.record import Call
from shared.times import utc
from shared.webhooks import Elements, read_conversation, read_event, read_webhook

AT_ONCE = 10  # requests to S3
MEM0_SECONDS = 60  # for Mem0 to finish what it has taken, or to delete it
DEAD = ("ArchiveDlqUrl", "MemoryDlqUrl", "AudioDlqUrl")
KINDS: tuple[Literal["factual"], Literal["semantic"]] = ("factual", "semantic")


@dataclass(frozen=True)
class Subject:
    """Who, or what, is to be erased: the caller with these digits, or one call."""

    caller: str = ""
    conversation: str = ""

    @property
    def users(self) -> set[str]:
        """The caller's names in Mem0: with the number in international form, and without."""
        return {self.caller, f"+{self.caller}"} if self.caller else set()

    def is_about(self, call: Call) -> bool:
        if self.conversation:
            return call.conversation_id == self.conversation
        return self.caller in {call.folder, digits(call), *call.known_as}

    def is_named_in(self, text: bytes) -> bool:
        """Whether the caller's number stands in a text."""
        return bool(self.caller) and re.search(rb"(?<!\d)%s(?!\d)" % self.caller.encode(), text) is not None


@dataclass
class Found:
    """What is kept of a subject. `staged` are the versions of staged bodies, by their keys.

    `others` are the numbers of all other calls.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    finals: list[Version] = field(default_factory=list)
    staged: dict[str, list[Version]] = field(default_factory=dict)
    memories: set[str] = field(default_factory=set)
    others: set[str | None] = field(default_factory=set)

    @property
    def versions(self) -> list[Version]:
        return self.finals + [version for versions in self.staged.values() for version in versions]

    @property
    def known(self) -> list[Call]:
        """The calls of which the table knows more than that they are erased."""
        return [call for call in self.calls.values() if call.is_known]

    def numbers(self) -> dict[str, int]:
        return {
            "calls": len(self.known), "object_versions": len(self.finals), "staged_bodies": len(self.staged),
            "bytes": sum(each.size for each in self.versions), "memories": len(self.memories),
        }  # fmt: skip

    def without(self, calls: set[str], locked: list[Version]) -> "Found":
        """The same but for those calls and versions, which could not be deleted."""
        kept = set(locked)
        staged = {key: [each for each in versions if each not in kept] for key, versions in self.staged.items()}
        return Found(
            {name: call for name, call in self.calls.items() if name not in calls},
            [each for each in self.finals if each not in kept],
            {key: versions for key, versions in staged.items() if versions},
            self.memories,
        )


class Eraser:
    """Finds and erases. What is gone already is no error."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject, self._bucket, self._records = stack, subject, stack.bucket, stack.records
        self._mem0: MemoryBackend | None = memory_backend(stack) if "MemorySecretArn" in stack.outputs else None
        self._is_array: dict[str, bool] = {}  # of staged bodies that were looked at

    @property
    def has_mem0(self) -> bool:
        return self._mem0 is not None

    @property
    def patience(self) -> int:
        """The seconds that a function may be at work with what it read before there was a tombstone."""
        names = "ArchiveTimeoutSeconds", "MemoryTimeoutSeconds"
        return max(int(self._stack.output(name)) for name in names) + 1

    # What there is

    def find(self) -> Found:
        """Look through table, bucket and Mem0. Staged bodies are read, but those that are another call's alone."""
        found = Found()
        others: set[str] = set()  # staged bodies of other calls
        for call in self._records.all():
            if self._subject.is_about(call):
                found.calls[call.conversation_id] = call
            else:
                others |= call.staged_keys
                found.others.add(call.external_number)
        if self._subject.conversation:
            self._add({self._subject.conversation}, found, others)
        else:
            self._find_folder(found, others)
        self._find_staged(found, others)
        self._find_elsewhere(found)
        found.memories = set(self._find_memories(found))
        return found

    def _add(self, conversation_ids: Iterable[str], found: Found, others: set[str]) -> None:
        """Calls that were found by other things than their records, which they may have all the same."""
        for each in set(conversation_ids) - found.calls.keys():
            found.calls[each] = self._records.get(each) or Call(each)
            others -= found.calls[each].staged_keys

    def _find_folder(self, found: Found, others: set[str]) -> None:
        """The caller's folder, also events about calls that have no record; and events that name no conversation."""
        for version in self._bucket.versions(f"{self._subject.caller}/"):
            self._add(filter(keys.is_id, [version.key.split("/")[1].split(".")[0]]), found, others)
            found.finals.append(version)
        events = self._bucket.versions("other-events/")
        found.finals += [each for each in events if self._subject.is_named_in(self._body(each))]

    def _find_staged(self, found: Found, others: set[str]) -> None:
        by_key: dict[str, list[Version]] = defaultdict(list)
        for version in self._bucket.versions(f"{keys.STAGING}/"):
            by_key[version.key].append(version)
        others -= self._arrays({key: by_key[key] for key in others & by_key.keys()})
        ours: set[str] = set()
        calls_before = -1
        while calls_before < len(found.calls):  # a transcript may say whose its audio is
            calls_before = len(found.calls)
            ours |= {key for call in found.calls.values() for key in call.staged_keys}
            unknown = [key for key in by_key if key not in ours | others]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                bodies = pool.map(lambda key: self._elements(by_key[key]), unknown)
                for key, elements in zip(unknown, bodies, strict=True):
                    about_us = [element for _, element in elements if self._is_ours(element, found)]
                    ours |= {key} if about_us else set()
                    self._add(filter(None, map(conversation_of, about_us)), found, others)
        found.staged = {key: versions for key, versions in by_key.items() if key in ours}

    def _arrays(self, by_key: dict[str, list[Version]]) -> set[str]:
        """Those staged bodies that may hold more than the call whose record names them."""
        unknown = [key for key in by_key if key not in self._is_array and not keys.is_recording(key)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            starts = pool.map(lambda key: self._body(largest(by_key[key]), Range="bytes=0-31").lstrip(), unknown)
            self._is_array |= {key: start[:1] in (b"[", b"") for key, start in zip(unknown, starts, strict=True)}
        return {key for key in by_key if self._is_array.get(key)}

    def _find_elsewhere(self, found: Found) -> None:
        """Objects in the folder of the record, of its number, and of no number, where an event may have come first."""
        for call in found.calls.values():
            for folder in {call.folder, digits(call), keys.NO_PHONE} - {None, "", self._subject.caller}:
                found.finals += self._bucket.versions(f"{folder}/{call.conversation_id}.")

    def _find_memories(self, found: Found) -> Iterator[str]:
        """All of the caller's; and those of the calls that were remembered for somebody else, such as a client's id."""
        if self._mem0 is None:
            return
        for user in self._subject.users:
            yield from self._mem0.list_user(user)
        for call in found.known:
            for user in self._users_of(call) - self._subject.users:
                for kind in KINDS:
                    metadata: dict[str, str | int | None] = {"conversation_id": call.conversation_id, "type": kind}
                    yield from self._mem0.find(Memory(user, kind, [], metadata, infer=True))  # any part of it

    def _users_of(self, call: Call) -> set[str]:
        """Whose memories the call's are: its number's, or those of the id that its client gave if it came without."""
        users = {call.external_number, *call.known_as}
        came_without = call.folder == keys.NO_PHONE
        read = self._read_json(call) if came_without else None
        if read:
            nobody = Announcement("transcript_archived", call.conversation_id, None, None, "-", None, None, "none")
            with suppress(PoisonError):
                users.add(find_user(nobody, read_conversation(read[0])))
        return {user for user in users if user}

    def _read_json(self, call: Call) -> tuple[bytes, dict[str, str]] | None:
        """Raises OpsError."""
        try:
            return self._bucket.read(keys.call_json(keys.NO_PHONE, call.conversation_id))
        except StorageError as error:
            advice = "if its archive class cannot be read at once, restore it, and run the same command again"
            raise OpsError(f"The JSON of {call.conversation_id} cannot be read ({error}): {advice}.", code=1) from None

    def _elements(self, versions: list[Version]) -> Elements:
        """What is in a staged body, whose versions are all the same; a delete marker has nothing in it."""
        version = largest(versions)
        if keys.is_recording(version.key):
            named = self._ask("head_object", version).get("Metadata", {})
            return [(None, {"conversation_id": named.get("conversation_id")})]
        return read_elements(self._body(version))

    def _is_ours(self, element: Any, found: Found) -> bool:
        try:
            event = read_event(element)
            conversation_id = event.conversation_id
        except PoisonError:
            return self._subject.is_named_in(element if isinstance(element, bytes) else dump(element))
        if conversation_id is None:
            return self._subject.is_named_in(dump(element))
        return conversation_id in found.calls or find_caller(event.data).folder == self._subject.caller

    def _body(self, version: Version, **options: str) -> bytes:
        answer = self._ask("get_object", version, **options)
        return content(answer) if answer else b""

    def _ask(self, operation: Literal["get_object", "head_object"], version: Version, **options: str) -> dict[str, Any]:
        """S3's answer, empty for a delete marker and for what is gone since it was listed. Raises OpsError."""
        named = {"Bucket": self._bucket.name, "Key": version.key, "VersionId": version.version_id}
        try:
            return dict(getattr(self._stack.client("s3"), operation)(**named, **options)) if version.size else {}
        except ClientError as error:
            if error_code(error) in ("NoSuchVersion", "NoSuchKey", "404"):
                return {}
            if error_code(error) == "InvalidObjectState":
                advice = "its archive class cannot be read at once. Restore it, and run the same command again."
                raise OpsError(f"Whom {mask_key(version.key)} is about cannot be told: {advice}", code=1) from None
            raise

    # What is done about it

    def entomb(self, found: Found) -> datetime:
        """From now on nothing more comes; returns when the functions that began before are over."""
        now = utc(datetime.now(timezone.utc))
        for conversation_id, call in found.calls.items():
            known_as = self._users_of(call) | set(filter(None, [self._subject.caller]))
            found.calls[conversation_id] = self._records.erase(conversation_id, now, known_as)
        last = max((str(call.erased_at) for call in found.calls.values()), default=now)
        return datetime.fromisoformat(last) + timedelta(seconds=self.patience)

    def drop_messages(self, found: Found) -> int:
        """Delete what is said about the calls in dead-letter queues, and in MemoryQueue if nobody reads it.

        What is about others comes back at once, received once more. Other queues are left alone: the functions drop
        what they find there.
        """
        dropped = 0
        names = DEAD if self.has_mem0 else (*DEAD, "MemoryQueueUrl")
        for url in (self._stack.outputs[name] for name in names if name in self._stack.outputs):
            hold = Hold(self._stack.client("sqs"), url)
            try:
                hold.receive()
                for message in hold.messages:
                    if self._is_about(Dead(self._stack, "", message, dict), found):
                        hold.delete(message)
                        dropped += 1
            finally:
                with undisturbed():
                    hold.release()
        return dropped

    def _is_about(self, message: Dead, found: Found) -> bool:
        in_staging = str(message.content.get("staged_key")) in found.staged
        is_named = self._subject.is_named_in(message.body.encode())
        return in_staging or is_named or not found.calls.keys().isdisjoint(message.calls)

    def forget(self, found: Found) -> None:
        """Delete the memories, and the users that have no others. Mem0 deletes a user in its own time. Raises OpsError.

        A number with other calls stays a user: something may be on its way to it.
        """
        if self._mem0 is None:
            return
        users = self._subject.users
        self._mem0.delete(sorted(self._receipts(found)))
        if not self._subject.caller:
            self._mem0.delete(sorted(found.memories))
            mine = {user for call in found.known for user in self._users_of(call)} - found.others
            users = {user for user in mine if not self._mem0.list_user(user)}
        for user in users:
            self._mem0.delete_user(user)
        deadline = time.monotonic() + MEM0_SECONDS
        while (left := set(self._find_memories(found))) and time.monotonic() < deadline:
            self._mem0.delete(sorted(left))
            time.sleep(0.2)
        if left:
            raise OpsError("Mem0 still has memories that it was told to delete: run the same command again.", code=1)

    def _receipts(self, found: Found) -> set[str]:
        """What the ledger says was remembered of calls that are not the caller's alone, whoever it was for."""
        calls = [call for call in found.known if {call.folder, digits(call)} != {self._subject.caller}]
        return {
            memory_id for call in calls for entry in self._ledger(call) for memory_id in entry.get("memory_ids", ())
        }

    def _ledger(self, call: Call) -> Iterable[dict[str, Any]]:
        return self._records.ledger(call.conversation_id).values()

    def doubts(self, found: Found) -> dict[str, datetime]:
        """The calls of which Mem0 may still show a memory, and until when; what it is at work on is waited for."""
        in_doubt = timedelta(seconds=int(self._stack.output("MemoryUnknownSeconds")))
        doubts = {}
        for call in found.known:
            for entry in self._ledger(call):
                if entry.get("state") == "sending" or (entry.get("state") == "sent" and not self._is_over(entry)):
                    until = datetime.fromisoformat(entry["started"]) + in_doubt
                    if until > datetime.now(timezone.utc):
                        doubts[call.conversation_id] = until
        return doubts

    def _is_over(self, entry: dict[str, Any]) -> bool:
        deadline = time.monotonic() + MEM0_SECONDS
        try:
            while self._mem0 and self._mem0.look(entry["event_id"]).status == "PENDING":
                if time.monotonic() > deadline:
                    return False
                time.sleep(1)
        except EventUnknownError:
            pass
        return True

    def discard(self, key: str, found: Found) -> None:
        """Prepare a staged body's deletion. What others have in it, and is not archived yet, stays under its key."""
        now = datetime.now(timezone.utc)
        elements = [] if self._bucket.is_archived(key) else self._elements(found.staged[key])
        others = [element for _, element in elements if not self._is_ours(element, found)]
        if others:
            self._stage_again(key, others, now)
        else:
            self._records.note_discarded(str(keys.staged_delivery_id(key)), utc(now))

    def _stage_again(self, key: str, elements: list[Any], now: datetime) -> None:
        """The key stays, for records and messages may name it, and so does the order of what was parked."""
        self._stack.client("s3").put_object(
            Bucket=self._bucket.name, Key=key, Body=dump(elements), ContentType="application/json",
            Metadata={"origin": "webhook"},
        )  # fmt: skip
        staging = Staging(self._bucket, self._stack.client("sqs"), self._stack.output("ArchiveQueueUrl"))
        staging.hand_on([(key, now)])

    def delete(self, version: Version) -> bool:
        """Delete one version for good. What may not be deleted is hidden behind a delete marker: False."""
        if self._bucket.delete_for_good(version):
            return True
        self._stack.client("s3").delete_object(Bucket=self._bucket.name, Key=version.key)
        return False

    def bury(self, found: Found, kept: set[str]) -> None:
        """Leave the bare tombstones, but of those calls of which something is left to be found again."""
        for conversation_id, call in found.calls.items():
            if conversation_id not in kept:
                self._records.bury(call)


def largest(versions: list[Version]) -> Version:
    return max(versions, key=lambda each: each.size)


def digits(call: Call) -> str:
    return (call.external_number or "").lstrip("+")


def read_elements(body: bytes) -> Elements:
    """A body's elements; the bytes themselves if it is not JSON."""
    try:
        return read_webhook(body)
    except PoisonError:
        return [(None, body)]


def conversation_of(element: Any) -> str | None:
    try:
        return read_event(element).conversation_id
    except PoisonError:
        return None
