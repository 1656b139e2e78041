"""`ops reindex`: make the records of the table, and their indexes, again from the bucket."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Annotated, Any

import typer

from archiver.archive import UNNAMED_FOR, describe_call
from memory_writer.ledger import OPEN, iso
from memory_writer.memories import find_user
from reconciler.bookmarks import Bookmarks
from scripts.aws_session import OpsError
from scripts.operations.rows import RowsAgain, note_rows
from scripts.operations.stack import AT_ONCE, Stack
from scripts.operations.view import TIMES, WITH_YES, View, parse_time
from shared.call import Call, Transcription
from shared.caller import Caller, find_caller, found_by
from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError, StorageError
from shared.keys import STAGING, is_recording, staged_delivery_id
from shared.parts import read_json
from shared.record import MEMORIES
from shared.texts import day_of
from shared.times import utc
from shared.unnamed import Unnamed
from shared.webhooks import read_events

REACHED = "reindex"
CONTINUES_FOR = timedelta(days=1)  # after that, much may have changed in what was read
_NEVER = datetime.min.replace(tzinfo=timezone.utc)
COUNTED = ("calls", "recordings", "events", "payloads", "files_of_rows")
_FINAL = re.compile(r"(?:[0-9]{7,15}|no-phone)/([A-Za-z0-9_-]{1,128})((?:\.[A-Za-z0-9_-]{1,128})?)\.(json|mp3|vtt)")
UNKNOWN = (
    "Nobody knows whether Mem0 has the memories of the new records. To look, and to write those that are missing: "
    "ops replay --only memory --since 1970-01-01 --yes"
)
ERASED = (
    "The bucket has no tombstones. If the table was lost, erase again what your certificates (erasure-*.json) name. "
    "Otherwise, a webhook that arrives late can bring an erased call back."
)


COLD = (
    "Calls were left out, because their JSON cannot be read. If its storage class is GLACIER or DEEP_ARCHIVE, restore "
    "it (aws s3api restore-object), and run the command again."
)
UNREADABLE = (
    "Objects were left out: the archiver did not write them, or they cannot be read. If their storage class is GLACIER "
    "or DEEP_ARCHIVE, restore them (aws s3api restore-object), and run the command again. Until then, new records of "
    "these calls have only the number, the agent and the time."
)


def reindex(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write the records. Without it, objects are only counted.")
    ] = False,
    text: Annotated[bool, typer.Option("--text", help="Make the rows that searches read, not the records.")] = False,
    since: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help=f"With --text: calls since then: {TIMES}."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="With --text: calls before then.")
    ] = None,
) -> int:
    """Make the records of all calls, and their indexes, again from the bucket.

    Use it if the table was lost, or to fill a new index. If the table was lost, first try to restore a backup of it:
    only the table has the tombstones of erased calls, and what Mem0 answered.

    It is safe while calls arrive. It leaves records of newer versions and erased calls as they are.

    With --text, it makes the rows under text/ again, which searches and statistics read. It finds the calls by their
    records.

    If the command is interrupted, run it again within a day: it continues. Exit code 1 if an object cannot be read.

    Example: ops reindex --yes
    """
    view: View = context.obj
    if text:
        return reindex_text(view, RowsAgain(view.stack, since, until), yes=yes)
    if since or until:
        raise OpsError("--since and --until need --text: the records are always made of all objects.")
    run = Reindex(view.stack)
    if not yes:
        with view.progress.status("Counting the objects ..."):
            counted = run.count()
        view.show(counted, "In the bucket", WITH_YES)
        return 0
    with view.progress.status("Listing the payloads ...") as status:
        for done in run.run():
            status.update(f"{', '.join(f'{number:,} {what}' for what, number in done.items())} ...")
    view.show(dict(run.done), f"Made again from the bucket{run.since}", "\n".join(advise(view.stack, run.done)))
    return 1 if run.done["unreadable"] else 0


def reindex_text(view: View, run: RowsAgain, *, yes: bool) -> int:
    with view.progress.status("Counting the calls ...") as status:
        if not yes:
            view.show(run.count(), "To be indexed again", WITH_YES)
            return 0
        for done in run.run():
            status.update(f"{done['calls']:,} calls ...")
    view.show(dict(run.done), "Rows that were made again", COLD if run.done["unreadable"] else "")
    return 1 if run.done["unreadable"] else 0


def advise(stack: Stack, done: Counter[str]) -> list[str]:
    unknown = [UNKNOWN] if done["new_records"] and "MemorySecretArn" in stack.outputs else []
    return [*unknown, *([ERASED] if done["new_records"] else []), *([UNREADABLE] if done["unreadable"] else [])]


class Reindex:
    """One run. `done` counts what was read, and records that were not there before."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._records, self._bookmarks = stack, stack.records, Bookmarks(stack.table)
        self.done = Counter(dict.fromkeys((*COUNTED, "unreadable", "new_records"), 0))
        self.since = ""  # in words, if the run continues another one
        self._staged: dict[str, str] = {}  # the payloads that no object was made of, as far as is known, by delivery_id

    def count(self) -> dict[str, int]:
        counted = Counter(dict.fromkeys(COUNTED, 0))
        for page in self._stack.bucket.pages("", ""):
            counted.update(kind for item in page if (kind := kind_of(item["Key"])))
        return dict(counted)

    def run(self) -> Iterator[Counter[str]]:
        """Work page by page; gives what is done after each."""
        begun, after = self._begin(datetime.now(timezone.utc))
        pages = self._stack.bucket.pages(f"{STAGING}/", "")
        self._staged = {
            digest: item["Key"] for page in pages for item in page if (digest := staged_delivery_id(item["Key"]))
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for page in self._stack.bucket.pages("", after):
                finals = [item for item in page if _FINAL.fullmatch(item["Key"])]
                for done in pool.map(self._rebuild, [list(items) for _, items in groupby(finals, key=call_of)]):
                    self.done.update(done)
                for done in pool.map(self._note_rows, [item["Key"] for item in page if day_of(item["Key"])]):
                    self.done.update(done)
                if page:
                    self._bookmarks.write(REACHED, f"{begun} {page[-1]['Key']}")
                yield self.done
            for done in pool.map(self._add_payload, list(self._staged.values())):
                self.done.update(done)
                yield self.done
        self._bookmarks.remove(REACHED)

    def _note_rows(self, key: str) -> Counter[str]:
        """The keys of rows come after those of all calls, so the records are there."""
        try:
            note_rows(self._stack, key)
        except (StorageError, ValueError):
            return Counter({"unreadable": 1})
        return Counter({"files_of_rows": 1})

    def _begin(self, now: datetime) -> tuple[str, str]:
        """When the run began, and the last key that was read: those of a run that was interrupted within a day."""
        begun, _, after = (self._bookmarks.read(REACHED) or "").partition(" ")
        if begun < utc(now - CONTINUES_FOR):
            begun, after = utc(now), ""
            self._bookmarks.write(REACHED, f"{begun} ")  # until the end, an erasure may not find all calls
        self.since = f", from where the run of {begun} was interrupted" if after else ""
        return begun, after

    def _rebuild(self, items: list[dict[str, Any]]) -> Counter[str]:
        """Write what the objects of one call say into its record, one after the other."""
        is_new = self._records.get(call_of(items[0])) is None
        done = Counter({"new_records": int(is_new)})
        for item in items:
            kind = str(kind_of(item["Key"]))
            try:
                if kind == "calls":
                    is_done = self._add_call(item, is_new=is_new)
                else:
                    is_done = self._add_event(item) if kind == "events" else self._add_recording(item)
                done[kind] += is_done
                if kind == "calls" and not is_done:
                    break  # it is erased, or its record is of a newer version
            except (StorageError, PoisonError, ValueError):  # in cold storage, or not an object of the archiver
                done["unreadable"] += 1
        return done

    def _add_call(self, item: dict[str, Any], *, is_new: bool) -> bool:
        key, at = item["Key"], item["LastModified"].astimezone(timezone.utc)
        try:
            body, metadata = self._read(key)
            part = read_json(body)
            conversation, caller = read_conversation(part), with_number(find_caller(part), metadata)
        except (StorageError, PoisonError, ValueError):
            if is_new:  # what the metadata says is better than nothing
                told = self._metadata(key)
                self._save(key, Conversation(started_at=read_time(told)), with_number(Caller(None), told), told, at)
            raise
        started_at = conversation.started_at or at
        if caller.digits and started_at <= (self._stack.tombstones.erased_at(caller.digits) or _NEVER):
            self._take_staged(metadata)
            return False
        call = self._save(key, conversation, caller, metadata, at)
        if call and is_new and find_user(call, conversation):
            self._note_unknown_memories(call.conversation_id, at)
        return call is not None

    def _save(
        self, key: str, conversation: Conversation, caller: Caller, metadata: dict[str, str], at: datetime
    ) -> Call | None:
        call_id, expected = call_of({"Key": key}), "pending"
        if conversation.has_audio is False:
            expected = "none"
        elif self._stack.outputs.get("KeepAudio") == "false":
            expected = "unavailable"
        fields, defaults = describe_call(call_id, metadata.get("agent_id"), conversation, caller, expected, at)
        defaults |= {"folder": key.partition("/")[0], "json_key": key}
        staged = self._take_staged(metadata)
        return self._records.save_transcript(
            call_id, fields, defaults, metadata["order"], staged, caller.numbers, utc(at)
        )

    def _read(self, key: str) -> tuple[bytes, dict[str, str]]:
        """An object and its metadata. Raises StorageError, and ValueError if the archiver did not write it."""
        body, metadata = self._stack.bucket.read(key) or (b"", {})
        return body, of_the_archiver(metadata)

    def _metadata(self, key: str) -> dict[str, str]:
        """The metadata of an object that is not read, because it is large or cannot be. Raises as `_read`."""
        return of_the_archiver(self._stack.metadata(key) or {})

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
        key, at = item["Key"], utc(item["LastModified"])
        if key.endswith((".transcribe.json", ".vtt")):
            return self._add_transcription(call_of(item), key, at)
        body, metadata = self._read(key)
        numbers = find_caller(read_json(body)).numbers
        staged = self._take_staged(metadata)
        return self._records.add_staged(call_of(item), staged, at, numbers, key) is not None

    def _add_transcription(self, call_id: str, key: str, at: str) -> bool:
        """The result of Amazon Transcribe, or its subtitles: what the record needs is in the metadata."""
        metadata = self._metadata(key)
        call = self._records.add_staged(call_id, None, at, event_key=key)
        if call and not call.transcription and "job" in metadata:
            done = Transcription("done", metadata["job"], metadata["order"], int(metadata.get("attempt", "1")), at)
            self._records.note_transcription(call_id, done, None)
        return call is not None

    def _add_recording(self, item: dict[str, Any]) -> bool:
        metadata = self._metadata(item["Key"])
        self._records.save_audio(call_of(item), item["Key"], metadata["order"])
        if staged := self._take_staged(metadata):
            self._records.add_staged(call_of(item), staged, utc(item["LastModified"]))
        return True

    def _take_staged(self, metadata: dict[str, str]) -> str | None:
        """The key of the payload that an object was made of, if it has not expired."""
        return self._staged.pop(metadata.get("delivery_id", ""), None)

    def _add_payload(self, key: str) -> Counter[str]:
        """Name another payload in the records of its calls, or in the list of those that no record names."""
        now = datetime.now(timezone.utc)
        try:
            named = list(self._calls_in(key))
        except StorageError:
            return Counter({"unreadable": 1})
        for conversation_id, numbers in named:
            self._records.add_staged(conversation_id, key, utc(now), numbers)
        if not named:
            is_done = self._stack.bucket.is_archived(key)
            Unnamed(self._stack.table).note(key, until=now + UNNAMED_FOR if is_done else None)
        return Counter({"payloads": 1})

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
        return "payloads" if staged_delivery_id(key) else "files_of_rows" if day_of(key) else None
    return "recordings" if final[3] == "mp3" else "events" if final[2] or final[3] == "vtt" else "calls"


def call_of(item: dict[str, Any]) -> str:
    """The conversation id in the key of a final object."""
    return str(_FINAL.fullmatch(item["Key"])[1])  # type: ignore[index]


def of_the_archiver(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata with the version's `order`, which only the archiver writes. Raises ValueError without it."""
    if "order" not in metadata:
        raise ValueError("not an object of the archiver")
    return metadata


def with_number(caller: Caller, metadata: dict[str, str]) -> Caller:
    """The caller, with the number that another event had told when the object was written."""
    number = metadata.get("external_number")
    if caller.number or not number:
        return caller
    return Caller(number, tuple(dict.fromkeys((found_by(number), *caller.numbers))))


def read_time(metadata: dict[str, str]) -> datetime | None:
    """The call's start, as the archiver wrote it beside the object."""
    try:
        return datetime.fromisoformat(metadata["timestamp"]).astimezone(timezone.utc)
    except (KeyError, ValueError):
        return None


def numbers_in(part: Any) -> tuple[str, ...]:
    try:
        return find_caller(part).numbers
    except PoisonError:  # more numbers than a call can have: it was never archived
        return ()
