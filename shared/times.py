"""Times as text: ISO 8601 UTC in seconds, so that sorting the texts sorts the times."""

from datetime import datetime, timezone

LAST_SECOND = 9_999_999_999  # in the year 2286: later times in milliseconds do not fit the 13 digits of an `order`


def unix_seconds(moment: str | None, otherwise: int = 0) -> int:
    """Unix seconds of a time in ISO 8601; `otherwise` if there is none."""
    return int(datetime.fromisoformat(moment).timestamp()) if moment else otherwise


def utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
