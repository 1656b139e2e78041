"""`ops replay`: what goes through the pipeline again, and that an interrupted run does nothing twice."""

import json

from tests.conftest import Stack

FAST = ("--per-second", "1000")


def claimed(stack: Stack) -> list[str]:
    """The staged keys of the claim checks that wait for the archiver."""
    return sorted(json.loads(message["Body"])["staged_key"] for message in stack.take("ArchiveQueueUrl"))


def announced(stack: Stack) -> list[str]:
    """The calls that wait for the memory writer."""
    return sorted(json.loads(message["Body"])["conversation_id"] for message in stack.take("MemoryQueueUrl"))
