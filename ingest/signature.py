"""Verifies the signature of an ElevenLabs webhook."""

import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.errors import SignatureError
from shared.signature import sign

_SECONDS = re.compile(r"[0-9]{1,12}")


def verify(
    body: bytes, header: str | None, secrets: Sequence[str], now: datetime, max_age: timedelta, max_ahead: timedelta
) -> None:
    """Raise SignatureError unless `header` signs the raw `body` with one of `secrets`, within both time limits.

    The header's parts may have any order; unknown parts are ignored. One matching `v0` among several is enough.
    """
    timestamp, signatures = _parse(header)
    age = now.timestamp() - int(timestamp)
    if age > max_age.total_seconds():
        raise SignatureError("expired")
    if -age > max_ahead.total_seconds():
        raise SignatureError("future")
    expected = [sign(body, timestamp, secret).encode() for secret in secrets]
    # No early exit: the time must not show which signature was nearly right.
    matches = [hmac.compare_digest(given, right) for given in signatures for right in expected]
    if not any(matches):
        raise SignatureError("mismatch")


def _parse(header: str | None) -> tuple[str, list[bytes]]:
    if not header:
        raise SignatureError("missing")
    parts = [part.partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode(errors="replace") for name, _, value in parts if name == "v0"]
    if len(timestamps) != 1 or not _SECONDS.fullmatch(timestamps[0]) or not signatures:
        raise SignatureError("malformed")
    return timestamps[0], signatures
