"""`ops reindex`: make the records of the table, and their indexes, again from the bucket."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from itertools import groupby
from typing import Annotated, Any

import typer

from archiver.archive import UNNAMED_FOR, describe_call
from memory_writer.ledger import OPEN, iso
from reconciler.bookmarks import Bookmarks
from scripts.operations.stack import AT_ONCE, Stack
from scripts.operations.view import WITH_YES, View
from shared.call import Call
from shared.caller import Caller, find_caller, found_by
from shared.conversation import read_conversation
from shared.errors import PoisonError
from shared.keys import STAGING, is_recording, staged_delivery_id
from shared.parts import read_json
from shared.record import MEMORIES
from shared.times import utc
from shared.unnamed import Unnamed
from shared.webhooks import read_events

REACHED = "reindex"
COUNTED = ("calls", "recordings", "events", "payloads")
_FINAL = re.compile(r"(?:[0-9]{7,15}|no-phone)/([A-Za-z0-9_-]{1,128})((?:\.[A-Za-z0-9_-]{1,128})?)\.(json|mp3)")
UNKNOWN = (
    "Nobody knows whether Mem0 has the memories of the new records. To look, and to write those that are missing: "
    "ops replay --only memory --since 1970-01-01 --yes"
)
ERASED = (
    "The bucket has no tombstones. If the table was lost, erase again what your certificates (erasure-*.json) name. "
    "Otherwise, a webhook that arrives late can bring an erased call back."
)


def reindex(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write the records. Without it, objects are only counted.")
    ] = False,
) -> int:
    """Make the records of all calls, and their indexes, again from the bucket.

    Use it if the table was lost, or to fill a new index. If the table was lost, first try to restore a backup of it:
    only the table has the tombstones of erased calls, and what Mem0 answered.

    It is safe while calls arrive. It leaves records of newer versions and erased calls as they are.

    If the command is interrupted, run it again: it continues. Example: ops reindex --yes
    """
    view: View = context.obj
    run = Reindex(view.stack)
    if not yes:
        with view.progress.status("Counting the objects ..."):
            counted = run.count()
        view.show(counted, "In the bucket", WITH_YES)
        return 0
    with view.progress.status("Listing the payloads ...") as status:
        for done in run.run():
            status.update(f"{', '.join(f'{number:,} {what}' for what, number in done.items())} ...")
    remembers = "MemorySecretArn" in view.stack.outputs
    advice = [*([UNKNOWN] if remembers else []), ERASED] if run.done["new_records"] else []
    view.show(dict(run.done), "Made again from the bucket", "\n".join(advice))
    return 0


class Reindex:
    """One run. `done` counts what was read, and records that were not there before."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._records, self._bookmarks = stack, stack.records, Bookmarks(stack.table)
        self.done = Counter(dict.fromkeys((*COUNTED, "new_records"), 0))
        self._staged: dict[str, str] = {}  # the payloads that no object was made of, as far as is known, by delivery_id

    def count(self) -> dict[str, int]:
        counted = Counter(dict.fromkeys(COUNTED, 0))
        for page in self._stack.bucket.pages("", ""):
            counted.update(kind for item in page if (kind := kind_of(item["Key"])))
        return dict(counted)

    def run(self) -> Iterator[Counter[str]]:
        """Work page by page; gives what is done after each."""
        pages = self._stack.bucket.pages(f"{STAGING}/", "")
        self._staged = {
            digest: item["Key"] for page in pages for item in page if (digest := staged_delivery_id(item["Key"]))
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for page in self._stack.bucket.pages("", self._bookmarks.read(REACHED) or ""):
                finals = [item for item in page if _FINAL.fullmatch(item["Key"])]
                calls = [list(items) for _, items in groupby(finals, key=call_of)]
                list(pool.map(self._rebuild, calls))
                if page:
                    self._bookmarks.write(REACHED, page[-1]["Key"])
                yield self.done
            for _ in pool.map(self._add_payload, list(self._staged.values())):
                self.done["payloads"] += 1
                yield self.done
        self._bookmarks.remove(REACHED)

    def _rebuild(self, items: list[dict[str, Any]]) -> None:
        """Write what the objects of one call say into its record, one after the other."""
        if self._records.get(call_of(items[0])) is None:
            self.done["new_records"] += 1
        for item in items:
            kind = str(kind_of(item["Key"]))
            if {"calls": self._add_call, "events": self._add_event, "recordings": self._add_recording}[kind](item):
                self.done[kind] += 1

    def _add_call(self, item: dict[str, Any]) -> bool:
        key, read = item["Key"], self._stack.bucket.read(item["Key"])
        if read is None or "order" not in read[1]:
            return False
        part, metadata, at = read_json(read[0]), read[1], item["LastModified"].astimezone(timezone.utc)
        conversation, caller = read_conversation(part), with_number(find_caller(part), metadata)
        expected = "unavailable" if self._stack.outputs.get("KeepAudio") == "false" else "pending"
        audio = "none" if conversation.has_audio is False else expected
        call_id = call_of(item)
        fields, defaults = describe_call(call_id, metadata.get("agent_id"), conversation, caller, audio, at)
        defaults |= {"folder": key.partition("/")[0], "json_key": key}
        staged = self._take_staged(metadata)
        call = self._records.save_transcript(
            call_id, fields, defaults, metadata["order"], staged, caller.numbers, utc(at)
        )
        if call:
            self._correct_audio(call)
            self._note_unknown_memories(call_id, at)
        return call is not None

    def _correct_audio(self, call: Call) -> None:
        if call.open_audio and call.audio != "pending":
            self._records.close_audio(call.conversation_id)

    def _note_unknown_memories(self, call_id: str, at: datetime) -> None:
        """A memory without a line would be written again. With this line, the memory writer looks in Mem0 first."""
        if "MemorySecretArn" not in self._stack.outputs:
            return
        for item in MEMORIES:
            line = {"conversation_id": call_id, "item": item, "state": "sending", OPEN: "sending", "started": iso(at)}
            try:
                self._stack.table.put_item(Item=line, ConditionExpression="attribute_not_exists(conversation_id)")
            except self._stack.table.meta.client.exceptions.ConditionalCheckFailedException:
                continue

    def _add_event(self, item: dict[str, Any]) -> bool:
        read = self._stack.bucket.read(item["Key"])
        if read is None:
            return False
        numbers, staged = find_caller(read_json(read[0])).numbers, self._take_staged(read[1])
        at = utc(item["LastModified"])
        return self._records.add_staged(call_of(item), staged, at, numbers, item["Key"]) is not None

    def _add_recording(self, item: dict[str, Any]) -> bool:
        metadata = self._stack.metadata(item["Key"]) or {}
        if "order" not in metadata:
            return False
        self._records.save_audio(call_of(item), item["Key"], metadata["order"])
        if staged := self._take_staged(metadata):
            self._records.add_staged(call_of(item), staged, utc(item["LastModified"]))
        return True

    def _take_staged(self, metadata: dict[str, str]) -> str | None:
        """The key of the payload that an object was made of, if it has not expired."""
        return self._staged.pop(metadata.get("delivery_id", ""), None)

    def _add_payload(self, key: str) -> None:
        """Name another payload in the records of its calls, or in the list of those that no record names."""
        now, named = datetime.now(timezone.utc), list(self._calls_in(key))
        for conversation_id, numbers in named:
            self._records.add_staged(conversation_id, key, utc(now), numbers)
        if not named:
            is_done = self._stack.bucket.is_archived(key)
            Unnamed(self._stack.table).note(key, until=now + UNNAMED_FOR if is_done else None)

    def _calls_in(self, key: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The calls in a payload, with their numbers; none if it cannot be read."""
        if is_recording(key):
            named = (self._stack.metadata(key) or {}).get("conversation_id")
            yield from [(named, ())] if named else []
            return
        read = self._stack.bucket.read(key)
        for event in read_events(read[0]) if read else ():
            if event.conversation_id:
                yield event.conversation_id, numbers_in(event.data)


def kind_of(key: str) -> str | None:
    """What an object is; None for the events that name no call, and for anything else."""
    final = _FINAL.fullmatch(key)
    if final is None:
        return "payloads" if staged_delivery_id(key) else None
    return "recordings" if final[3] == "mp3" else "events" if final[2] else "calls"


def call_of(item: dict[str, Any]) -> str:
    """The conversation id in the key of a final object."""
    return str(_FINAL.fullmatch(item["Key"])[1])  # type: ignore[index]


def with_number(caller: Caller, metadata: dict[str, str]) -> Caller:
    """The caller, with the number that another event had told when the object was written."""
    number = metadata.get("external_number")
    if caller.number or not number:
        return caller
    return Caller(number, tuple(dict.fromkeys((found_by(number), *caller.numbers))))


def numbers_in(part: Any) -> tuple[str, ...]:
    try:
        return find_caller(part).numbers
    except PoisonError:  # more numbers than a call can have: it was never archived
        return ()
