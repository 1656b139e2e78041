"""The rows under `text/`, for `ops reindex`: made again from the archive, and noted again in the calls' records.

It is safe while calls arrive: the record is told of rows before they are written, as the indexer does, and its newest
version counts. An erasure does not know this command, so it does not wait for it. Therefore, after each file, the
command looks whether a call in it was erased meanwhile, and takes its rows out again.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import groupby, islice

from indexer.batch import Indexed, note, with_heard
from indexer.drafts import Drafts
from indexer.merge import counting, delete
from reconciler.bookmarks import Bookmarks
from scripts.operations.erasure.find import Found
from scripts.operations.erasure.reading import Subject
from scripts.operations.erasure.rows import Rows
from scripts.operations.stack import AT_ONCE, Stack
from shared.call import Call
from shared.errors import PoisonError, StorageError
from shared.keys import TEST_CALLS
from shared.messages import Announcement
from shared.source import read_source
from shared.texts import CallVersion, day_of, day_prefix, versions_in
from shared.times import utc

REACHED = "reindex-text"
CONTINUES_FOR = timedelta(days=1)  # after that, an interrupted run begins again
TOGETHER = 1000  # calls whose rows are written together, as the indexer's


def note_rows(stack: Stack, key: str) -> None:
    """Note the rows of a file in the records of its calls, so that an erasure finds them."""
    day, read = day_of(key), stack.bucket.read(key)
    for conversation_id, version in sorted(versions_in(read[0])) if read and day else ():
        stack.records.note_text(conversation_id, str(day), version)
        stack.records.note_text_day(conversation_id, str(day))  # also if other rows are newer


class RowsAgain:
    """One run over the calls that began in a range of time. `done` counts calls and files."""

    def __init__(self, stack: Stack, since: datetime | None, until: datetime | None) -> None:
        self._stack, self._bucket, self._records = stack, stack.bucket, stack.records
        self._since, self._until = utc(since) if since else "0", utc(until) if until else "9"
        self.done = Counter(dict.fromkeys(("calls", "files", "left_out", "unreadable"), 0))
        self._files = Drafts(stack.bucket, replace=True)
        self._unwritten: set[tuple[str, str]] = set()  # days and calls whose rows are read

    def count(self) -> dict[str, int]:
        return {"calls": sum(1 for _ in self._calls(self._since))}

    def run(self) -> Iterator[Counter[str]]:
        """Work day by day; gives what is done after each thousand calls."""
        bookmarks, bookmark = Bookmarks(self._stack.table), f"{self._since[:10]} {self._until[:10]}"
        begun, _, reached = (bookmarks.read(REACHED) or "").partition(f" {bookmark} ")
        if not reached or begun < utc(datetime.now(timezone.utc) - CONTINUES_FOR):
            begun, reached = utc(datetime.now(timezone.utc)), "0"
        for day, calls in groupby(self._calls(max(self._since, reached)), key=lambda call: str(call.listed_at)[:10]):
            if day > reached:
                yield from self._make_day(day, calls)
                bookmarks.write(REACHED, f"{begun} {bookmark} {day}")
        bookmarks.remove(REACHED)

    def _calls(self, since: str) -> Iterator[Call]:
        """The archived calls of the range, by day."""
        fits = lambda listed: self._since <= listed["listed_at"] < self._until  # noqa: E731
        for call in self._records.find_all(fits, since[:10]):
            if call.json_key and not call.erased_at and not call.conversation_id.startswith(TEST_CALLS):
                yield call

    def _make_day(self, day: str, calls: Iterator[Call]) -> Iterator[Counter[str]]:
        """Write the rows of a day, then delete the files whose rows are all written again."""
        before = [item["Key"] for page in self._bucket.pages(day_prefix(day), "") for item in page]
        made: set[CallVersion] = set()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while together := list(islice(calls, TOGETHER)):
                for indexed in pool.map(self._read, together):
                    if indexed:
                        self._files.add(indexed.day, indexed.version, indexed.rows(), indexed.version[0])
                        self._unwritten.add((indexed.day, indexed.version[0]))
                        made.add(indexed.version)
                    if self._files.is_full:
                        self._write()
                self._write()
                yield self.done
        for key in set(before) - self._files.written:
            self._delete_if_made(key, made)

    def _read(self, call: Call) -> Indexed | None:
        try:
            source = read_source(Announcement.of(call), self._bucket, self._records)
        except (StorageError, PoisonError):
            self.done["unreadable"] += 1
            return None
        indexed = note(with_heard(source, self._bucket), self._records) if source else None
        self.done["calls" if indexed else "left_out"] += 1
        return indexed

    def _write(self) -> None:
        """Write what was read; raises what went wrong. Then look whether one of these calls was erased meanwhile."""
        written, self._unwritten = self._unwritten, set()
        files = len(self._files.written)
        for error in self._files.write().values():
            raise error
        self.done["files"] += len(self._files.written) - files
        days = frozenset(day for day, _ in written)
        found = self._records.get_all(conversation_id for _, conversation_id in written)
        erased = {name: replace(call, text_days=days) for name, call in found.items() if call.erased_at}
        if erased:
            Rows(self._stack, Subject()).delete(Found(erased))

    def _delete_if_made(self, key: str, made: set[CallVersion]) -> None:
        read = self._bucket.read(key)
        try:
            versions = versions_in(read[0]) if read and day_of(key) else None
        except ValueError:
            return
        if versions is not None and counting(self._records, versions) <= made:
            delete(self._bucket, key)
