"""The webhook's signing secret: read from Secrets Manager as seldom as a rotation allows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.aws_errors import AwsError, error_code
from shared.errors import UnavailableError

REREAD_AFTER = timedelta(seconds=10)


@dataclass(frozen=True)
class Reading:
    """What Secrets Manager held at `read_at`. `previous` is empty if there is none that could be accepted."""

    current: str
    previous: str
    created_at: datetime
    read_at: datetime


class SigningSecret:
    """AWSCURRENT, and AWSPREVIOUS while AWSCURRENT is younger than `overlap`; what was read holds for `cache_time`.

    Every method raises UnavailableError when the secret cannot be read: then nobody can say that a signature is wrong.
    """

    def __init__(self, client: Any, arn: str, overlap: timedelta, cache_time: timedelta) -> None:
        self._client, self._arn, self._overlap, self._cache_time = client, arn, overlap, cache_time
        self._reading: Reading | None = None
        self._tried_at: datetime | None = None

    def keys(self, now: datetime) -> dict[str, str]:
        """The keys that sign webhooks at `now`, by what they are, the newest first."""
        reading = self._reading
        if reading is None or now - reading.read_at > self._cache_time:
            reading = self._read(now)
        overlapping = reading.previous and now - reading.created_at < self._overlap
        return {"current": reading.current} | ({"previous": reading.previous} if overlapping else {})

    def reread(self, now: datetime) -> bool:
        """After a mismatch: read again unless that was just done, for floods of forgeries shall cost nothing."""
        if self._tried_at is None or now - self._tried_at > REREAD_AFTER:
            self._read(now)
            return True
        if self._reading is None or self._reading.read_at != self._tried_at:
            raise UnavailableError("Secrets Manager", "the last reading failed a moment ago")
        return False

    def _read(self, now: datetime) -> Reading:
        self._tried_at = now
        try:
            answer = self._client.get_secret_value(SecretId=self._arn, VersionStage="AWSCURRENT")
            # Asked for only while it could be accepted; a fresh secret has no previous value.
            previous = self._read_previous() if now - answer["CreatedDate"] < self._overlap else ""
        except AwsError as error:
            raise UnavailableError("Secrets Manager", error_code(error)) from error
        current = answer.get("SecretString", "").strip()
        if not current:
            raise UnavailableError("Secrets Manager", "the secret is empty")
        self._reading = Reading(current, previous, answer["CreatedDate"], now)
        return self._reading

    def _read_previous(self) -> str:
        try:
            answer = self._client.get_secret_value(SecretId=self._arn, VersionStage="AWSPREVIOUS")
        except self._client.exceptions.ResourceNotFoundException:
            return ""
        return str(answer.get("SecretString", "").strip())
