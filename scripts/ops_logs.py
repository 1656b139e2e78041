"""What the functions logged, as far as it explains a failure."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cache
from typing import Any

from scripts.ops_stack import Stack

FUNCTIONS = {
    "archive": "ArchiverLogGroup",
    "memory": "MemoryWriterLogGroup",
    "audio": "AudioLogGroup",
    "ingest": "IngestLogGroup",
    "reconciler": "ReconcilerLogGroup",
}


@cache
def log_group(stack: Stack, logical_id: str) -> str:
    found = stack.client("cloudformation").describe_stack_resource(StackName=stack.name, LogicalResourceId=logical_id)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def failures(stack: Stack, function: str, since: datetime, term: str = "") -> Iterator[dict[str, Any]]:
    """The function's log entries of failures since then, oldest first, that hold `term`, an id."""
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(
        logGroupName=log_group(stack, FUNCTIONS[function]),
        startTime=int(since.timestamp() * 1000),
        **({"filterPattern": f'"{term}"'} if term else {}),
    )  # fmt: skip
    for page in pages:
        for event in page["events"]:
            entry = read_entry(event["message"])
            if entry.get("level") in ("WARNING", "ERROR", "CRITICAL") and term in event["message"]:
                yield entry | {"at": datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc)}


def read_entry(message: str) -> dict[str, Any]:
    """A line of a function's log; lines of Lambda itself, such as a timeout's, become an entry of their own."""
    try:
        entry = json.loads(message)
    except ValueError:
        is_failure = "Task timed out" in message or "Runtime exited" in message
        return {"level": "ERROR", "message": message.strip()[-200:]} if is_failure else {}
    return entry if isinstance(entry, dict) else {}


def reason(entry: dict[str, Any]) -> str:
    """One line that says what happened: the exception's last line, else what was logged."""
    exception = str(entry.get("exception") or "").strip()
    if exception:
        return exception.splitlines()[-1].removeprefix("shared.errors.")
    return str(entry.get("error") or entry.get("message"))
