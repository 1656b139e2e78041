"""Files that are being made: one for each day, with the rows of many calls."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.bucket import Bucket
from shared.texts import CallVersion, Row, compress, encode_row, file_key

CONTENT_TYPE = "application/gzip"  # no ContentEncoding: Athena decompresses by the name
MOST_BYTES = 64 << 20  # of rows that are in memory: files are written as soon as there are more


@dataclass
class _Draft:
    lines: list[bytes] = field(default_factory=list)
    versions: set[CallVersion] = field(default_factory=set)
    owners: list[str] = field(default_factory=list)


class Drafts:
    """The files of one batch. An `owner` of rows is told if their file could not be written.

    `written` are the keys of the files. `replace` also writes files that exist, to repair their rows.
    """

    def __init__(self, bucket: Bucket, *, replace: bool = False) -> None:
        self._bucket, self._replace = bucket, replace
        self.written: set[str] = set()
        self._days: dict[str, _Draft] = {}
        self._size = 0

    @property
    def is_full(self) -> bool:
        return self._size > MOST_BYTES

    def add(self, day: str, version: CallVersion, rows: Iterable[Row], owner: str) -> None:
        """Add the rows of a call. All of them get into one file; what is announced twice gets into it once."""
        draft = self._days.setdefault(day, _Draft())
        draft.owners.append(owner)
        if version not in draft.versions:
            draft.versions.add(version)
            lines = list(map(encode_row, rows))
            draft.lines += lines
            self._size += sum(map(len, lines))

    def write(self) -> dict[str, Exception]:
        """Write the files; returns what went wrong, by owner."""
        failed: dict[str, Exception] = {}
        for day, draft in self._days.items():
            try:
                key = file_key(day, draft.versions)
                self._bucket.put(key, compress(draft.lines), CONTENT_TYPE, replace=self._replace)
                self.written.add(key)
            except Exception as error:
                failed |= dict.fromkeys(draft.owners, error)
        self._days, self._size = {}, 0
        return failed
