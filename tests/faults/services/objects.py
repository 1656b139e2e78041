"""What a versioned bucket holds: versions of objects, delete markers, and bodies that are read once."""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Tags = dict[str, str]


@dataclass(slots=True, eq=False)
class ObjectVersion:
    """One version of an object. `body` is None for a delete marker."""

    key: str
    number: int  # later versions have greater ones
    created_at: float
    modified: datetime  # in whole seconds, as S3 answers it
    body: bytes | None = None
    content_type: str = ""
    content_encoding: str = ""
    metadata: dict[str, str] | None = None
    tags: Tags | None = None
    etag: str = ""

    @property
    def id(self) -> str:
        return f"version-{self.number}"

    def head(self) -> dict[str, Any]:
        answer = {
            "ContentLength": len(self.body or b""), "ETag": self.etag, "Metadata": dict(self.metadata or {}),
            "LastModified": self.modified, "ContentType": self.content_type, "VersionId": self.id,
        }  # fmt: skip
        if self.content_encoding:
            answer["ContentEncoding"] = self.content_encoding
        return answer

    def listed(self) -> dict[str, Any]:
        return {
            "Key": self.key, "LastModified": self.modified, "ETag": self.etag, "Size": len(self.body or b""),
            "StorageClass": "STANDARD",
        }  # fmt: skip


def number_of(version_id: str) -> int:
    return int(version_id.removeprefix("version-"))


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


class Body:
    """An answer's body. It can be read once, in whole or in pieces."""

    __slots__ = ("_at", "_content")

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def read(self, size: int | None = None) -> bytes:
        begin, length = self._at, len(self._content)
        self._at = length if size is None else min(begin + size, length)
        return self._content[begin : self._at]

    def iter_chunks(self, size: int = 1024) -> Iterator[bytes]:
        while piece := self.read(size):
            yield piece


class Objects:
    """All versions by key, the oldest first. Keys are sorted by code point, which is the order of UTF-8."""

    def __init__(self) -> None:
        self.versions: dict[str, list[ObjectVersion]] = {}
        self._keys: list[str] = []

    def add(self, version: ObjectVersion) -> None:
        if version.key in self.versions:
            self.versions[version.key].append(version)
        else:
            self.versions[version.key] = [version]
            insort(self._keys, version.key)

    def remove(self, version: ObjectVersion) -> None:
        versions = self.versions[version.key]
        versions.remove(version)
        if not versions:
            del self.versions[version.key]
            del self._keys[bisect_left(self._keys, version.key)]

    def latest(self, key: str) -> ObjectVersion | None:
        versions = self.versions.get(key)
        return versions[-1] if versions else None

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys under `prefix` that come after `after`, also those of objects that are deleted."""
        keys = self._keys
        begin = bisect_right(keys, after) if after >= prefix and after else bisect_left(keys, prefix)
        for at in range(begin, len(keys)):
            if not keys[at].startswith(prefix):
                return
            yield keys[at]
