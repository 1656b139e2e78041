"""The webhook's signing secret: read from Secrets Manager as seldom as a rotation allows."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.aws_errors import AwsError, error_code
from shared.errors import UnavailableError
from shared.observability import count, logger

REREAD_AFTER = timedelta(seconds=10)


@dataclass(frozen=True)
class Reading:
    """What Secrets Manager held at `read_at`. `previous` is empty if there is none that could be accepted."""

    current: str
    previous: str
    created_at: datetime
    read_at: datetime


@dataclass(frozen=True)
class Periods:
    """How long AWSPREVIOUS is accepted beside a new AWSCURRENT, a reading holds, and longer if no other can be had."""

    overlap: timedelta
    cache_time: timedelta
    grace: timedelta


class SigningSecret:
    """The webhook's signing secret in Secrets Manager: AWSCURRENT, and AWSPREVIOUS while it is accepted beside it.

    After a failed reading the next one waits for REREAD_AFTER, so that webhooks do not wait one after the other for a
    service that is down. Every method raises UnavailableError when the secret cannot be read, and no last reading
    holds: then nobody can say that a signature is wrong.
    """

    def __init__(self, client: Any, arn: str, periods: Periods) -> None:
        self.client, self._arn, self._periods = client, arn, periods
        self._reading: Reading | None = None
        self._failed_at: datetime | None = None  # None if the last attempt read it

    def keys(self, now: datetime) -> dict[str, str]:
        """The keys that sign webhooks at `now`, by what they are, the newest first."""
        reading = self._reading
        if reading is None or now - reading.read_at > self._periods.cache_time:
            reading = self._refresh(now)
        overlapping = reading.previous and now - reading.created_at < self._periods.overlap
        return {"current": reading.current} | ({"previous": reading.previous} if overlapping else {})

    def reread(self, now: datetime) -> bool:
        """After a mismatch: read again, but once in REREAD_AFTER at most, however many requests are forged."""
        if self._reading and now - self._reading.read_at <= REREAD_AFTER:
            return False
        self._read(now)
        return True

    def _refresh(self, now: datetime) -> Reading:
        """A new reading, or during the grace the last one."""
        try:
            return self._read(now)
        except UnavailableError as error:
            last = self._reading
            if last is None or now - last.read_at > self._periods.cache_time + self._periods.grace:
                raise
            logger.warning("The signing secret could not be read again: the last reading holds", reason=str(error))
            return last

    def _read(self, now: datetime) -> Reading:
        if self._failed_at and now - self._failed_at <= REREAD_AFTER:
            raise UnavailableError("Secrets Manager", "the last reading failed a moment ago")
        began = time.monotonic()
        try:
            self._reading = self._ask(now)
        except UnavailableError:
            self._failed_at = now + timedelta(
                seconds=time.monotonic() - began
            )  # a silent service takes seconds to fail
            count("SecretRefreshFailed")
            raise
        self._failed_at = None
        return self._reading

    def _ask(self, now: datetime) -> Reading:
        try:
            answer = self.client.get_secret_value(SecretId=self._arn, VersionStage="AWSCURRENT")
            # Asked for only while it could be accepted; a fresh secret has no previous value.
            previous = self._ask_previous() if now - answer["CreatedDate"] < self._periods.overlap else ""
        except AwsError as error:
            raise UnavailableError("Secrets Manager", error_code(error)) from error
        current = answer.get("SecretString", "").strip()
        if not current:
            raise UnavailableError("Secrets Manager", "the secret is empty")
        return Reading(current, previous, answer["CreatedDate"], now)

    def _ask_previous(self) -> str:
        try:
            answer = self.client.get_secret_value(SecretId=self._arn, VersionStage="AWSPREVIOUS")
        except self.client.exceptions.ResourceNotFoundException:
            return ""
        return str(answer.get("SecretString", "").strip())
