"""What the API sends: JSON, or problem details (RFC 9457)."""

import json
import re
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response

from shared.errors import ProblemError

# Lambda answers with 6 MB at most, and writes the body into a JSON text, which escapes each quote and backslash.
MOST_BYTES = 5_000_000
_HALVES = re.compile("[\ud800-\udfff]")  # half an emoji: JSON allows it, UTF-8 does not
_HEADERS: dict[str, str | list[str]] = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def reply(content: Any, status: int = 200) -> Response[str]:
    """Raises ProblemError if the content is larger than Lambda can answer."""
    return reply_json(to_json(content), status)


def reply_json(text: str, status: int = 200) -> Response[str]:
    """Like `reply`, with content that is JSON already."""
    if size_of(text) > MOST_BYTES:
        raise too_large()
    return Response(status, "application/json", text, _HEADERS)


def problem(error: ProblemError) -> Response[str]:
    content = {
        "type": "about:blank", "title": HTTPStatus(error.status).phrase, "status": error.status, "detail": error.detail,
    } | ({"parameter": error.parameter} if error.parameter else {})  # fmt: skip
    more: dict[str, str | list[str]] = {"Allow": "GET"} if error.status == 405 else {}
    more = {"Retry-After": "5"} if error.status == 503 else more
    return Response(error.status, "application/problem+json", to_json(content), _HEADERS | more)


class ColdError(ProblemError):
    """A file is in a storage class of S3 from which it must first be restored."""

    def __init__(self) -> None:
        super().__init__(409, "The file is in cold storage. Restore it in S3 first; this takes hours.")


def too_large() -> ProblemError:
    return ProblemError(
        413, "The call is too large for this answer. With the scope numbers:read, /calls/{id}/json leads to all of it."
    )


def to_json(content: Any) -> str:
    """Raises ValueError for numbers that JSON does not have."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _HALVES.sub("\ufffd", text)


def size_of(text: str) -> int:
    """The bytes that a text takes in Lambda's answer."""
    return len(text.encode()) + text.count('"') + text.count("\\")
