"""Finds and deletes the memories of a caller, or of one call, in Mem0."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from memory_writer.memories import find_user
from memory_writer.memory import KINDS, Memory, MemoryBackend
from scripts.aws_session import OpsError
from scripts.operations.erasure.find import Found, digits
from scripts.operations.erasure.reading import Subject, users_of
from scripts.operations.stack import Stack, memory_backend
from shared import keys
from shared.call import Call
from shared.conversation import read_conversation
from shared.errors import EventUnknownError, StorageError
from shared.parts import read_json

MEM0_SECONDS = 60  # for Mem0 to finish an add, or to delete memories


class Memories:
    """The memories of one subject."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject, self._records = stack, subject, stack.records
        self._mem0: MemoryBackend | None = memory_backend(stack) if "MemorySecretArn" in stack.outputs else None

    @property
    def has_mem0(self) -> bool:
        return self._mem0 is not None

    def find(self, found: Found) -> set[str]:
        """The memories of the caller, but not of calls that stay; and of calls remembered for another user."""
        if self._mem0 is None:
            return set()
        ids = {memory for user in self._subject.users for memory in self._mem0.list_user(user)}
        if ids:  # asked for after the memories: a call has its record before it has memories
            ids -= {
                memory
                for call in self._calls_that_stay(found)
                for memory in self._memories_of(call, self._subject.users)
            }
        for call in found.with_data:
            ids |= set(self._memories_of(call, self.users_of(call) - self._subject.users))
        return ids

    def users_of(self, call: Call) -> set[str]:
        """The user ids that may have the call's memories: its numbers, or the id that its client gave."""
        numbers = call.numbers | ({digits(call)} if call.external_number else set())
        users = {*call.users, *(user for number in numbers for user in users_of(number))}
        body = self._read_json(call) if call.folder == keys.NO_PHONE else None
        if body:
            with suppress(ValueError):
                client = find_user(Call(call.conversation_id), read_conversation(read_json(body)))
                users |= {client} if client else set()
        return users

    def delete(self, found: Found) -> None:
        """Delete the memories, and the users without other calls. Waits until Mem0 has done it. Raises OpsError.

        A number with other calls stays a user, because new memories may be on their way.
        """
        if self._mem0 is None:
            return
        self._mem0.delete(sorted(self._receipts(found)))
        if self._subject.conversation or self._calls_that_stay(found):
            self._mem0.delete(sorted(self.find(found)))
        for user in self._users_to_delete(found):
            self._mem0.delete_user(user)
        deadline = time.monotonic() + MEM0_SECONDS
        while (left := self.find(found)) and time.monotonic() < deadline:
            self._mem0.delete(sorted(left))
            time.sleep(0.2)
        if left:
            raise OpsError("Mem0 still has memories that it should have deleted. Run the same command again.", code=1)

    def unsettled(self, found: Found) -> dict[str, datetime]:
        """The calls of which Mem0 may show a memory later, and until when. Waits for adds that Mem0 is working on."""
        unknown_for = timedelta(seconds=int(self._stack.output("MemoryUnknownSeconds")))
        unsettled = {}
        for call in found.with_data:
            for entry in self._ledger(call):
                until = datetime.fromisoformat(entry["started"]) + unknown_for if "started" in entry else None
                if until and until > datetime.now(timezone.utc) and self._may_appear(entry):
                    unsettled[call.conversation_id] = until
        return unsettled

    def _may_appear(self, entry: dict[str, Any]) -> bool:
        """Whether Mem0 may show the memory only later: also one whose id it has answered, until its event is over."""
        return entry.get("state") == "sending" or ("event_id" in entry and not self._is_over(entry))

    def _memories_of(self, call: Call, users: set[str]) -> Iterator[str]:
        """The ids of one call's memories."""
        for user in users:
            for kind in KINDS:
                metadata: dict[str, str | int | None] = {"conversation_id": call.conversation_id, "type": kind}
                yield from self._mem0.find(Memory(user, kind, [], metadata, infer=True)) if self._mem0 else ()

    def _calls_that_stay(self, found: Found) -> list[Call]:
        """The caller's calls that are not erased, as the index has them now."""
        calls = self._records.find_by_caller(self._subject.caller) if self._subject.caller else ()
        return [call for call in calls if call.conversation_id not in found.calls.keys() | found.shared.keys()]

    def _users_to_delete(self, found: Found) -> Iterator[str]:
        """The users without other calls; for the erasure of one call, only those without other memories too."""
        if self._subject.caller:
            yield from () if self._calls_that_stay(found) else self._subject.users
            return
        for user in {user for call in found.with_data for user in self.users_of(call)}:
            others = {call.conversation_id for call in self._records.find_by_caller(user.lstrip("+"))}
            if self._mem0 and not others - found.calls.keys() and not self._mem0.list_user(user):
                yield user

    def _receipts(self, found: Found) -> set[str]:
        """The memory ids in the ledger of calls that had other numbers too, for any user."""
        calls = [
            call for call in found.with_data if {call.folder, digits(call), *call.numbers} != {self._subject.caller}
        ]
        return {
            memory_id for call in calls for entry in self._ledger(call) for memory_id in entry.get("memory_ids", ())
        }

    def _ledger(self, call: Call) -> list[dict[str, Any]]:
        return list(self._records.ledger(call.conversation_id).values())

    def _is_over(self, entry: dict[str, Any]) -> bool:
        deadline = time.monotonic() + MEM0_SECONDS
        try:
            while self._mem0 and self._mem0.check_event(entry["event_id"]).status == "PENDING":
                if time.monotonic() > deadline:
                    return False
                time.sleep(1)
        except EventUnknownError:
            pass
        return True

    def _read_json(self, call: Call) -> bytes | None:
        """Raises OpsError."""
        try:
            read = self._stack.bucket.read(keys.call_json(keys.NO_PHONE, call.conversation_id))
        except StorageError as error:
            advice = "if it is in an archive class of S3, restore it. Then run the same command again"
            raise OpsError(f"The JSON of {call.conversation_id} cannot be read ({error}): {advice}.", code=1) from None
        return read[0] if read else None
