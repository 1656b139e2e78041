"""Erases a caller, or one call, from everything that a stack keeps.

The order makes it safe to be interrupted and repeated. Tombstones come first: from then on nothing of before is
archived, fetched or remembered any more. The functions that began before are waited out. Then go messages, memories
and objects; and last what the table knows of the calls, by which a second run finds what is left.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from scripts.operations.dead_letters import DeadLetter, HiddenMessages
from scripts.operations.erasure.memories import Memories
from scripts.operations.erasure.reading import Subject
from scripts.operations.erasure.search import AT_ONCE, Found, Search, flat
from scripts.operations.selection import is_staged
from scripts.operations.stack import Stack
from scripts.operations.view import undisturbed
from shared import keys
from shared.bucket import Version
from shared.record import Call
from shared.times import utc
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed

DEAD = ("ArchiveDlqUrl", "MemoryDlqUrl", "AudioDlqUrl")


class Eraser:
    """Finds and erases. What is gone already is no error."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject, self._bucket, self._records = stack, subject, stack.bucket, stack.records
        self.memories = Memories(stack, subject)
        self.unseen: dict[str, str] = {}  # the queues that were not seen to their end, and why
        self._unnamed = Unnamed(stack.table)
        self._tombstones = Tombstones(stack.table, lambda: stack.secret("ErasureSecretArn"))

    @property
    def patience(self) -> int:
        """The seconds that a function may be at work with what it read before there was a tombstone."""
        names = "ArchiveTimeoutSeconds", "MemoryTimeoutSeconds"
        return max(int(self._stack.output(name)) for name in names) + 1

    def find(self) -> Found:
        """Look through table, bucket and Mem0."""
        found = Search(self._stack, self._subject).find()
        found.memories = self.memories.find(found)
        return found

    def find_again(self) -> Found:
        """Look through the dead-letter queue of the archiver too, whose bodies the sweep may not have noted yet."""
        with self._held("ArchiveDlqUrl") as (_, messages):
            for key in {str(each.content.get("staged_key")) for each in messages}:
                if is_staged(key):
                    self._unnamed.note(key)
        return self.find()

    def close_caller(self) -> None:
        """From now on the archiver drops what comes of the caller's earlier calls, however late."""
        if self._subject.caller:
            self._tombstones.erase(self._subject.caller, self._subject.at)

    def entomb(self, found: Found) -> datetime:
        """From now on nothing more comes; returns when the functions that began before are over."""
        now = datetime.now(timezone.utc)
        for conversation_id, call in found.calls.items():
            self._keep_findable(call, utc(now))
            found.calls[conversation_id] = self._records.erase(conversation_id, utc(now), self.memories.users_of(call))
        return now + timedelta(seconds=self.patience)

    def _keep_findable(self, call: Call, now: str) -> None:
        """Audio does not say whose it is, once its transcript is deleted: a second run finds its call by the index."""
        caller = self._subject.caller
        if caller and caller not in call.numbers | {call.caller}:
            self._records.note_numbers(replace(call, numbers=frozenset({caller})), now)

    def delete_objects(self, found: Found) -> Iterator[tuple[Version, bool]]:
        """Delete for good; says of each version whether it is gone. Arrays first, for they are found by the others."""
        now = datetime.now(timezone.utc)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for key in found.bodies:
                self._records.note_discarded(str(keys.staged_delivery_id(key)), now)
            for versions in (list(found.finals), flat(found.arrays), flat(found.staged)):
                yield from zip(versions, pool.map(self._delete, versions), strict=True)

    def _delete(self, version: Version) -> bool:
        """Delete one version for good. What may not be deleted is hidden behind a delete marker: False."""
        if self._bucket.delete_for_good(version):
            return True
        self._stack.client("s3").delete_object(Bucket=self._bucket.name, Key=version.key)
        return False

    def drop_messages(self, found: Found) -> int:
        """Delete what is said about the calls in dead-letter queues, and in MemoryQueue if nobody reads it.

        What is about others comes back at once, received once more. Other queues are left alone: the functions drop
        what they find there.
        """
        names = DEAD if self.memories.has_mem0 else (*DEAD, "MemoryQueueUrl")
        return sum(self._drop(name, found) for name in names if name in self._stack.outputs)

    def _drop(self, queue: str, found: Found) -> int:
        with self._held(queue) as (hold, messages):
            ours = [each for each in messages if self._is_about(each, found)]
            for each in ours:
                hold.delete(each.message)
        return len(ours)

    def _is_about(self, message: DeadLetter, found: Found) -> bool:
        if str(message.content.get("staged_key")) in found.bodies:
            return True
        calls = set(message.calls)
        is_named = self._subject.is_named_in(message.body.encode()) and not calls & found.later.keys()
        return is_named or bool(calls & found.calls.keys())

    @contextmanager
    def _held(self, queue: str) -> Iterator[tuple[HiddenMessages, list[DeadLetter]]]:
        """A queue's messages, hidden from others; those that are still there afterwards come back at once."""
        hold = HiddenMessages(self._stack.client("sqs"), self._stack.outputs[queue])
        try:
            if not hold.receive():
                self.unseen[queue.removesuffix("Url")] = "it fills faster than it can be looked through"
            yield hold, [DeadLetter(self._stack, "", message, dict) for message in hold.all]
        finally:
            with undisturbed():
                hold.release()

    def bury(self, found: Found, kept: set[str]) -> None:
        """Leave bare tombstones, and nothing of the caller in others' records.

        What is `kept`, or for a person to look at, is to be found again: the number in the index goes last.
        """
        caller = self._subject.caller
        for call in found.calls.values():
            if call.conversation_id not in kept:
                self._records.bury(replace(call, numbers=call.numbers - {caller}))
                if caller:
                    self._records.remove_number(call.conversation_id, caller)
        for call in found.shared.values():
            if not kept and not any(f"/{call.conversation_id}." in key for key in found.doubtful):
                events = {key for key in call.event_keys if not any(self._bucket.versions(key))}
                staged = call.staged_keys & found.bodies.keys()
                self._records.leave_out_number(call.conversation_id, caller, staged, events)
                self._records.remove_number(call.conversation_id, caller)

    def tidy(self, found: Found) -> None:
        """Nobody needs to look any more at staged bodies that are finished, or gone."""
        for key in found.finished:
            self._unnamed.remove(key)
