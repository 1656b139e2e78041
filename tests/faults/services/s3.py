"""S3 in memory: one bucket with versioning."""

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from botocore.exceptions import ParamValidationError

from tests.faults.services.lifecycle import expire
from tests.faults.services.objects import Body, Objects, ObjectVersion, etag_of, number_of
from tests.faults.services.operations import Operations, aws_error, utc_time

LONGEST_KEY, MOST_METADATA = 1024, 2048  # bytes


class S3(Operations):
    """Version ids are made from a counter. A put or a delete takes no time, so no two of them ever conflict."""

    NAMES = (
        "put_object", "get_object", "head_object", "put_object_tagging", "get_object_tagging", "list_objects_v2",
        "list_object_versions", "delete_object",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float], bucket: str = "archive") -> None:
        super().__init__()
        self._clock, self._bucket = clock, bucket
        self._objects = Objects()
        self._number = 0

    # For the simulator and its oracles

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects that are not deleted, sorted."""
        return [key for key in self._objects.keys(prefix) if self._objects.versions[key][-1].body is not None]

    def bytes_of(self, key: str) -> bytes:
        """An object's bytes as they are stored. Raises KeyError if there is no such object."""
        version = self._objects.latest(key)
        if version is None or version.body is None:
            raise KeyError(key)
        return version.body

    def all_versions(self) -> list[tuple[str, bytes]]:
        """Key and bytes of each version of each object, without delete markers."""
        versions = (version for each in self._objects.versions.values() for version in each)
        return [(version.key, version.body) for version in versions if version.body is not None]

    def expire(self, days: int) -> None:
        """Apply the template's lifecycle rules for staged bodies. `days` is StagingRetentionDays."""
        expire(self._objects, days, self._clock(), self._mark_deleted)

    # Operations

    def _put_object(
        self, Bucket: str, Key: str, Body: bytes | BinaryIO, ContentType: str = "binary/octet-stream",
        ContentEncoding: str = "", Metadata: dict[str, str] | None = None, Tagging: str = "",
        IfMatch: str = "", IfNoneMatch: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        self._check_bucket(Bucket, "PutObject")
        _check_names(Key, Metadata or {})
        latest = self._objects.latest(Key)
        exists = latest is not None and latest.body is not None
        if IfNoneMatch and IfNoneMatch != "*":
            raise NotImplementedError(f"S3.put_object: IfNoneMatch {IfNoneMatch}")
        if IfMatch and not exists:
            raise aws_error("NoSuchKey", "PutObject", "The specified key does not exist.")
        if (IfMatch and latest and IfMatch.strip('"') != latest.etag.strip('"')) or (IfNoneMatch and exists):
            raise aws_error("PreconditionFailed", "PutObject", "At least one of the pre-conditions did not hold")
        body = Body if isinstance(Body, bytes) else _read(Body)
        version = self._new(Key, body)
        version.content_type, version.content_encoding = ContentType, ContentEncoding
        version.metadata, version.tags = dict(Metadata or {}), _tags(Tagging)
        self._objects.add(version)
        return {"ETag": version.etag, "VersionId": version.id}

    def _get_object(self, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        version = self._find("GetObject", Bucket, Key, VersionId)
        return version.head() | {"Body": Body(version.body or b"")}

    def _head_object(self, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        """S3 answers errors of this operation without a body, so that boto3 has only the status for a code."""
        return self._find("HeadObject", Bucket, Key, VersionId).head()

    def _put_object_tagging(self, Bucket: str, Key: str, Tagging: dict[str, Any]) -> dict[str, Any]:
        version = self._find("PutObjectTagging", Bucket, Key, None)
        version.tags = {tag["Key"]: tag["Value"] for tag in Tagging["TagSet"]}
        return {"VersionId": version.id}

    def _get_object_tagging(self, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        version = self._find("GetObjectTagging", Bucket, Key, VersionId)
        tags = [{"Key": name, "Value": value} for name, value in (version.tags or {}).items()]
        return {"TagSet": tags, "VersionId": version.id}

    def _delete_object(self, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        self._check_bucket(Bucket, "DeleteObject")
        if VersionId is None:
            return {"DeleteMarker": True, "VersionId": self._mark_deleted(Key).id}
        for version in self._objects.versions.get(Key, []):
            if version.id == VersionId:
                self._objects.remove(version)
                return {"VersionId": VersionId} | ({"DeleteMarker": True} if version.body is None else {})
        return {"VersionId": VersionId}

    def _list_objects_v2(
        self, Bucket: str, Prefix: str = "", StartAfter: str = "", ContinuationToken: str = "", MaxKeys: int = 1000
    ) -> dict[str, Any]:
        self._check_bucket(Bucket, "ListObjectsV2")
        latest = (
            self._objects.versions[key][-1] for key in self._objects.keys(Prefix, ContinuationToken or StartAfter)
        )
        found = list(islice((each for each in latest if each.body is not None), MaxKeys + 1))
        page = [version.listed() for version in found[:MaxKeys]]
        answer: dict[str, Any] = {"IsTruncated": len(found) > MaxKeys, "KeyCount": len(page)}
        if page:
            answer["Contents"] = page
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = page[-1]["Key"]
        return answer

    def _list_object_versions(
        self, Bucket: str, Prefix: str = "", KeyMarker: str = "", VersionIdMarker: str = "", MaxKeys: int = 1000
    ) -> dict[str, Any]:
        """Versions by key, the newest first. Delete markers are in a list of their own."""
        self._check_bucket(Bucket, "ListObjectVersions")
        left = self._objects.versions.get(KeyMarker, []) if VersionIdMarker else []
        older = [each for each in reversed(left) if each.number < number_of(VersionIdMarker)]
        keys = self._objects.keys(Prefix, KeyMarker)
        rest = (version for key in keys for version in reversed(self._objects.versions[key]))
        found = (older + list(islice(rest, MaxKeys + 1)))[: MaxKeys + 1]
        answer: dict[str, Any] = {"IsTruncated": len(found) > MaxKeys}
        for version in found[:MaxKeys]:
            is_latest = version is self._objects.latest(version.key)
            entry = version.listed() | {"VersionId": version.id, "IsLatest": is_latest}
            if version.body is None:
                entry = {name: entry[name] for name in ("Key", "VersionId", "IsLatest", "LastModified")}
            answer.setdefault("Versions" if version.body is not None else "DeleteMarkers", []).append(entry)
        if answer["IsTruncated"]:
            answer |= {"NextKeyMarker": found[MaxKeys - 1].key, "NextVersionIdMarker": found[MaxKeys - 1].id}
        return answer

    def _find(self, operation: str, bucket: str, key: str, version_id: str | None) -> ObjectVersion:
        """The version that is asked for. Raises what S3 answers if there is none, or if it is a delete marker."""
        self._check_bucket(bucket, operation)
        versions = self._objects.versions.get(key, [])
        if version_id is not None:
            version = next((each for each in versions if each.id == version_id), None)
        else:
            version = versions[-1] if versions else None
        if version is not None and version.body is not None:
            return version
        is_named_or_tagged = version_id is not None or operation.endswith("Tagging")
        if version is not None and is_named_or_tagged:
            code = "405" if operation == "HeadObject" else "MethodNotAllowed"
            raise aws_error(code, operation, "The specified method is not allowed against this resource.")
        if operation == "HeadObject":
            raise aws_error("404", operation, "Not Found")
        raise aws_error("NoSuchVersion" if version_id is not None else "NoSuchKey", operation, "It does not exist.")

    def _mark_deleted(self, key: str) -> ObjectVersion:
        marker = self._new(key, None)
        self._objects.add(marker)
        return marker

    def _new(self, key: str, body: bytes | None) -> ObjectVersion:
        self._number += 1
        now = self._clock()
        return ObjectVersion(key, self._number, now, utc_time(int(now)), body, etag=etag_of(body or b""))

    def _check_bucket(self, name: str, operation: str) -> None:
        if name != self._bucket:
            raise aws_error("404" if operation == "HeadObject" else "NoSuchBucket", operation)


def _read(file: BinaryIO) -> bytes:
    """The rest of a file. Its position stays, as botocore puts it back before it repeats a request."""
    begin = file.tell()
    content = file.read()
    file.seek(begin)
    return content


def _check_names(key: str, metadata: dict[str, str]) -> None:
    if len(key.encode()) > LONGEST_KEY:
        raise aws_error("KeyTooLongError", "PutObject", "Your key is too long")
    text = "".join([*metadata, *metadata.values()])
    if not text.isascii():
        raise ParamValidationError(report="Non ascii characters found in S3 metadata")
    if len(text) > MOST_METADATA:
        raise aws_error("MetadataTooLarge", "PutObject", "Your metadata headers exceed the maximum allowed size")


@lru_cache
def _tags(text: str) -> dict[str, str]:
    """The tags in the form of a query. The dict belongs to all that have the same ones: it is never changed."""
    return dict(parse_qsl(text, keep_blank_values=True))
