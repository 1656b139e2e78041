"""Cursors: where the next page begins. They are not signed: a forged one is only another place in the same list."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ProblemError

MOST_CHARACTERS = 400
_ID = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{0,128}$")]
_QUERY = Annotated[str, Field(pattern="^[0-9a-f-]{36}$")]


class Position(NamedTuple):
    """A place in a list: after the call with this id, at this time. With the id "": after all calls of this time."""

    listed_at: str
    conversation_id: str


class Cursor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    v: Literal[1] = 1
    filters: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] = "0" * 16


class CallsCursor(Cursor):
    at: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    id: _ID


class TurnsCursor(Cursor):
    """After this turn of a search. `step` is how far it has widened, `query` a query of Athena that still ran."""

    at: Annotated[int, Field(ge=0, le=9_999_999_999)]
    id: _ID = ""
    turn: Annotated[int, Field(ge=-1, le=9_999_999)] = -1
    step: Annotated[int, Field(ge=0, le=9)] = 0
    query: _QUERY | None = None


class SumsCursor(Cursor):
    query: _QUERY


Kind = TypeVar("Kind", bound=Cursor)


def write(cursor: Cursor, filters: dict[str, Any]) -> str:
    """The text of a cursor for a list with these filters."""
    bound = cursor.model_copy(update={"filters": _hash(filters)})
    return urlsafe_b64encode(bound.model_dump_json().encode()).decode().rstrip("=")


def read(kind: type[Kind], text: str | None, filters: dict[str, Any]) -> Kind | None:
    """Raises ProblemError unless `write` could have made the text for the same filters."""
    if text is None:
        return None
    try:
        cursor = kind.model_validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise ProblemError(400, "This is not a cursor of this API.", "cursor") from None
    if write(cursor, filters) != text:
        raise ProblemError(400, "The cursor is from a list with other filters. Leave it out to begin anew.", "cursor")
    return cursor


def write_cursor(position: Position | None, filters: dict[str, Any]) -> str | None:
    """The cursor of the page of calls after `position`; None if there is none."""
    return write(CallsCursor(at=position.listed_at, id=position.conversation_id), filters) if position else None


def read_cursor(text: str | None, filters: dict[str, Any]) -> Position | None:
    cursor = read(CallsCursor, text, filters)
    return Position(cursor.at, cursor.id) if cursor else None


def _hash(filters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(filters, sort_keys=True).encode()).hexdigest()[:16]
