"""The one logger, the one metrics object, and how a phone number may be shown."""

import json
import re
from typing import Any

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

_FOLDER = re.compile(r"^(\d{7,15})(?=/)")
_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+?[0-9]{7,15}(?![0-9A-Za-z])")


def to_line(entry: dict[str, Any]) -> str:
    """A log entry as one line. An exception's text may be a library's, and that may quote a number."""
    if isinstance(entry.get("exception"), str):
        entry = entry | {"exception": mask_numbers(entry["exception"])}
    return json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False)


def mask_numbers(text: str) -> str:
    """Text with whatever may be a phone number in it masked."""
    return _NUMBER.sub(lambda number: mask(number[0]), text)


def count(metric: str, reason: str | None = None) -> None:
    """Count one outcome, and once more under its `reason`, so that alarms can watch the sum and people the causes."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=1)
    if reason:
        with single_metric(name=metric, unit=MetricUnit.Count, value=1) as by_reason:
            by_reason.add_dimension(name="reason", value=reason)


def mask(number: str) -> str:
    """`+12025550123` as `+120…123`: enough to recognise a caller one knows, too little to learn one.

    At least five digits are hidden, or half of those of a short number.
    """
    plus, digits = ("+", number[1:]) if number.startswith("+") else ("", number)
    shown = min(7, len(digits) - 5) if len(digits) >= 10 else len(digits) // 2
    tail = shown // 2
    return f"{plus}{digits[: shown - tail]}…{digits[len(digits) - tail :]}"


def mask_key(key: str) -> str:
    """An S3 key with the caller's number in it masked."""
    return _FOLDER.sub(lambda match: mask(match[1]), key)


logger = Logger(utc=True, serialize_stacktrace=False, json_serializer=to_line)
metrics = Metrics()
