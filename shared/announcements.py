"""Reads announcements, for the functions that subscribe to CallArchivedTopic."""

from pydantic import TypeAdapter, ValidationError

from shared.errors import PoisonError
from shared.messages import Announcement

_ANNOUNCEMENT = TypeAdapter(Announcement)


def read_announcement(body: str) -> Announcement:
    """Raises PoisonError unless `body` is an announcement of version 2."""
    try:
        return _ANNOUNCEMENT.validate_json(body)
    except ValidationError:
        raise PoisonError("announcement", "The message is not an announcement of version 2.") from None
