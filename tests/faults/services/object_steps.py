"""Random steps of all the code that uses the bucket, on few keys, so that objects replace and hide each other."""

from functools import partial
from io import BytesIO
from random import Random
from typing import Any

from botocore.exceptions import ClientError

from shared.bucket import Bucket
from tests.faults.services.comparison import Step

KEYS = ("staging/a", "staging/b", "staging/é", "staging/b/c", "12025550101/conv_1.json", "12025550101/conv_1.mp3")
PREFIXES = ("", "staging/", "staging/b", "12025550101/", "nothing/")
BODIES = (b"", b"one", b"two", b"three")
TAG_SETS = ("", "tier=archive", "archived=true&tier=archive")


class BucketSide:
    """The real code on one bucket. Versions are named by their number, because their ids differ."""

    def __init__(self, s3: Any, name: str) -> None:
        self.s3, self.name, self.bucket = s3, name, Bucket(s3, name)
        self.versions: list[tuple[str, str]] = []  # keys and ids, in the order in which they were made
        self.etags: dict[str, str] = {}  # of each key's last put

    def look(self) -> None:
        """Give numbers to new versions; only one is made in a step."""
        known = set(self.versions)
        answer = self.s3.list_object_versions(Bucket=self.name)
        listed = answer.get("Versions", []) + answer.get("DeleteMarkers", [])
        self.versions += [(e["Key"], e["VersionId"]) for e in listed if (e["Key"], e["VersionId"]) not in known]

    def call(self, operation: str, number: int | None = None, **parameters: Any) -> Any:
        """A call of boto3's client, on one version if it has a number.

        Delete markers are only deleted. For a read of one, AWS answers 405 MethodNotAllowed, but moto NoSuchVersion.
        """
        if number is not None:
            if not self.versions:
                return None
            key, version = self.versions[number % len(self.versions)]
            if operation != "delete_object" and version in self._markers():
                return None
            parameters |= {"Key": key, "VersionId": version}
        try:
            answer = getattr(self.s3, operation)(Bucket=self.name, **parameters)
            return None if operation == "delete_object" else self.readable(answer)
        except ClientError as error:
            return error.response["Error"]["Code"], error.operation_name

    def _markers(self) -> set[str]:
        answer = self.s3.list_object_versions(Bucket=self.name)
        return {each["VersionId"] for each in answer.get("DeleteMarkers", [])}

    def pages(self, operation: str, size: int, **parameters: Any) -> Any:
        pages = self.s3.get_paginator(operation).paginate(
            Bucket=self.name, PaginationConfig={"PageSize": size}, **parameters
        )
        return [self.readable(page) for page in pages]

    def readable(self, answer: Any) -> Any:
        """What the code reads of an answer, with the numbers of versions in place of their ids."""
        if isinstance(answer, list):
            return [self.readable(each) for each in answer]
        if not isinstance(answer, dict):
            return answer.read() if hasattr(answer, "read") else answer
        known = {name: self.readable(answer[name]) for name in READ if name in answer}
        if "VersionId" in known:
            self.look()
            known["VersionId"] = [id for _, id in self.versions].index(known["VersionId"])
        return known


# The fields of answers that the code reads. HEAD and GET answer a ContentType, too.
READ = (
    "Body", "Contents", "ContentEncoding", "ContentLength", "ContentType", "DeleteMarkers", "ETag",
    "IsLatest", "IsTruncated", "Key", "KeyCount", "LastModified", "Metadata", "Size", "TagSet", "Value", "VersionId",
    "Versions",
)  # fmt: skip
WRITES = ("put", "stage", "delete_object")


