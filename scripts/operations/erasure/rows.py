"""The rows of erased calls under `text/`: found by the days in the calls' records, and taken out of their files.

Others write there at the same time. The indexer writes no rows of a call that has a tombstone, and whoever began before
it was waited for. The hourly pass may merge a file away: then its rows are in another one. So after each pass over the
files, the search begins again, until no row is left.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from indexer.drafts import CONTENT_TYPE
from scripts.operations.erasure.find import Found
from scripts.operations.erasure.reading import Subject, digits_of
from scripts.operations.stack import AT_ONCE, Stack
from shared.aws_errors import error_code
from shared.bucket import Version
from shared.texts import CallVersion, compress, day_of, day_prefix, read_caller, read_lines

PASSES = 5  # over the files: a pass is repeated only if a file was changed or merged away meanwhile
_GONE = ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "PreconditionFailed", "ConditionalRequestConflict")


class Rows:
    """The rows of one subject."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._s3, self._bucket, self._subject = stack.client("s3"), stack.bucket, subject
        self._found = Found()

    def find(self, found: Found) -> dict[Version, int]:
        """The versions of files that have rows of the erased calls, with their number."""
        self._found = found
        days = {day for call in (*found.calls.values(), *found.shared.values()) for day in call.text_days}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            versions = [each for listed in pool.map(self._versions, sorted(days)) for each in listed]
            numbers = list(pool.map(self._count, versions))
        return {each: number for each, number in zip(versions, numbers, strict=True) if number}

    def delete(self, found: Found) -> list[Version]:
        """Delete the rows permanently, with all older versions of their files. Returns the versions that stay."""
        left = found.rows or self.find(found)
        for _ in range(PASSES):
            if not left:
                return []
            with ThreadPoolExecutor(AT_ONCE) as pool:
                refused = [each for kept in pool.map(self._clear, {each.key for each in left}) for each in kept]
            if refused:
                return refused
            left = self.find(found)
        return list(left)

    def _versions(self, day: str) -> list[Version]:
        return [each for each in self._bucket.versions(day_prefix(day)) if day_of(each.key) and each.size]

    def _count(self, version: Version) -> int:
        """The number of rows to be erased. A file that cannot be read may have some, and is deleted as a whole."""
        answer = self._read(version.key, VersionId=version.version_id)
        try:
            return sum(map(self._is_ours, read_lines(answer["Body"]))) if answer else 0
        except ValueError:
            return 1

    def _clear(self, key: str) -> list[Version]:
        """Leave only the rows of others in a file; returns the versions that may not be deleted.

        If the file is changed or gone meanwhile, nothing is done: the next pass finds what there is then.
        """
        answer = self._read(key)
        others = self._others(answer["Body"]) if answer else []
        if others and not self._replace(key, compress(others), answer["ETag"]):
            return []
        old = [each for each in self._bucket.versions(key) if not (others and each.is_latest)]
        refused = [each for each in old if not self._bucket.delete_for_good(each)]
        if refused and not others:
            self._s3.delete_object(Bucket=self._bucket.name, Key=key)  # a marker hides it from searches
        return refused

    def _others(self, body: bytes) -> list[bytes]:
        try:
            return [line for version, line in read_lines(body) if not self._is_ours((version, line))]
        except ValueError:
            return []

    def _is_ours(self, read: tuple[CallVersion, bytes]) -> bool:
        """Whether a row is of an erased call, or of another's call and an older version that names the caller."""
        (conversation_id, _), line = read
        if conversation_id in self._found.shared:
            return digits_of(read_caller(line)) == self._subject.caller
        return conversation_id in self._found.calls

    def _read(self, key: str, **version: str) -> dict[str, Any]:
        """S3's answer with the bytes; empty if there is no such object."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket.name, Key=key, **version)
            return dict(answer) | {"Body": answer["Body"].read()}
        except ClientError as error:
            if error_code(error) in _GONE:
                return {}
            raise

    def _replace(self, key: str, body: bytes, etag: str) -> bool:
        """Write a file; False if it is not any more the one that was read."""
        try:
            self._s3.put_object(Bucket=self._bucket.name, Key=key, Body=body, ContentType=CONTENT_TYPE, IfMatch=etag)
        except ClientError as error:
            if error_code(error) in _GONE:
                return False
            raise
        return True
