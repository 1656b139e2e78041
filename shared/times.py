"""Times as text: ISO 8601 UTC in seconds, so that sorting the texts sorts the times."""

from datetime import datetime, timezone


def utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
