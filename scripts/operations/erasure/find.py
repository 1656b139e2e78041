"""Finds all data that a stack has about a caller, or about one call, without reading the whole bucket.

The index finds the records of calls by each number, and a record names the staged bodies and objects of its call. Three
more places are searched: the caller's folder, events without a conversation, and staged bodies that no record names
(`shared.unnamed`). The archiver drops what arrives later.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

from scripts.operations.erasure.reading import Mention, Reader, Subject, digits_of, largest
from scripts.operations.selection import is_staged, received_at
from scripts.operations.stack import AT_ONCE, Stack
from shared import keys
from shared.bucket import Version
from shared.call import Call
from shared.unnamed import Unnamed

SHARED_BODY = "it contains data to be erased, but may be an array with events of other callers: it was never split"
CURRENT_OBJECT = "it belongs to another caller's call, but its current version names this caller too"
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Found:
    """All data about a subject.

    `calls` are deleted completely. `shared` are calls of others: only the data that names the caller is deleted.
    `later` began after the erasure, and stay. `staged` are the versions of staged bodies by their keys. The bodies of
    `arrays` are deleted first, because they are found by their elements. `rows` are the versions of files under text/
    that have rows of the calls, with their number. `resolved` are the keys of noted bodies that are archived or gone.
    `to_review` says why a person must look at an object.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    shared: dict[str, Call] = field(default_factory=dict)
    later: dict[str, Call] = field(default_factory=dict)
    finals: set[Version] = field(default_factory=set)
    arrays: dict[str, list[Version]] = field(default_factory=dict)
    staged: dict[str, list[Version]] = field(default_factory=dict)
    rows: dict[Version, int] = field(default_factory=dict)
    memories: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    to_review: dict[str, str] = field(default_factory=dict)

    @property
    def bodies(self) -> dict[str, list[Version]]:
        return self.arrays | self.staged

    @property
    def versions(self) -> list[Version]:
        return sorted(self.finals, key=lambda each: each.key) + all_versions(self.bodies)

    @property
    def with_data(self) -> list[Call]:
        """The calls whose records have more than a tombstone."""
        return [call for call in self.calls.values() if call.is_known]

    def numbers(self) -> dict[str, int]:
        size, rows = sum(each.size for each in self.versions), sum(self.rows.values())
        return {
            "calls": len(self.with_data), "object_versions": len(self.finals), "payloads": len(self.bodies),
            "bytes": size, "rows": rows, "memories": len(self.memories),
        }  # fmt: skip

    def without(self, calls: set[str], locked: Iterable[Version]) -> "Found":
        """The same without the calls and versions that could not be deleted."""
        kept = set(locked)
        bodies = {key: [each for each in versions if each not in kept] for key, versions in self.bodies.items()}
        return Found(
            {name: call for name, call in self.calls.items() if name not in calls},
            finals=self.finals - kept, memories=self.memories,
            rows={version: number for version, number in self.rows.items() if version not in kept},
            staged={key: versions for key, versions in bodies.items() if versions},
        )  # fmt: skip


