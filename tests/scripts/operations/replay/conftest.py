"""Staged bodies, and what a replay sent."""

import json
from datetime import datetime

from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import receive_at, tag, transcript

FAST = ("--per-second", "1000")


def claimed(stack: Stack) -> list[str]:
    """The staged keys of the claim checks that wait for the archiver."""
    return sorted(json.loads(message["Body"])["staged_key"] for message in stack.take("ArchiveQueueUrl"))


def announced(stack: Stack) -> list[str]:
    """The calls that wait for the memory writer."""
    return sorted(json.loads(message["Body"])["conversation_id"] for message in stack.take("MemoryQueueUrl"))


def staged(stack: Stack, name: str, at: datetime, *, archived: bool = False) -> str:
    """A staged body that arrived at that time; returns its key."""
    key = staged_key(stage(stack, transcript(name), now=at))
    receive_at(stack, key, at)
    if archived:
        tag(stack, key)
    return key
