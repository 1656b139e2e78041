"""How we write a time: ISO 8601 UTC to the second, so that texts sort as times do."""

from datetime import datetime, timezone


def utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