class ObjectSteps:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def make(self, count: int) -> list[tuple[str, Step]]:
        kinds = (self._code, self._put, self._version, self._list)
        steps = [self._random.choices(kinds, (5, 3, 3, 2))[0]() for _ in range(count)]
        return [(text, partial(_numbered, step) if text.startswith(WRITES) else step) for text, step in steps]

    def _one(self, choices: tuple[Any, ...]) -> Any:
        return self._random.choice(choices)

    def _code(self) -> tuple[str, Step]:
        """A method of the bucket. PutNewest gets an order, of which the newest wins."""
        key, body, prefix = self._one(KEYS), self._one(BODIES), self._one(PREFIXES)
        order, force, compress = str(self._random.randint(1, 3)), self._chance(), self._chance()
        number = self._random.randrange(100)
        calls: dict[str, Step] = {
            f"put_newest {order} {force=} {compress=} {body!r}": lambda side: side.bucket.put_newest(
                key, BytesIO(body), "application/json", {"order": order}, force=force, compress=compress
            ),
            f"stage {body!r}": lambda side: side.bucket.stage(key, BytesIO(body), "audio/mpeg", {"part_of": "x"}),
            "read": lambda side: side.bucket.read(key),
            "download": lambda side: _downloaded(side.bucket, key),
            "exists": lambda side: side.bucket.exists(key),
            "tag_archived": lambda side: _tags_after_archiving(side, key),
            "is_archived": lambda side: side.bucket.is_archived(key),
            f"pages {prefix}": lambda side: side.readable(list(side.bucket.pages(prefix, key))),
            f"versions {prefix}": lambda side: _versions(side, prefix),
            f"delete_for_good {number}": lambda side: _delete_for_good(side, number),
        }  # fmt: skip
        name = self._one(tuple(calls))
        return f"{name} {key}", calls[name]

    def _put(self) -> tuple[str, Step]:
        """As ingest does, with the ETag of the key's last put, or of another object."""
        parameters = {
            "Key": self._one(KEYS), "Body": self._one(BODIES), "ContentType": "application/json",
            "Metadata": {"origin": self._one(("webhook", "api"))},
        } | self._one(({}, {"Tagging": self._one(TAG_SETS)}, {"ContentEncoding": "gzip"}))  # fmt: skip
        match = self._one(("", "none", "etag"))
        key = self._one((parameters["Key"], self._one(KEYS)))

        def put(side: BucketSide) -> Any:
            condition = {"etag": {"IfMatch": side.etags.get(key, '"0"')}, "none": {"IfNoneMatch": "*"}}.get(match, {})
            answer = side.call("put_object", **parameters | condition)
            if isinstance(answer, dict):
                side.etags[parameters["Key"]] = answer["ETag"]
            return answer

        return f"put {match} {key} {parameters}", put

    def _version(self) -> tuple[str, Step]:
        """A call for one version or for a key's latest one.

        Only what exists is deleted, because AWS makes a delete marker also for other keys, but moto does not. And only
        its tags are read: AWS answers MethodNotAllowed if the latest version is a delete marker, but moto NoSuchKey.
        """
        operation = self._one(("get_object", "head_object", "get_object_tagging", "delete_object", "delete_object"))
        key, number = self._one(KEYS), self._random.randrange(100)
        is_for_all = operation in ("get_object", "head_object")
        if self._chance():
            return (
                f"{operation} {key}",
                lambda side: side.call(operation, Key=key) if is_for_all or side.bucket.exists(key) else None,
            )
        return f"{operation} {number}", lambda side: side.call(operation, number, Key=key)

    def _list(self) -> tuple[str, Step]:
        size, prefix, after = self._random.randint(1, 4), self._one(PREFIXES), self._one(("", *KEYS))
        if self._chance():
            name, parameters = "list_object_versions", {"Prefix": prefix}
        else:
            name, parameters = "list_objects_v2", {"Prefix": prefix, "StartAfter": after}
        return f"{name} {size} {parameters}", lambda side: side.pages(name, size, **parameters)

    def _chance(self) -> bool:
        return self._random.random() < 0.5


def _numbered(step: Step, side: BucketSide) -> Any:
    """Give a number to the version that the step makes."""
    try:
        return step(side)
    finally:
        side.look()


def _tags_after_archiving(side: BucketSide, key: str) -> Any:
    side.bucket.tag_archived(key)
    return side.call("get_object_tagging", Key=key) if side.bucket.exists(key) else None


def _downloaded(bucket: Bucket, key: str) -> Any:
    file = BytesIO()
    return bucket.download(key, file), file.read()


def _versions(side: BucketSide, prefix: str) -> Any:
    numbers = {pair: number for number, pair in enumerate(side.versions)}
    return sorted((each.key, numbers[each.key, each.version_id], each.size, each.is_latest)
                  for each in side.bucket.versions(prefix))  # fmt: skip


def _delete_for_good(side: BucketSide, number: int) -> Any:
    versions = sorted(side.bucket.versions(""), key=lambda each: side.versions.index((each.key, each.version_id)))
    return side.bucket.delete_for_good(versions[number % len(versions)]) if versions else None
