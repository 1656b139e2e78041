"""The webhook's signing secret: read from Secrets Manager as seldom as a rotation allows."""

from datetime import datetime, timedelta
from typing import Any

from shared.aws_errors import AwsError, error_code
from shared.errors import UnavailableError

CACHE_TIME = timedelta(minutes=5)
REREAD_AFTER = timedelta(seconds=10)


class SigningSecret:
    """AWSCURRENT, and AWSPREVIOUS while AWSCURRENT is younger than `overlap`.

    Every method raises UnavailableError when the secret cannot be read: then nobody can say that a signature is wrong.
    """

    def __init__(self, client: Any, arn: str, overlap: timedelta) -> None:
        self._client, self._arn, self._overlap = client, arn, overlap
        self._current, self._previous = "", ""
        self._created_at: datetime | None = None
        self._read_at: datetime | None = None
        self._tried_at: datetime | None = None

    def keys(self, now: datetime) -> list[str]:
        """The keys that sign webhooks at `now`, the newest first."""
        if self._read_at is None or now - self._read_at > CACHE_TIME:
            self._read(now)
        overlapping = self._created_at is not None and now - self._created_at < self._overlap
        return [self._current, self._previous] if self._previous and overlapping else [self._current]

    def reread(self, now: datetime) -> bool:
        """After a mismatch: read again unless that was just done, for floods of forgeries shall cost nothing."""
        if self._tried_at is not None and now - self._tried_at <= REREAD_AFTER:
            if self._tried_at != self._read_at:
                raise UnavailableError("Secrets Manager", "the last reading failed a moment ago")
            return False
        self._read(now)
        return True

    def _read(self, now: datetime) -> None:
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
        self._current, self._previous = current, previous
        self._created_at, self._read_at = answer["CreatedDate"], now

    def _read_previous(self) -> str:
        try:
            answer = self._client.get_secret_value(SecretId=self._arn, VersionStage="AWSPREVIOUS")
        except self._client.exceptions.ResourceNotFoundException:
            return ""
        return str(answer.get("SecretString", "").strip())
