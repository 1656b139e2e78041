"""Reads objects, events and staged bodies, also unreadable ones, to find out whom they are about."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

from botocore.exceptions import ClientError

from scripts.aws_session import OpsError
from scripts.operations.stack import Stack
from shared import keys
from shared.aws_errors import error_code
from shared.bucket import ARCHIVED, Version, content
from shared.caller import find_caller
from shared.conversation import read_conversation
from shared.errors import PoisonError
from shared.observability import mask_key
from shared.parts import is_array, read_json
from shared.webhooks import read_event, split

_SEPARATORS = r"[\s().\-/\u2010-\u2015]{0,3}"  # between the digits of a number, as people write it
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Subject:
    """The caller with these digits, or one call, to be erased. Calls that began after `at` stay."""

    caller: str = ""
    conversation: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0))

    @property
    def users(self) -> set[str]:
        """The caller's user ids in Mem0."""
        return users_of(self.caller) if self.caller else set()

    def is_named_in(self, body: bytes) -> bool:
        """Whether a text contains the number in any format, or the conversation's id."""
        text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), body.decode(errors="replace"))
        return self._pattern.search(text) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if self.conversation:
            return re.compile(rf"(?<![\w-]){self.conversation}(?![\w-])")
        return re.compile(rf"(?<!\d)(?<!\d\.)(?:00|011)?{_SEPARATORS.join(self.caller)}(?!\d)")


@dataclass(frozen=True)
class Mention:
    """Whom one event is about."""

    conversation_id: str | None
    names_subject: bool  # as a party of the call, or in the text of an event without a conversation
    began: datetime | None = None


class Reader:
    """Reads for one subject."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject, self._bucket = stack, subject, stack.bucket
        self._staged: dict[str, list[Version]] = {}  # the versions of bodies that were read

    def versions(self, key: str) -> list[Version]:
        if key not in self._staged:
            self._staged[key] = list(self._bucket.versions(key))
        return self._staged[key]

    def read_staged(self, key: str) -> list[Mention]:
        versions = self.versions(key)
        return self.read(largest(versions)) if versions else []

    def read(self, version: Version) -> list[Mention]:
        """The events in one version of a body: all its versions are the same. A delete marker has no events."""
        if keys.is_recording(version.key):
            named = self._ask("head_object", version).get("Metadata", {})
            return [Mention(named.get("conversation_id"), names_subject=False)]
        answer = self._ask("get_object", version)
        return self._read_body(content(answer)) if answer else []

    def _read_body(self, body: bytes) -> list[Mention]:
        try:
            return [self._read_event(each) for each in split(body) or [body]]
        except PoisonError:
            is_named = self._subject.is_named_in(body)
            others = [Mention(None, names_subject=False)] if is_array(body) else []
            return [Mention(None, is_named), *others]

    def _read_event(self, body: bytes) -> Mention:
        """An event without a conversation, or that cannot be read, is searched for the number as text."""
        try:
            event = read_event(body)
        except PoisonError:
            return Mention(None, self._subject.is_named_in(body))
        names_subject = self._subject.caller in find_caller(event.data).numbers
        if event.conversation_id is None:
            names_subject = names_subject or self._subject.is_named_in(body)
        sent_at = None if event.time_ms is None else datetime.fromtimestamp(event.time_ms / 1000, timezone.utc)
        return Mention(event.conversation_id, names_subject, read_conversation(event.data).started_at or sent_at)

    def is_tagged(self, version: Version) -> bool:
        return ARCHIVED in self._ask("get_object_tagging", version).get("TagSet", [])

    def _ask(
        self, operation: Literal["get_object", "head_object", "get_object_tagging"], version: Version
    ) -> dict[str, Any]:
        """S3's answer; empty for a delete marker, and for a version that is gone by now. Raises OpsError."""
        named = {"Bucket": self._bucket.name, "Key": version.key, "VersionId": version.version_id}
        try:
            return dict(getattr(self._stack.client("s3"), operation)(**named)) if version.size else {}
        except ClientError as error:
            if error_code(error) in ("NoSuchVersion", "NoSuchKey", "404"):
                return {}
            if error_code(error) == "InvalidObjectState":
                advice = "it is in an archive class. Restore it. Then run the same command again."
                raise OpsError(f"{mask_key(version.key)} cannot be read: {advice}", code=1) from None
            raise

    def array_of(self, key: str) -> str | None:
        """The key of the array that a staged body came in."""
        versions = self.versions(key)
        head = self._ask("head_object", largest(versions)) if versions else {}
        array = head.get("Metadata", {}).get("part_of")
        return keys.sibling(key, array) if array else None

    def is_named(self, version: Version) -> bool:
        """Whether the metadata or the data of an object names the caller."""
        answer = self._ask("head_object" if version.key.endswith(".mp3") else "get_object", version)
        if digits_of(answer.get("Metadata", {}).get("external_number")) == self._subject.caller:
            return True
        try:
            return "Body" in answer and self._subject.caller in find_caller(read_json(content(answer))).numbers
        except ValueError:
            return False


def largest(versions: list[Version]) -> Version:
    return max(versions, key=lambda each: each.size)


def digits_of(number: str | None) -> str:
    return (number or "").lstrip("+")


def users_of(digits: str) -> set[str]:
    """A number's user ids in Mem0: with and without the leading +."""
    return {digits, f"+{digits}"}
