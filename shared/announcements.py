"""Reads announcements, for the functions that subscribe to CallArchivedTopic."""

from pydantic import TypeAdapter, ValidationError

from shared.errors import PoisonError
from shared.keys import is_id, is_source
from shared.messages import Announcement

_ANNOUNCEMENT = TypeAdapter(Announcement)


def read_announcement(body: str) -> Announcement:
    """Raises PoisonError unless `body` is an announcement of version 2, with an id and a source_key of our form."""
    try:
        announcement = _ANNOUNCEMENT.validate_json(body)
    except ValidationError:
        raise _invalid() from None
    if not is_id(announcement.conversation_id) or not is_source(announcement.source_key):
        raise _invalid()
    return announcement


def _invalid() -> PoisonError:
    return PoisonError("announcement", "The message is not an announcement of version 2.")
