"""The archive's bucket: reading, the newest wins, and the tags that lifecycle rules look for."""

import gzip
import os
import random
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO, Literal

from botocore.exceptions import BotoCoreError, ClientError

from shared.aws_errors import AwsError, error_code
from shared.errors import StorageError

Outcome = Literal["written", "equal", "stale"]
ARCHIVED = {"Key": "archived", "Value": "true"}
LISTED = 1000  # objects listed at a time, the most there is
PIECE = 1 << 18  # bytes of a recording in memory at a time
_GONE = {"NoSuchKey", "404", "MethodNotAllowed"}  # the last is S3's answer where only a delete marker is left
_RACES = 10
# Another put came first, is under way on the same key, or the object was deleted since we looked: look again.
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


@dataclass(frozen=True)
class Version:
    """One version of an object; a delete marker is one too."""

    key: str
    version_id: str
    size: int = 0
    is_latest: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Stored:
    """What a conditional put has to know of the object that is there."""

    order: str
    etag: str
    size: int


class Bucket:
    """S3 as the archive uses it. Faults are raised as StorageError, without the key, which is a phone number."""

    def __init__(self, s3: Any, name: str) -> None:
        self._s3, self.name = s3, name

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        """An object's bytes, as `content` gives them, and metadata; or None if there is no such object."""
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
            return content(answer), answer["Metadata"]
        except AwsError as error:
            if error_code(error) in _GONE:
                return None
            raise _storage_error(error) from None

    def download(self, key: str, file: BinaryIO) -> dict[str, str] | None:
        """Write an object into `file`, piece by piece; returns its metadata, or None if there is no such object."""
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
            for piece in answer["Body"].iter_chunks(PIECE):
                file.write(piece)
        except AwsError as error:
            if error_code(error) in _GONE:
                return None
            raise _storage_error(error) from None
        file.seek(0)
        return dict(answer["Metadata"])

    def put_newest(
        self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str],
        *, force: bool = False, compress: bool = False,
    ) -> Outcome:  # fmt: skip
        """Write `key` unless it holds the same `order` or a newer one; `force` writes at the same order too.

        The put itself carries the condition, so that of two workers at the same moment the newer one wins. What is
        compressed says so in its ContentEncoding, and is the same bytes whenever it is written.
        """
        options = {"Tagging": "tier=archive"}
        if compress:
            body, options = BytesIO(gzip.compress(body.read(), mtime=0)), options | {"ContentEncoding": "gzip"}
        stored = None
        for _ in range(_RACES):
            condition = {"IfMatch": stored.etag} if stored else {"IfNoneMatch": "*"}
            if self._put(key, body, content_type, metadata, condition | options):
                return "written"
            stored = self._stored(key)
            if stored and stored.order > metadata["order"]:
                return "stale"
            if stored and stored.order == metadata["order"] and not force:
                return "equal"
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 (not for cryptography)
        raise StorageError("too many others write the same object")

    def exists(self, key: str) -> bool:
        return self._stored(key) is not None

    def tag_archived(self, staged_key: str) -> None:
        """Say that a staged body is done with; only then may it expire."""
        try:
            self._s3.put_object_tagging(Bucket=self.name, Key=staged_key, Tagging={"TagSet": [ARCHIVED]})
        except AwsError as error:
            if error_code(error) not in _GONE:
                raise _storage_error(error) from None

    def stage(self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str]) -> None:
        """Write a staged object, unless one that is as long is there already; of two at the same moment the longer."""
        size, stored = body.seek(0, os.SEEK_END), None
        for _ in range(_RACES):
            condition = {"IfMatch": stored.etag} if stored else {"IfNoneMatch": "*"}
            if self._put(key, body, content_type, metadata, condition):
                return
            stored = self._stored(key)
            if stored and stored.size >= size:
                return
        raise StorageError("too many others write the same object")

    def pages(self, prefix: str, after: str) -> Iterator[list[dict[str, Any]]]:
        """S3's listing of the objects under `prefix` whose keys come after `after`, LISTED at a time."""
        try:
            paginator = self._s3.get_paginator("list_objects_v2")
            paging = {"PageSize": LISTED}
            for page in paginator.paginate(Bucket=self.name, Prefix=prefix, StartAfter=after, PaginationConfig=paging):
                yield page.get("Contents", [])
        except AwsError as error:
            raise _storage_error(error) from None

    def versions(self, prefix: str) -> Iterator[Version]:
        """Every version of every object under `prefix`, delete markers too."""
        try:
            for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Versions", []) + page.get("DeleteMarkers", []):
                    yield Version(each["Key"], each["VersionId"], each.get("Size", 0), each["IsLatest"])
        except AwsError as error:
            raise _storage_error(error) from None

    def delete_for_good(self, version: Version) -> bool:
        """Delete one version, which is then nowhere; False while Object Lock, or a policy, forbids it."""
        try:
            self._s3.delete_object(Bucket=self.name, Key=version.key, VersionId=version.version_id)
        except AwsError as error:
            if error_code(error) == "AccessDenied":
                return False
            raise _storage_error(error) from None
        return True

    def is_archived(self, staged_key: str) -> bool:
        """Whether a staged object is done with: tagged, or gone."""
        try:
            tags = self._s3.get_object_tagging(Bucket=self.name, Key=staged_key)["TagSet"]
        except AwsError as error:
            if error_code(error) in _GONE:
                return True
            raise _storage_error(error) from None
        return ARCHIVED in tags

    def _put(
        self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str], options: dict[str, str]
    ) -> bool:
        body.seek(0)
        try:
            self._s3.put_object(
                Bucket=self.name, Key=key, Body=body, ContentType=content_type, Metadata=metadata, **options
            )
        except AwsError as error:
            if error_code(error) in _LOST_RACE:
                return False
            raise _storage_error(error) from None
        return True

    def _stored(self, key: str) -> Stored | None:
        try:
            head = self._s3.head_object(Bucket=self.name, Key=key)
        except AwsError as error:
            if error_code(error) in _GONE:
                return None
            raise _storage_error(error) from None
        return Stored(head["Metadata"].get("order", ""), head["ETag"], head["ContentLength"])


def content(answer: dict[str, Any]) -> bytes:
    """The bytes in S3's answer as they were before they were compressed, if they were.

    What is not the gzip that it is said to be is given as it is: whoever reads it says what is wrong with it.
    """
    body = bytes(answer["Body"].read())
    if answer.get("ContentEncoding") != "gzip":
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return body


def _storage_error(error: ClientError | BotoCoreError) -> StorageError:
    operation = error.operation_name if isinstance(error, ClientError) else "S3"
    return StorageError(f"{operation}: {error_code(error)}")
