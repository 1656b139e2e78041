"""JSON in parts: only what is asked for becomes an object, and the rest stays the bytes that came.

So every digit and every blank is kept, and 6 MB of `[{},{},…]` take no memory but their own. A part is a JSON value as
bytes; None stands for one that is not there.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

MOST_ELEMENTS = 1000  # of an array body
_BOM = b"\xef\xbb\xbf"
# msgspec refuses half an emoji (`\ud83d` without its other half), which JSON allows: it is written as the code U+F8FF
# and its four digits meanwhile. So is U+F8FF itself, so that `restore` cannot take it for one.
_SUSPECT = re.compile(rb"\\u(?:[dD][89a-fA-F]|[fF]8[fF][fF])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{2}|[fF]8[fF][fF])|.)",
    re.DOTALL,
)
_GUARDED = re.compile(rb"\\(?:uf8ff(?P<half>[0-9a-fA-F]{4})|.)", re.DOTALL)


Json = bytes | msgspec.Raw


class Part(msgspec.Struct, gc=False):
    """The fields of an object that we look at. Each is a part: `msgspec.Raw`, empty if it is not there."""


Kind = TypeVar("Kind", bound=Part)
MISSING = msgspec.Raw()
_Elements = msgspec.defstruct(
    "_Elements", [(f"e{number}", msgspec.Raw, MISSING) for number in range(MOST_ELEMENTS + 1)], array_like=True
)


def read_json(body: bytes) -> bytes:
    """The JSON in a body as one part. Raises ValueError for what is none, or is nested beyond msgspec's 10,000."""
    text = body.removeprefix(_BOM)
    text.decode()  # msgspec does not look into what it leaves as it is
    if _SUSPECT.search(text):
        text = _ESCAPE.sub(lambda found: b"\\uf8ff" + found["half"] if found["half"] else found[0], text)
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text.strip()


def kind_of(part: Json) -> str:
    """The first character of a part, which tells an object, an array or a text; empty for one that is not there."""
    return bytes(memoryview(part)[:1]).decode()


def restore(part: Json) -> bytes:
    """A part as it came, to be written."""
    part = bytes(part)
    if b"\\uf8ff" not in part:
        return part
    return _GUARDED.sub(lambda found: b"\\u" + found["half"] if found["half"] else found[0], part)


def fields(kind: type[Kind], part: Json) -> Kind:
    """The object in a part; one without any field if it is no object."""
    try:
        return msgspec.json.decode(part, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return kind()


def without(name: str, part: Json) -> bytes:
    """An object without the field of that name."""
    members = msgspec.json.decode(part, type=dict[str, msgspec.Raw])
    members.pop(name, None)
    return msgspec.json.encode(members)


def elements(part: Json) -> list[bytes] | None:
    """The elements of an array, one more than MOST_ELEMENTS at most; None if it is no array."""
    if kind_of(part) != "[":
        return None
    found = msgspec.structs.astuple(msgspec.json.decode(part, type=_Elements))
    return [bytes(each) for each in found if len(each)]


def scalar(part: Json) -> Any:
    """A text, number or bool; None for null, for a number that Python cannot hold, and for objects and arrays."""
    part = restore(part)
    try:
        return None if part[:1] in (b"", b"{", b"[") else json.loads(part)
    except ValueError:
        return None


def text(part: Json) -> str | None:
    found = scalar(part)
    return found if isinstance(found, str) else None


def number(part: Json) -> float | None:
    """A number, also one that is written as a text."""
    found = scalar(part)
    try:
        return None if isinstance(found, bool) or found is None else float(found)
    except (ValueError, OverflowError):
        return None
