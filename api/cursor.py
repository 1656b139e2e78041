"""Cursors: where the next page begins. They are not signed: a forged one is only another place in the same list."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ProblemError

MOST_CHARACTERS = 400


class Position(NamedTuple):
    """A place in a list: after the call with this id, at this time. With the id "": after all calls of this time."""

    listed_at: str
    conversation_id: str


class _Cursor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    v: Literal[1]
    filters: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    at: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{0,128}$")]


def write_cursor(position: Position | None, filters: dict[str, Any]) -> str | None:
    """The cursor of the page after `position`; None if there is none."""
    if position is None:
        return None
    cursor = _Cursor(v=1, filters=_hash(filters), at=position.listed_at, id=position.conversation_id)
    return urlsafe_b64encode(cursor.model_dump_json().encode()).decode().rstrip("=")


def read_cursor(text: str | None, filters: dict[str, Any]) -> Position | None:
    """Raises ProblemError unless `write_cursor` could have made the cursor for the same filters."""
    if text is None:
        return None
    try:
        cursor = _Cursor.model_validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise ProblemError(400, "This is not a cursor of this API.", "cursor") from None
    position = Position(cursor.at, cursor.id)
    if write_cursor(position, filters) != text:
        raise ProblemError(400, "The cursor is from a list with other filters. Leave it out to begin anew.", "cursor")
    return position


def _hash(filters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(filters, sort_keys=True).encode()).hexdigest()[:16]
