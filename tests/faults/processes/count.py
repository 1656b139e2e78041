"""Counts what became of the bodies that were sent: looks in the bucket, the table, the queues and Mem0 itself.

It shares no code with the functions: where a call's objects must be is written down here once more.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shared.indexes import DAYS
from tests.faults.processes.calls import Call, Kind
from tests.faults.processes.sender import Body
from tests.mem0_stand_in import HostedMem0

SOURCES, DLQS = ("ArchiveQueueUrl", "MemoryQueueUrl"), {"archive": "ArchiveDlqUrl", "memory": "MemoryDlqUrl"}
QUEUES = (*SOURCES, *DLQS.values())
STATES = ("", "NotVisible", "Delayed")
KINDS: tuple[Kind, ...] = ("json", "mp3")
MEMORIES = ("factual", "semantic")


@dataclass(frozen=True)
class Findings:
    """What is wrong, by name; nothing if all is well."""

    lost: list[str]  # acknowledged, and not archived byte for byte, or not in the call's record
    unremembered: list[str]
    doubled: list[str]  # memories
    left: list[str]  # messages in queues, and acknowledged bodies that are still to be archived
    strange: list[str]  # objects and records that nobody sent

    @property
    def are_none(self) -> bool:
        return not any(vars(self).values())


@dataclass(frozen=True)
class Deployed:
    """A stack on the embedded AWS, as its owner sees it."""

    client: Callable[[str], Any]
    outputs: Mapping[str, str]

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self.client("sqs")

    @property
    def bucket(self) -> str:
        return self.outputs["BucketName"]

    def objects(self) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = {each["Key"] for page in pages for each in page.get("Contents", [])}
        return {key for key in found if not key.startswith("text/")}  # files of rows are made and merged at any time

    def body(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def tags(self, key: str) -> dict[str, str]:
        found = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def depth(self, queue: str) -> int:
        """Messages in a queue: that wait, are at work, or are delayed."""
        names = [f"ApproximateNumberOfMessages{state}" for state in STATES]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.outputs[queue], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def rest(self, seconds: float, say: Callable[[str], None]) -> None:
        """Wait until the source queues are empty three times in a row, but not longer than so many seconds."""
        deadline, rounds, empty = time.monotonic() + seconds, 0, 0
        while empty < 3 and time.monotonic() < deadline:
            archive, memory = map(self.depth, SOURCES)
            if rounds % 20 == 0:
                say(f"waiting: {archive} messages to archive, {memory} to remember")
            time.sleep(0.5)
            rounds, empty = rounds + 1, empty + 1 if archive + memory == 0 else 0

    def items(self) -> dict[tuple[str, str], dict[str, str]]:
        """The table, by conversation and item; of each item only what is text."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=self.outputs["ConversationTableName"])
        rows = [{name: value.get("S", "") for name, value in row.items()} for page in pages for row in page["Items"]]
        return {(row["conversation_id"], row["item"]): row for row in rows}


def count(stack: Deployed, mem0: HostedMem0, calls: Sequence[Call], acknowledged: set[Body]) -> Findings:
    objects, items = stack.objects(), stack.items()
    memories = memories_of(mem0, calls)
    remembered = [(id, kind) for id, what in sorted(acknowledged) if what == "json" for kind in MEMORIES]
    return Findings(
        lost=[*lost_objects(stack, objects, calls, acknowledged), *lost_records(items, calls, acknowledged)],
        unremembered=[f"{id}: {kind}" for id, kind in remembered if not memories[id, kind]],
        doubled=[f"{id}: {kind} {number} times" for (id, kind), number in memories.items() if number > 1],
        left=[*left_in_queues(stack), *left_in_staging(stack, objects, calls, acknowledged)],
        strange=[*strange_objects(objects, calls), *strange_records(items, calls)],
    )


def memories_of(mem0: HostedMem0, calls: Sequence[Call]) -> Counter[tuple[str, str]]:
    """How many memories Mem0 has, by conversation and type."""
    found = [memory for caller in {call.caller for call in calls} for memory in mem0.memories(f"+{caller}")]
    return Counter((each["metadata"]["conversation_id"], each["metadata"]["type"]) for each in found)


def lost_objects(stack: Deployed, objects: set[str], calls: Sequence[Call], acknowledged: set[Body]) -> Iterator[str]:
    """An object of an unanswered body may be there or not; if it is there it must be right."""
    for call in calls:
        for kind in KINDS:
            key = call.key(kind)
            if key in objects and stack.body(key) != call.archived(kind):
                yield f"{key}: other bytes"
            elif key not in objects and (call.conversation_id, kind) in acknowledged:
                yield f"{key}: missing"


def lost_records(
    items: Mapping[tuple[str, str], Mapping[str, str]], calls: Sequence[Call], acknowledged: set[Body]
) -> Iterator[str]:
    """The record of a call must name the objects of its acknowledged bodies."""
    for call in calls:
        record = items.get((call.conversation_id, "call"), {})
        for kind in KINDS:
            if (call.conversation_id, kind) in acknowledged and record.get(f"{kind}_key") != call.key(kind):
                yield f"{call.conversation_id}: the record names no {kind}"


def left_in_queues(stack: Deployed) -> Iterator[str]:
    for queue in QUEUES:
        if depth := stack.depth(queue):
            yield f"{queue}: {depth}"


def left_in_staging(
    stack: Deployed, objects: set[str], calls: Sequence[Call], acknowledged: set[Body]
) -> Iterator[str]:
    yield from (f"{key}: not tagged" for key in untagged(stack, objects, digests(calls, acknowledged)))


def untagged(stack: Deployed, objects: set[str], ids: set[str]) -> list[str]:
    """Staged bodies without the tag of what is archived. The same body may be staged twice, an hour apart."""
    return [key for key in sorted(objects) if staged_id(key) in ids and stack.tags(key) != {"archived": "true"}]


def staged_only(stack: Deployed, calls: Sequence[Call], acknowledged: set[Body]) -> int:
    """Bodies that were staged and neither archived nor acknowledged; the hourly pass hands them on."""
    return len(untagged(stack, stack.objects(), digests(calls) - digests(calls, acknowledged)))


def digests(calls: Sequence[Call], only: set[Body] | None = None) -> set[str]:
    return {
        digest(call, kind) for call in calls for kind in KINDS if only is None or (call.conversation_id, kind) in only
    }


def strange_objects(objects: set[str], calls: Sequence[Call]) -> Iterator[str]:
    keys = {call.key(kind) for call in calls for kind in KINDS}
    ids = digests(calls)
    yield from (key for key in sorted(objects) if key not in keys and staged_id(key) not in ids)


def strange_records(items: Mapping[tuple[str, str], Any], calls: Sequence[Call]) -> Iterator[str]:
    known = {call.conversation_id for call in calls} | {DAYS}
    yield from (f"{id}: {item}" for id, item in sorted(items) if id not in known)


def digest(call: Call, kind: Kind) -> str:
    return hashlib.sha256(call.body(kind)).hexdigest()


def staged_id(key: str) -> str | None:
    folder, _, name = key.rpartition("/")
    return name.partition(".")[0] if folder.startswith("staging/") else None
