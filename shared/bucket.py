"""The archive's bucket: reads, conditional writes (the newest version wins), and the tags for lifecycle rules."""

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
from shared.errors import ColdStorageError, StorageError

PutOutcome = Literal["written", "equal", "stale"]
ARCHIVED = {"Key": "archived", "Value": "true"}
LISTED = 1000  # objects in one page of a listing: S3's maximum
PIECE = 1 << 18  # bytes of a recording that are in memory at once
_GONE = {"NoSuchKey", "404", "MethodNotAllowed"}  # S3 answers the last one for a delete marker
_RACES = 10
# Another put was first or is running on the same key, or the object was deleted since the last look: look again.
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


@dataclass(frozen=True)
class Version:
    """One version of an object, or a delete marker."""

    key: str
    version_id: str
    size: int = 0
    is_latest: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Stored:
    """What a conditional put needs to know about the existing object."""

    order: str
    etag: str
    size: int


class Bucket:
    """The bucket's operations. They raise StorageError, which leaves out the key because it contains a phone number."""

    def __init__(self, s3: Any, name: str) -> None:
        self._s3, self.name = s3, name

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        """An object's bytes, decompressed, and its metadata; None if there is no such object."""
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
            return content(answer), answer["Metadata"]
        except AwsError as error:
            if error_code(error) in _GONE:
                return None
            raise _storage_error(error) from None

    def download(self, key: str, file: BinaryIO) -> dict[str, str] | None:
        """Copy an object into `file` in pieces; returns its metadata, or None if there is no such object."""
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
    ) -> PutOutcome:  # fmt: skip
        """Write `key` unless it holds the same `order` or a newer one; `force` also writes at the same order.

        The put is conditional, so that the newer of two concurrent writes wins. A compressed object has the
        ContentEncoding gzip; the same body always gives the same compressed bytes.
        """
        options = {"Tagging": "tier=archive"}
        if compress:
            body, options = BytesIO(gzip.compress(body.read(), mtime=0)), options | {"ContentEncoding": "gzip"}
        stored = None
        for _ in range(_RACES):
            condition = {"IfMatch": stored.etag} if stored else {"IfNoneMatch": "*"}
            if self._put(key, body, content_type, metadata, condition | options):
                return "written"
            stored = self.stored(key)
            if stored and stored.order > metadata["order"]:
                return "stale"
            if stored and stored.order == metadata["order"] and not force:
                return "equal"
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 (not for cryptography)
        raise StorageError("too many concurrent writes of the same object")

    def exists(self, key: str) -> bool:
        return self.stored(key) is not None

    def tag_archived(self, staged_key: str) -> None:
        """Tag a staged body as archived. Only tagged bodies expire."""
        try:
            self._s3.put_object_tagging(Bucket=self.name, Key=staged_key, Tagging={"TagSet": [ARCHIVED]})
        except AwsError as error:
            if error_code(error) not in _GONE:
                raise _storage_error(error) from None

    def stage(self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str]) -> None:
        """Write a staged object unless one of at least its length exists; the longer of two concurrent writes wins."""
        size, stored = body.seek(0, os.SEEK_END), None
        for _ in range(_RACES):
            condition = {"IfMatch": stored.etag} if stored else {"IfNoneMatch": "*"}
            if self._put(key, body, content_type, metadata, condition):
                return
            stored = self.stored(key)
            if stored and stored.size >= size:
                return
        raise StorageError("too many concurrent writes of the same object")

    def put(self, key: str, body: bytes, content_type: str, *, replace: bool = False) -> None:
        """Write an object whose key tells its content. If it is there, it is left alone, or replaced."""
        condition = {} if replace else {"IfNoneMatch": "*"}
        for _ in range(_RACES):
            if self._put(key, BytesIO(body), content_type, {}, condition) or (condition and self.exists(key)):
                return
        raise StorageError("too many concurrent writes of the same object")

    def pages(self, prefix: str, after: str) -> Iterator[list[dict[str, Any]]]:
        """The objects under `prefix` with keys after `after`, in pages of LISTED, as S3 lists them."""
        try:
            paginator = self._s3.get_paginator("list_objects_v2")
            paging = {"PageSize": LISTED}
            for page in paginator.paginate(Bucket=self.name, Prefix=prefix, StartAfter=after, PaginationConfig=paging):
                yield page.get("Contents", [])
        except AwsError as error:
            raise _storage_error(error) from None

    def versions(self, prefix: str) -> Iterator[Version]:
        """All versions of all objects under `prefix`, delete markers included."""
        try:
            for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Versions", []) + page.get("DeleteMarkers", []):
                    yield Version(each["Key"], each["VersionId"], each.get("Size", 0), each["IsLatest"])
        except AwsError as error:
            raise _storage_error(error) from None

    def delete_for_good(self, version: Version) -> bool:
        """Delete one version permanently; False if Object Lock or a policy forbids it."""
        try:
            self._s3.delete_object(Bucket=self.name, Key=version.key, VersionId=version.version_id)
        except AwsError as error:
            if error_code(error) == "AccessDenied":
                return False
            raise _storage_error(error) from None
        return True

    def is_archived(self, staged_key: str) -> bool:
        """Whether a staged object is archived: it is tagged, or it no longer exists."""
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

    def stored(self, key: str) -> Stored | None:
        try:
            head = self._s3.head_object(Bucket=self.name, Key=key)
        except AwsError as error:
            if error_code(error) in _GONE:
                return None
            raise _storage_error(error) from None
        return Stored(head["Metadata"].get("order", ""), head["ETag"], head["ContentLength"])


def content(answer: dict[str, Any]) -> bytes:
    """The bytes in S3's answer, decompressed if its ContentEncoding is gzip.

    If they are not valid gzip, they are returned unchanged; their reader then reports the fault.
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
    kind = ColdStorageError if error_code(error) == "InvalidObjectState" else StorageError
    return kind(f"{operation}: {error_code(error)}")
