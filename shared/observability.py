"""The logger, the metrics object, and the masking of phone numbers."""

import json
import re
from typing import Any

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

_FOLDER = re.compile(r"^(\d{7,15})(?=/)")
# An ARN up to its account: partition, service, region, and the account's 12 digits.
_ARN = r"(?<![0-9A-Za-z])arn:aws[a-z-]{0,16}:[a-z][a-z-]{0,31}:(?:[a-z-]{2,24}-[0-9])?:[0-9]{12}(?=:)"
_ARN_OR_NUMBER = re.compile(rf"({_ARN})|(?<![0-9A-Za-z])\+?[0-9]{{7,15}}(?![0-9A-Za-z])")


def to_line(entry: dict[str, Any]) -> str:
    """A log entry as one line. Numbers are masked in an exception's text, which may come from a library."""
    if isinstance(entry.get("exception"), str):
        entry = entry | {"exception": mask_numbers(entry["exception"])}
    return json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False)


def mask_numbers(text: str) -> str:
    """Text in which everything that may be a phone number is masked; the account in an ARN is none."""
    return _ARN_OR_NUMBER.sub(lambda found: found[1] or mask(found[0]), text)


def count(metric: str, reason: str | None = None) -> None:
    """Count one outcome, in total for the alarms, and per `reason` for people who look for the cause."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=1)
    if reason:
        with single_metric(name=metric, unit=MetricUnit.Count, value=1) as by_reason:
            by_reason.add_dimension(name="reason", value=reason)


def mask(number: str) -> str:
    """`+12025550123` as `+120…123`: you recognise a known caller but cannot learn a number.

    At least five digits are hidden, or half the digits of a short number.
    """
    plus, digits = ("+", number[1:]) if number.startswith("+") else ("", number)
    shown = min(7, len(digits) - 5) if len(digits) >= 10 else len(digits) // 2
    tail = shown // 2
    return f"{plus}{digits[: shown - tail]}…{digits[len(digits) - tail :]}"


def mask_key(key: str) -> str:
    """An S3 key in which the caller's number is masked."""
    return _FOLDER.sub(lambda match: mask(match[1]), key)


logger = Logger(utc=True, serialize_stacktrace=False, json_serializer=to_line)
metrics = Metrics()
