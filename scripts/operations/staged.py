"""Payloads in staging/ as the operators' tool shows them: which calls are in them, and how large they are."""

from typing import Any

from scripts.operations.stack import Stack
from shared.keys import is_recording
from shared.webhooks import read_events


def calls_in(stack: Stack, key: str) -> list[str]:
    """The ids of the calls in a staged body, as far as it can be read. A recording has its call in its metadata."""
    return list(describe(stack, key)["calls"])


def describe(stack: Stack, key: str) -> dict[str, Any]:
    """The calls and the size of a staged body; no calls and no size if it is gone. A recording is not downloaded."""
    if is_recording(key):
        head = stack.head(key)
        named = head["Metadata"].get("conversation_id") if head else None
        return {"calls": [named] if named else [], "bytes": head["ContentLength"] if head else None}
    staged = stack.bucket.read(key)
    events = read_events(staged[0]) if staged else ()
    calls = dict.fromkeys(event.conversation_id for event in events if event.conversation_id)
    return {"calls": list(calls), "bytes": len(staged[0]) if staged else None}