class Search:
    """Searches table and bucket once."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._subject, self._bucket, self._records = subject, stack.bucket, stack.records
        self._unnamed, self._reader = Unnamed(stack.table), Reader(stack, subject)

    def find(self) -> Found:
        """Raises OpsError for an object that cannot be read at once."""
        found = Found()
        if self._subject.conversation:
            self._add_call(self._subject.conversation, found)
        else:
            for call in self._records.find_by_caller(self._subject.caller):
                self._classify(call, self._began(call), found)
            self._find_folder(found)
        self._find_events(found)
        self._find_unnamed(found)
        for call in found.calls.values():
            found.finals |= {each for folder in self._folders(call) for each in self._objects(folder, call)}
            found.finals |= set(self._bucket.versions(keys.transcribing(call.conversation_id)))
            self._add_staged(bodies_of(call), found)
        for call in found.shared.values():
            self._find_named(call, found)
        return found

    # Calls

    def _add_call(self, conversation_id: str, found: Found, event_at: datetime | None = None) -> None:
        """Add a call that the index did not find."""
        if not any(conversation_id in calls for calls in (found.calls, found.shared, found.later)):
            call = self._records.get(conversation_id) or Call(conversation_id)
            self._classify(call, self._began(call) or event_at, found)

    def _classify(self, call: Call, began: datetime | None, found: Found) -> None:
        kind = found.calls
        if self._subject.caller and not self._is_own(call):
            kind = found.shared
        elif self._subject.caller and not self._is_before(began):
            kind = found.later
        kind[call.conversation_id] = call

    def _is_own(self, call: Call) -> bool:
        """Whether it is the caller's own call, not another caller's call with an event that has the number."""
        caller = self._subject.caller
        return caller in {call.caller, call.folder, digits(call)} or not (call.caller or call.numbers - {caller})

    def _is_before(self, began: datetime | None) -> bool:
        return began is None or began <= self._subject.at

    def _began(self, call: Call) -> datetime | None:
        """When the call began; else the time of its first event, or the hour of its receipt; None if unknown."""
        if call.started_at:
            return datetime.fromisoformat(call.started_at)
        if event_ms := int((call.t_order or "-0").split("-")[1]):
            return datetime.fromtimestamp(event_ms / 1000, timezone.utc)
        bodies = sorted(bodies_of(call))
        began = [each.began for events in self._each(self._reader.read_staged, bodies) for each in events if each.began]
        return min(began or map(received_at, bodies), default=None)

    # Objects

    def _find_folder(self, found: Found) -> None:
        """All objects in the caller's folder, also those of calls without a record."""
        for version in self._bucket.versions(f"{self._subject.caller}/"):
            name = version.key.split("/")[1].split(".")[0]
            if keys.is_id(name):
                self._add_call(name, found)
            if name not in found.later and name not in found.shared:
                found.finals.add(version)

    def _find_events(self, found: Found) -> None:
        """Events without a conversation. There are few, so all are read."""
        versions = list(self._bucket.versions("other-events/"))
        for version, mentions in zip(versions, self._each(self._reader.read, versions), strict=True):
            if any(self._is_ours(each, found) for each in mentions):
                found.finals.add(version)

    def _find_named(self, call: Call, found: Found) -> None:
        """The bodies, events and replaced versions of another caller's call that name the caller."""
        staged = sorted(bodies_of(call))
        mentions = self._each(self._reader.read_staged, staged)
        self._add_staged(
            (key for key, each in zip(staged, mentions, strict=True) if self._has_ours(each, found)), found
        )
        objects = [each for folder in self._folders(call) for each in self._objects(folder, call)]
        for version, is_named in zip(objects, self._each(self._reader.is_named, objects), strict=True):
            is_event = version.key.count(".") > 1
            if is_named and version.is_latest and not is_event:
                found.to_review[version.key] = CURRENT_OBJECT
            elif is_named:
                found.finals.add(version)

    def _folders(self, call: Call) -> set[str]:
        """The call's folder, those of its events, and no-phone, where its first event may be."""
        folders = {call.folder, digits(call), self._subject.caller, keys.NO_PHONE, *map(folder_of, call.event_keys)}
        return {folder for folder in folders if folder}

    def _objects(self, folder: str, call: Call) -> Iterator[Version]:
        return self._bucket.versions(f"{folder}/{call.conversation_id}.")

    # Staged bodies

    def _find_unnamed(self, found: Found) -> None:
        """Calls first, then bodies: a transcript among the bodies may tell whose audio another one is."""
        noted = sorted(filter(is_staged, self._unnamed.keys()))
        mentions = dict(zip(noted, self._each(self._read_unnamed, noted), strict=True))
        found.resolved = {key for key, each in mentions.items() if each is None}
        open_ones = {key: each for key, each in mentions.items() if each is not None}
        for each in (each for events in open_ones.values() for each in events):
            if each.names_subject and each.conversation_id:
                self._add_call(each.conversation_id, found, each.began)
        for key, events in open_ones.items():
            self._classify_body(key, events, found)

    def _read_unnamed(self, key: str) -> list[Mention] | None:
        """None if the body is gone, or archived with a conversation: then a record names it."""
        versions = self._reader.versions(key)
        mentions = self._reader.read_staged(key)
        is_named = [each.conversation_id for each in mentions] != [None]
        return None if not versions or (is_named and self._reader.is_tagged(largest(versions))) else mentions

    def _classify_body(self, key: str, events: list[Mention], found: Found) -> None:
        """Take a body that is about the subject alone. A body that is about others too is for a person to review."""
        if events and all(self._is_ours(each, found) for each in events):
            self._add_staged([key], found)
        elif self._has_ours(events, found):
            found.to_review[key] = SHARED_BODY

    def _is_ours(self, mention: Mention, found: Found) -> bool:
        if mention.conversation_id in found.calls:
            return True
        return mention.names_subject and self._is_before(mention.began) and mention.conversation_id not in found.later

    def _has_ours(self, events: list[Mention], found: Found) -> bool:
        return any(self._is_ours(each, found) for each in events)

    def _add_staged(self, staged_keys: Iterable[str], found: Found) -> None:
        """Add bodies and the arrays that they came in. The other elements of a split array have their own bodies."""
        new = sorted(set(staged_keys) - found.staged.keys())
        for key, array in zip(new, self._each(self._reader.array_of, new), strict=True):
            if versions := self._reader.versions(key):
                found.staged[key] = versions
            if array and array not in found.bodies:
                self._add_array(array, found)

    def _add_array(self, key: str, found: Found) -> None:
        versions = self._reader.versions(key)
        if versions and self._reader.is_tagged(largest(versions)):
            found.arrays[key] = versions
        elif versions and key not in found.staged:
            self._classify_body(key, self._reader.read_staged(key), found)

    def _each(self, act: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(act, items))


def bodies_of(call: Call) -> set[str]:
    """The keys of a call's staged bodies, audio that waits included."""
    return set(filter(is_staged, call.staged_keys))


def all_versions(bodies: dict[str, list[Version]]) -> list[Version]:
    return [version for versions in bodies.values() for version in versions]


def digits(call: Call) -> str:
    return digits_of(call.external_number)


def folder_of(key: str) -> str:
    return key.split("/")[0]
