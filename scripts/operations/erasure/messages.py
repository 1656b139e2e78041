"""The messages of an erased caller, or of one call, in the dead-letter queues: found, and deleted."""

from collections.abc import Iterator
from contextlib import contextmanager

from scripts.operations.dead_letters import QUEUES, DeadLetter, HiddenMessages
from scripts.operations.erasure.find import Found
from scripts.operations.erasure.reading import Subject
from scripts.operations.stack import Stack
from scripts.operations.view import delay_ctrl_c
from shared.unnamed import Unnamed


class Messages:
    """The messages of one subject. Other queues are left alone: the functions drop what they find there."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject = stack, subject
        self.unread_queues: dict[str, str] = {}  # queues that could not be read to their end, and why

    def note_bodies(self) -> None:
        """Note the staged bodies of the archiver's dead letters: the hourly run may not have noted them yet."""
        unnamed = Unnamed(self._stack.table)
        with self._hidden("ArchiveDlqUrl") as (_, letters):
            for key in {each.staged_key for each in letters if each.staged_key}:
                unnamed.note_unless_dropped(key)

    def delete(self, found: Found, *, has_mem0: bool) -> int:
        """Delete the messages about the calls, also in MemoryQueue if no function reads it; returns how many.

        Messages about others come back at once, with one receive more.
        """
        queues = [dead for dead, _ in QUEUES.values()] + ([] if has_mem0 else ["MemoryQueueUrl"])
        return sum(self._delete_from(queue, found) for queue in queues if queue in self._stack.outputs)

    def _delete_from(self, queue: str, found: Found) -> int:
        with self._hidden(queue) as (hidden, letters):
            ours = [each for each in letters if self._is_about(each, found)]
            for each in ours:
                hidden.delete(each.message)
        return len(ours)

    def _is_about(self, letter: DeadLetter, found: Found) -> bool:
        if str(letter.content.get("staged_key")) in found.bodies:
            return True
        calls = set(letter.calls)
        is_named = self._subject.is_named_in(letter.body.encode()) and not calls & found.later.keys()
        return is_named or bool(calls & found.calls.keys())

    @contextmanager
    def _hidden(self, queue: str) -> Iterator[tuple[HiddenMessages, list[DeadLetter]]]:
        """A queue's messages, hidden from others until the end of the block."""
        hidden = HiddenMessages(self._stack.client("sqs"), self._stack.outputs[queue])
        try:
            if not hidden.receive():
                self.unread_queues[queue.removesuffix("Url")] = "it fills faster than it can be read"
            yield hidden, [DeadLetter(self._stack, "", message, dict) for message in hidden.all]
        finally:
            with delay_ctrl_c():
                hidden.release()
