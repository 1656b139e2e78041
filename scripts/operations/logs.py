"""The functions' logs: their lines, their failures, and the reason of each."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cache
from typing import Any

from scripts.operations.stack import Stack
from shared.observability import mask_numbers

FUNCTIONS = {
    "archive": "ArchiverLogGroup",
    "memory": "MemoryWriterLogGroup",
    "audio": "AudioLogGroup",
    "transcribe": "TranscriberLogGroup",
    "text": "IndexerLogGroup",
    "ingest": "IngestLogGroup",
    "reconciler": "ReconcilerLogGroup",
    "canary": "CanaryLogGroup",
    "api": "ReadLogGroup",
}
# Functions that not every stack has, by output.
ONLY_WITH = {
    "audio": "AudioQueueUrl", "transcribe": "TranscribeQueueUrl", "text": "TextQueueUrl",
    "canary": "CanaryFunctionName", "api": "ApiUrl",
}  # fmt: skip
_FAILED = '{ ($.level = "WARNING") || ($.level = "ERROR") || ($.level = "CRITICAL") }'
_OF_LAMBDA = re.compile(r"Task timed out.*|Runtime exited.*|\[ERROR\].*")


@cache
def log_group(stack: Stack, logical_id: str) -> str:
    found = stack.client("cloudformation").describe_stack_resource(StackName=stack.name, LogicalResourceId=logical_id)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def read(stack: Stack, function: str, since: datetime, pattern: str = "") -> Iterator[tuple[datetime, str]]:
    """The lines of the function's log since then, among those that the filter `pattern` lets through."""
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(
        logGroupName=log_group(stack, FUNCTIONS[function]),
        startTime=int(since.timestamp() * 1000),
        **({"filterPattern": pattern} if pattern else {}),
    )  # fmt: skip
    for page in pages:
        for event in page["events"]:
            yield datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc), event["message"]


def failures(stack: Stack, function: str, since: datetime, pattern: str = "") -> Iterator[dict[str, Any]]:
    """The function's log entries of failures since then, among those that the filter `pattern` lets through."""
    for at, line in read(stack, function, since, pattern):
        entry = read_entry(line)
        if entry.get("level") in ("WARNING", "ERROR", "CRITICAL"):
            yield entry | {"at": at}


def functions_of(stack: Stack) -> list[str]:
    """The functions that the stack has."""
    return [name for name in FUNCTIONS if name not in ONLY_WITH or ONLY_WITH[name] in stack.outputs]


def last_reasons(stack: Stack, function: str, since: datetime) -> dict[str, str]:
    """Why each delivery or call failed the last time, by its id. The log is read once for all of them."""
    entries = sorted(failures(stack, function, since, _FAILED), key=lambda entry: entry["at"])
    return {
        str(entry[name]): reason(entry)
        for entry in entries
        for name in ("delivery_id", "conversation_id")
        if name in entry
    }


def read_entry(message: str) -> dict[str, Any]:
    """A line of a function's log. A line of Lambda itself, such as that of a timeout, becomes an entry too."""
    try:
        entry = json.loads(message)
    except ValueError:
        found = _OF_LAMBDA.search(message)
        return {"level": "ERROR", "message": found[0], "exception": found[0]} if found else {}
    return entry if isinstance(entry, dict) else {}


def reason(entry: dict[str, Any]) -> str:
    """What happened, in one line: the exception's last line, else the logged error or message. Numbers are masked."""
    exception = str(entry.get("exception") or "").strip()
    error = exception.splitlines()[-1].removeprefix("shared.errors.") if exception else entry.get("error")
    return mask_numbers(str(error or entry.get("message")))
