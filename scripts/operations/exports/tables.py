"""Writes calls into an export's folder as tables: for each day a file of each table."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from scripts.operations.exports.download import Outcome
from scripts.operations.exports.folder import VERSION, File, Folder
from scripts.operations.selection import Chosen
from scripts.operations.stack import Stack
from scripts.operations.tables.archive import Archive, Known, Read
from scripts.operations.tables.files import FORMATS
from scripts.operations.tables.rows import TABLES, columns
from scripts.operations.view import View
from shared.times import utc

TOGETHER = 500  # calls whose rows are in memory as objects; also a row group of a Parquet file
LAYOUT = 1  # of the tables; another one makes the days of an earlier run worthless


class Tables:
    """One run of an export. A day whose calls have not changed since an earlier run is not read again."""

    def __init__(self, stack: Stack, folder: Folder, form: str) -> None:
        self.outcome = Outcome()
        self._stack, self._folder, self._form = stack, folder, form
        self._archive, self._days = Archive(stack), dict[str, list[str]]()

    def find(self, chosen: Chosen) -> int:
        """Look for the calls to export; returns how many there may be."""
        self._chosen, self._days = chosen, chosen.days()
        return self._number()

    def run(self, view: View) -> None:
        with view.bar() as bar:
            task, done = bar.add_task("Exporting", total=self._number()), 0
            for day, conversation_ids in self._days.items():
                calls = [each for each in self._archive.known(conversation_ids) if self._chosen.fits(each.call)]
                if calls and not self._keep(day, calls):
                    with closing(self._archive.read(calls)) as reading:
                        self._write(day, calls, reading, lambda number: bar.advance(task, number))
                done += len(conversation_ids)
                bar.update(task, completed=done)

    def totals(self) -> dict[str, int]:
        files = self._folder.files.values()
        rows = {table: sum(file.rows or 0 for file in files if file.key.startswith(f"{table}/")) for table in TABLES}
        return rows | {
            "files": len(files),
            "bytes": sum(file.size for file in files),
            "unavailable_calls": len(self.outcome.unavailable),
            "missing": len(self.outcome.missing),
        }

    def manifest(self, header: dict[str, Any]) -> dict[str, Any]:
        """The manifest without its files, which the folder adds."""
        days = sorted({file.key.split("/")[1].removeprefix("day=") for file in self._folder.files.values()})
        return {
            "version": VERSION, "layout": LAYOUT, "format": self._form, "stack": self._stack.name,
            "bucket": self._stack.bucket.name, "exported_at": utc(datetime.now(timezone.utc)),
            "choice": header["asked"] | {"since": header["since"], "until": header["until"]},
            "first_day": days[0] if days else None, "last_day": days[-1] if days else None,
            "totals": self.totals(), "unavailable": self.outcome.unavailable, "missing": self.outcome.missing,
            "tables": {
                table: [{"name": each.name, "type": each.kind, "meaning": each.meaning} for each in columns(table)]
                for table in TABLES
            },
        }  # fmt: skip

    def advice(self) -> str:
        if self.outcome.unavailable:
            return (
                'The JSON of some calls cannot be read: see "unavailable" in manifest.json. Of these calls, the tables '
                "have only what the records say. Objects in an archive class of S3 must be restored first."
            )
        if self.outcome.missing:
            return 'S3 does not have the JSON of some calls: see "missing" in manifest.json. Then run: ops verify ID'
        return ""

    def _number(self) -> int:
        return sum(map(len, self._days.values()))

    def _keep(self, day: str, calls: list[Known]) -> bool:
        """Whether an earlier run wrote the files of this day from the same calls; they are then part of this export."""
        files = [self._folder.known(self._key(table, day), source=source_of(calls)) for table in TABLES]
        whole = [file for file in files if file]
        if len(whole) < len(files):
            return False
        for file in whole:
            self._folder.add(file)
        return True

    def _write(self, day: str, calls: list[Known], reading: Iterator[Read], advance: Callable[[int], None]) -> None:
        files = {table: FORMATS[self._form](columns(table)) for table in TABLES}
        counts, problems = dict.fromkeys(TABLES, 0), len(self.outcome.unavailable) + len(self.outcome.missing)
        while chunk := list(islice(reading, TOGETHER)):
            found = [self._noted(each) for each in chunk if each.rows]
            for table, file in files.items():
                rows = [row for each in found for row in getattr(each.rows, table)]
                file.add(rows)
                counts[table] += len(rows)
            advance(len(chunk))
        is_whole = problems == len(self.outcome.unavailable) + len(self.outcome.missing)
        for table, file in files.items():
            key = self._key(table, day)
            size, sha256 = self._folder.write(key, [file.close()])
            source = source_of(calls) if is_whole else None
            self._folder.add(File(key, None, size, sha256, rows=counts[table], source=source))

    def _noted(self, read: Read) -> Read:
        """Count a call, and note the problem with its JSON."""
        self.outcome.fetched += 1
        if read.problem:
            where = self.outcome.missing if read.problem == "missing" else self.outcome.unavailable
            call = read.known.call
            where.append({"key": call.json_key, "conversation_id": call.conversation_id, "reason": read.problem})
        return read

    def _key(self, table: str, day: str) -> str:
        return f"{table}/day={day}/{table}.{self._form}"


def source_of(calls: list[Known]) -> str:
    """A hash of what a day's files are made of: a record changes whenever the call's JSON or transcription does."""
    state = sorted(
        f"{each.call.conversation_id} {each.call.t_order} {each.call.mp3_order} {each.call.audio} {each.call.json_key} "
        f"{each.call.external_number} {sorted(each.memories.items())} {each.call.transcription}"
        for each in calls
    )
    return hashlib.sha256("\n".join([str(LAYOUT), *state]).encode()).hexdigest()
