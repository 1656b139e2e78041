"""Reading an announcement, for whoever subscribes to CallArchivedTopic."""

from pydantic import TypeAdapter, ValidationError

from shared.errors import PoisonError
from shared.messages import Announcement

_ANNOUNCEMENT = TypeAdapter(Announcement)


def read_announcement(body: str) -> Announcement:
    """Raises PoisonError for what is no announcement of ours."""
    try:
        return _ANNOUNCEMENT.validate_json(body)
    except ValidationError:
        raise PoisonError("announcement", "The message is not an announcement of version 2.") from None
