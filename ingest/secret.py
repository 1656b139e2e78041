"""The webhook's signing secret: cached, and read again only as often as a rotation needs."""

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
    """The values in Secrets Manager at `read_at`. `previous` is empty if none can be accepted."""

    current: str
    previous: str
    created_at: datetime
    read_at: datetime


@dataclass(frozen=True)
class Periods:
    """How long AWSPREVIOUS is accepted, how long a reading is cached, and how much longer if the next reading fails."""

    overlap: timedelta
    cache_time: timedelta
    grace: timedelta


class SigningSecret:
    """The webhook's signing secret in Secrets Manager: AWSCURRENT, and AWSPREVIOUS during the overlap.

    After a failed reading there is none for REREAD_AFTER, so that webhooks do not queue behind a service that is down.
    Every method raises UnavailableError if the secret cannot be read and no cached reading is valid: without the secret
    no signature can be called wrong.
    """

    def __init__(self, client: Any, arn: str, periods: Periods) -> None:
        self.client, self._arn, self._periods = client, arn, periods
        self._reading: Reading | None = None
        self._failed_at: datetime | None = None  # None if the last attempt succeeded

    def keys(self, now: datetime) -> dict[str, str]:
        """The accepted keys at `now`, by name, the newest first."""
        reading = self._reading
        if reading is None or now - reading.read_at > self._periods.cache_time:
            reading = self._refresh(now)
        overlapping = reading.previous and now - reading.created_at < self._periods.overlap
        return {"current": reading.current} | ({"previous": reading.previous} if overlapping else {})

    def reread(self, now: datetime) -> bool:
        """Read again after a mismatch, at most once per REREAD_AFTER, so that forged requests cause few reads."""
        if self._reading and now - self._reading.read_at <= REREAD_AFTER:
            return False
        self._read(now)
        return True

    def _refresh(self, now: datetime) -> Reading:
        """A new reading; if it fails during the grace period, the last one."""
        try:
            return self._read(now)
        except UnavailableError as error:
            last = self._reading
            if last is None or now - last.read_at > self._periods.cache_time + self._periods.grace:
                raise
            logger.warning("The signing secret could not be read again: the cached one is used", reason=str(error))
            return last

    def _read(self, now: datetime) -> Reading:
        if self._failed_at and now - self._failed_at <= REREAD_AFTER:
            raise UnavailableError("Secrets Manager", "the last reading failed a moment ago")
        began = time.monotonic()
        try:
            self._reading = self._ask(now)
        except UnavailableError:
            took = timedelta(seconds=time.monotonic() - began)  # a service that does not answer fails after seconds
            self._failed_at = now + took
            count("SecretRefreshFailed")
            raise
        self._failed_at = None
        return self._reading

    def _ask(self, now: datetime) -> Reading:
        try:
            answer = self.client.get_secret_value(SecretId=self._arn, VersionStage="AWSCURRENT")
            # Read only while it would be accepted. A new secret has no previous value.
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
