"""The hourly pass: the small files of a day become one, because many small files are slow to search.

    read the files -> leave out rows that do not count -> write the new file -> delete the old ones for good

A crash between any two leaves rows twice, which does no harm, and the next pass merges them. A file is deleted only
after another one has its rows. Two passes at once, or a pass beside an erasure, are safe too: if a file is gone that
was listed, its group is left to the next pass, and the records decide whose rows are left out, so that no pass that
begins after a tombstone writes rows of an erased call. For a pass that began before, the erasure waits.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from aws_lambda_powertools.metrics import MetricUnit

from indexer.drafts import CONTENT_TYPE
from shared.bucket import Bucket
from shared.errors import StorageError
from shared.observability import logger, metrics
from shared.record import Records
from shared.texts import PREFIX, CallVersion, compress, day_of, file_key, read_lines, versions_in

SMALL = 4 << 20  # bytes of a file that is merged
MOST = 4 * SMALL  # bytes of files that are merged into one
MANY = 12  # small files of a day that is not over
AT_ONCE = 8


@dataclass
class Group:
    """Files that are merged into one."""

    day: str
    files: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, key: str, size: int) -> None:
        self.files.append(key)
        self.size += size


class Merger:
    """One pass. No merge begins unless it `has_time`: what is left, the next one does."""

    def __init__(self, bucket: Bucket, records: Records, has_time: Callable[[], bool]) -> None:
        self._bucket, self._records, self._has_time = bucket, records, has_time
        self._merged, self._failed = 0, set[str]()

    def run(self, now: datetime) -> None:
        """Raises StorageError at the end if files could not be merged."""
        left = find_groups(self._bucket, f"{now:%Y-%m-%d}")
        while left and self._has_time():
            self._merge(left.pop())
        metrics.add_metric("TextFilesMerged", MetricUnit.Count, self._merged)
        metrics.add_metric("TextDaysLeft", MetricUnit.Count, len({group.day for group in left} | self._failed))
        if self._failed:
            raise StorageError("the files of some days could not be merged")

    def _merge(self, group: Group) -> None:
        try:
            self._merged += merge(self._bucket, self._records, group)
        except Exception:
            self._failed.add(group.day)
            logger.exception("Files of a day could not be merged", day=group.day)


def find_groups(bucket: Bucket, today: str) -> list[Group]:
    """The files to be merged. Today's are few until there are MANY, or until they are large enough together."""
    groups: dict[str, list[Group]] = {}
    for item in (item for page in bucket.pages(PREFIX, "") for item in page):
        day = day_of(item["Key"])
        if day and item["Size"] < SMALL:
            of_day = groups.setdefault(day, [Group(day)])
            if of_day[-1].size >= MOST:
                of_day.append(Group(day))
            of_day[-1].add(item["Key"], item["Size"])
    found = (group for of_day in groups.values() for group in of_day if len(group.files) > 1)
    return [each for each in found if each.day < today or each.size >= MOST or len(each.files) >= MANY]


def merge(bucket: Bucket, records: Records, group: Group) -> int:
    """Merge files of a day into one; returns how many. None is merged if one of them is gone by now."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read = list(pool.map(bucket.read, group.files))
    bodies = [each[0] for each in read if each]
    if len(bodies) < len(group.files):
        return 0
    in_files = [versions_in(body) for body in bodies]
    count = counting(records, set().union(*in_files))
    key = file_key(group.day, count)
    if count:
        bucket.put(key, compress(lines(bodies, in_files, count)), CONTENT_TYPE)
    for each in group.files:
        if each != key:
            delete(bucket, each)
    return len(group.files)


def counting(records: Records, versions: set[CallVersion]) -> set[CallVersion]:
    """The versions whose rows count: of calls that are not erased, none that is older than the newest with rows.

    Rows of a call without a record count: while `ops reindex` makes the table again, not all calls have one.
    """
    calls = records.get_all(conversation_id for conversation_id, _ in versions)
    return {
        (each, version) for each, version in versions
        if (call := calls.get(each)) is None or (not call.erased_at and version >= (call.text_order or ""))
    }  # fmt: skip


def lines(bodies: list[bytes], in_files: list[set[CallVersion]], count: set[CallVersion]) -> Iterator[bytes]:
    """The rows of these versions, each version from one file: all rows of a version are in the same file."""
    missing = set(count)
    for body, versions in zip(bodies, in_files, strict=True):
        taken = versions & missing
        missing -= taken
        yield from (line for version, line in read_lines(body) if version in taken)


def delete(bucket: Bucket, key: str) -> None:
    """Delete a file with all its versions for good. Raises StorageError if that is not allowed."""
    for version in bucket.versions(key):
        if not bucket.delete_for_good(version):
            raise StorageError("DeleteObjectVersion: AccessDenied")
