"""The steps of an erasure, in an order that is safe to interrupt and to repeat.

Tombstones come first: from then on no earlier data is archived, fetched or remembered. Then the functions that began
before are waited out. Messages, memories, objects and rows are deleted next. The records of the calls are cleared
last, because a second run finds by them what is left.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from reconciler.elevenlabs import ElevenLabs
from scripts.operations.erasure.delete import Eraser
from scripts.operations.erasure.find import Found, Search
from scripts.operations.erasure.memories import Memories
from scripts.operations.erasure.messages import Messages
from scripts.operations.erasure.reading import Subject
from scripts.operations.erasure.rows import Rows
from scripts.operations.stack import Stack
from scripts.operations.view import View, delay_ctrl_c
from shared.bucket import Version
from shared.errors import ElevenLabsError

MOST_WAITS = 2  # after the first wait, no function is running that had read data before there was a tombstone
Answers = dict[
    str, str | None
]  # by call: why ElevenLabs has not deleted it, empty if it has, None if it has no such call


@dataclass(frozen=True)
class Erasure:
    """What one run deleted, and what it found afterwards."""

    subject: Subject
    began_at: datetime
    finished_at: datetime
    found: Found
    found_afterwards: Found
    messages: int
    kept: set[str]  # calls whose records a second run needs
    locked: list[Version]  # versions that may not be deleted yet
    unsettled: dict[str, datetime]  # calls of which Mem0 may show a memory later, and until when
    transcribing: set[str]  # calls whose recording Amazon Transcribe is still working on
    to_review: dict[str, str]  # objects and queues that a person must look at, and why
    at_elevenlabs: Answers | None  # None if its copies stay
    has_mem0: bool

    @property
    def is_complete(self) -> bool:
        refused = any((self.at_elevenlabs or {}).values())
        later = self.to_review or self.unsettled or self.transcribing
        return not (any(self.found_afterwards.numbers().values()) or later or refused)


class Run:
    """One run of an erasure."""

    def __init__(self, view: View, subject: Subject) -> None:
        self._view, self._stack, self._subject = view, view.stack, subject
        self._rows = Rows(self._stack, subject)
        self.memories, self._messages = Memories(self._stack, subject), Messages(self._stack, subject)
        self._eraser = Eraser(self._stack, subject)

    @property
    def seconds(self) -> int:
        """How long a function may run with data that it read before there was a tombstone."""
        return longest_function(self._stack) + 1

    def find(self) -> Found:
        """Search table, bucket and Mem0."""
        found = Search(self._stack, self._subject).find()
        found.memories, found.rows = self.memories.find(found), self._rows.find(found)
        return found

    def erase(self, found: Found, elevenlabs: ElevenLabs | None) -> Erasure:
        began_at = datetime.now(timezone.utc)
        found = self._stop_new_data(found)
        with self._view.progress.status("Deleting messages and memories ..."):
            unsettled = self.memories.unsettled(found)
            messages = self._messages.delete(found, has_mem0=self.memories.has_mem0)
            self.memories.delete(found)
        transcribing = self._eraser.delete_jobs(found)  # before their files
        locked = self._delete_objects(found)
        with self._view.progress.status("Deleting the rows under text/ ..."):
            locked += self._rows.delete(found)
        with self._view.progress.status("Clearing the records, and searching again ..."):
            kept = set(found.calls) if locked else {*unsettled, *transcribing}
            self._eraser.clear_records(found, kept)
            afterwards = self._find_again()
            self._eraser.remove_notes(afterwards)
            to_review = afterwards.to_review | self._messages.unread_queues
            answers = delete_at_elevenlabs(elevenlabs, sorted(found.calls)) if elevenlabs else None
        return Erasure(
            self._subject, began_at, datetime.now(timezone.utc), found, afterwards, messages, kept, locked,
            unsettled, transcribing, to_review, answers, self.memories.has_mem0,
        )  # fmt: skip

    def _stop_new_data(self, found: Found) -> Found:
        """Write tombstones and wait; once more if earlier calls arrived during the wait. Returns what is there then."""
        self._eraser.write_caller_tombstone()
        for _ in range(MOST_WAITS):
            self._eraser.write_call_tombstones(found, self.memories.users_of)
            self._wait(datetime.now(timezone.utc) + timedelta(seconds=self.seconds))
            with self._view.progress.status("Searching for data that arrived during the wait ..."):
                found_now = self._find_again()
            if found_now.calls.keys() <= found.calls.keys():
                return found_now
            found = found_now
        self._eraser.write_call_tombstones(found, self.memories.users_of)
        return found

    def _wait(self, until: datetime) -> None:
        """Wait for functions that read data before the tombstones were there."""
        while (left := (until - datetime.now(timezone.utc)).total_seconds()) > 0:
            with self._view.progress.status(f"Waiting {left:.0f} s for functions that are still running ..."):
                time.sleep(min(left, 5))

    def _find_again(self) -> Found:
        self._messages.note_bodies()
        return self.find()

    def _delete_objects(self, found: Found) -> list[Version]:
        """Delete every version; returns those that may not be deleted yet."""
        with self._view.bar() as bar, delay_ctrl_c():
            objects = self._eraser.delete_objects(found)
            deleted = bar.track(objects, total=len(found.versions), description="Deleting")
            return [version for version, is_deleted in deleted if not is_deleted]


def longest_function(stack: Stack) -> int:
    """The longest timeout, in seconds, of the functions that read calls."""
    names = ["ArchiveTimeoutSeconds", "MemoryTimeoutSeconds", "TextTimeoutSeconds"]
    names += [name for name in ("TranscribeTimeoutSeconds",) if name in stack.outputs]
    return max(int(stack.output(name)) for name in names)


def delete_at_elevenlabs(client: ElevenLabs, conversation_ids: list[str]) -> Answers:
    """Raises nothing: each error is in the answers."""
    answers: Answers = {}
    for each in conversation_ids:
        try:
            answers[each] = "" if client.delete(each) else None
        except ElevenLabsError as error:
            answers[each] = str(error)
    return answers
