"""The parameters of requests. What is wrong with one is told in a sentence that quotes nothing of it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from api.cursor import MOST_CHARACTERS
from shared.caller import found_by, normalise
from shared.errors import ProblemError
from shared.keys import is_id
from shared.texts import needles
from shared.times import utc

MOST_AGENTS = 20
MOST_WORDS = 200  # characters
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(rf"{_DAY.pattern}(T\d\d:\d\d:\d\d(\.\d{{1,9}})?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}")
_MOST_FIELDS = 50
# Control characters, those that change the direction of other text, and halves of characters.
_CONTROL = re.compile(r"[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError("must be an id: letters, digits, _ and -, at most 128")
    return text


def read_number(text: str) -> str:
    """A phone number, with + if it was given so. Raises ValueError."""
    number = normalise(_plain(text)) if len(text) <= 40 else None
    if number is None:
        raise ValueError("must be a phone number with 7 to 15 digits, with or without +")
    return number


def _whole(given: str | int) -> int:
    if not _WHOLE.fullmatch(str(given)):
        raise ValueError("must be a whole number")
    return int(given)


def _words(text: str) -> str:
    if len(text) > MOST_WORDS:
        raise ValueError(f"must have at most {MOST_WORDS} characters")
    return _plain(text)


def _searched(text: str) -> str:
    needles(_plain(text))
    return text


def _cursor(text: str) -> str:
    if len(text) > MOST_CHARACTERS or not text.isascii():
        raise ValueError("is not a cursor of this API")
    return text


def _moment(at_the_end: bool) -> Callable[[str], str]:
    """A time as `utc` writes it. Without an offset it is UTC; a day is its first second, or its last."""

    def read(text: str) -> str:
        try:
            moment = datetime.fromisoformat(text if _TIME.fullmatch(text) else "")
        except ValueError:
            raise ValueError("must be a time in ISO 8601, such as 2026-11-22 or 2026-11-22T10:00:00Z") from None
        if not 1970 < moment.year < 9999:
            raise ValueError("must be a time of the years 1971 to 9998")
        if at_the_end and _DAY.fullmatch(text):
            moment += timedelta(days=1, seconds=-1)
        return utc(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))

    return read


Id = Annotated[str, AfterValidator(_id)]
Number = Annotated[str, AfterValidator(read_number), AfterValidator(found_by)]
Whole = Annotated[int, BeforeValidator(_whole)]
Cursor = Annotated[str, AfterValidator(_cursor)]
Limit = Annotated[Whole, Field(ge=1, le=200)]
MOST_HITS = 50  # of a page


class Query(BaseModel):
    """A request without parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SpanQuery(Query):
    """Both times are included. A day as `to` is included as a whole."""

    since: Annotated[str, AfterValidator(_moment(at_the_end=False))] | None = Field(None, alias="from")
    until: Annotated[str, AfterValidator(_moment(at_the_end=True))] | None = Field(None, alias="to")
    agent: Annotated[tuple[Id, ...], Field(max_length=MOST_AGENTS)] = ()
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _check_span(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError("from must not be after to")
        return self

    def filters(self) -> dict[str, Any]:
        """What makes the list: the place in it and the size of its pages do not."""
        return self.model_dump(exclude={"cursor", "limit"})


class CallsQuery(SpanQuery):
    caller: Number | None = None
    min_seconds: Whole | None = None
    max_seconds: Whole | None = None
    outcome: Literal["success", "failure", "unknown"] | None = None
    audio: Literal["archived", "pending", "unavailable", "none"] | None = None
    text: Annotated[str, AfterValidator(_words)] | None = None
    limit: Limit = 50

    @model_validator(mode="after")
    def _check_seconds(self) -> Self:
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds > self.max_seconds:
            raise ValueError("min_seconds must not be larger than max_seconds")
        return self


class SearchQuery(SpanQuery):
    q: Annotated[str, AfterValidator(_searched)]
    role: Literal["user", "agent"] | None = None
    limit: Annotated[Whole, Field(ge=1, le=MOST_HITS)] = 20


class CallerQuery(Query):
    limit: Limit = 50
    cursor: Cursor | None = None


class AddressQuery(Query):
    download: Literal["0", "1"] = "0"


Kind = TypeVar("Kind", bound=Query)


def read_query(kind: type[Kind], raw: str) -> Kind:
    """The parameters in a raw query string. Raises ProblemError with 400."""
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ProblemError(
            400, "The query cannot be read: it must be percent-encoded UTF-8, and not too long."
        ) from None
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name == "agent":
            given.setdefault(name, []).append(value)
        elif name in given:
            raise ProblemError(400, "A parameter is given more than once.", _named(name))
        else:
            given[name] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _explain(kind, error) from None


def _explain(kind: type[Query], error: ValidationError) -> ProblemError:
    first = error.errors(include_url=False, include_input=False)[0]
    name = _named(str(first["loc"][0])) if first["loc"] else None
    text, limits = "", first.get("ctx", {})
    match first["type"]:
        case "value_error":
            text = str(limits["error"])
        case "extra_forbidden":
            return ProblemError(400, "This request has no such parameter.", name)
        case "literal_error":
            text = f"must be one of {limits['expected']}".replace("'", "")
        case "greater_than_equal" | "less_than_equal":
            text = f"must be between 1 and {MOST_HITS if kind is SearchQuery else 200}"
        case "missing":
            text = "is missing: the words to look for"
        case "too_long":
            text = f"can be given at most {MOST_AGENTS} times"
        case _:
            text = "is not valid"
    return ProblemError(400, f"{name} {text}." if name else f"{text}.".capitalize(), name)


def _named(name: str) -> str | None:
    """A parameter's name for an answer; None for a text that cannot be one."""
    return name if is_id(name) and len(name) <= 40 else None
