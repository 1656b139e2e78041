"""JSON in parts: only the requested fields become objects; everything else stays as the received bytes.

This keeps every digit and every blank, and 6 MB of `[{},{},…]` need no more than 6 MB of memory. A part is a JSON value
as bytes; it is empty if the value is absent.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import msgspec

MOST_ELEMENTS = 1000  # of an array body
_BOM = b"\xef\xbb\xbf"
# JSON allows half an emoji (`\ud83d` without its second half), but msgspec refuses it. While we read, it is replaced by
# U+F8FF and its four digits. U+F8FF itself is replaced in the same way (with 0000 if it is not escaped), so that
# `restore` can tell them apart.
_MARK = "\uf8ff"
_GUARD, _ITSELF = rb"\uf8ff", b"0000"
_SUSPECT = re.compile(rb"\\u(?:[dD][89a-fA-F]|[fF]8[fF][fF])|\xef\xa3\xbf")
_ESCAPE = re.compile(
    rb"(?:[^\\\xef]|\\[^u])++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{2}|[fF]8[fF][fF])|(?P<letter>\xef\xa3\xbf)|.",
    re.DOTALL,
)
_GUARDED = re.compile(rb"(?:[^\\]|\\[^u])++|\\uf8ff(?P<guarded>[0-9a-fA-F]{4})|.", re.DOTALL)
_MARKED = re.compile(f"{_MARK}([0-9a-fA-F]{{4}})")
_SCALAR = msgspec.json.Decoder(int | float | str | bool | None)

Json = bytes | msgspec.Raw


class Part(msgspec.Struct, gc=False):
    """The fields of an object that we read, each as a part."""


Kind = TypeVar("Kind", bound=Part)
MISSING = msgspec.Raw()
_Elements = msgspec.defstruct(
    "_Elements", [(f"e{number}", msgspec.Raw, MISSING) for number in range(MOST_ELEMENTS + 1)], array_like=True
)


def read_json(body: bytes) -> bytes:
    """The JSON in a body as one part. Raises ValueError if it is not JSON or has more than msgspec's 10,000 levels."""
    text = body.removeprefix(_BOM)
    text.decode()  # msgspec does not check the text of values that stay bytes
    if _SUSPECT.search(text):
        text = _edit(text, _ESCAPE, _guard)
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text.strip()


def is_array(body: bytes) -> bool:
    """Whether a body can be an array, judged by its first character alone."""
    return body.removeprefix(_BOM).lstrip()[:1] == b"["


def kind_of(part: Json) -> str:
    """The first character of a part, which shows an object, an array or a text; empty for an absent part."""
    return bytes(memoryview(part)[:1]).decode()


def restore(part: Json) -> bytes:
    """A part as it was received, for writing."""
    part = bytes(part)
    return _edit(part, _GUARDED, _unguard) if _GUARD in part else part


def fields(kind: type[Kind], part: Json) -> Kind:
    """The object in a part; an object without fields if the part is something else."""
    try:
        return msgspec.json.decode(part, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return kind()


def objects(kind: type[Kind], part: Json) -> Iterator[Kind]:
    """The objects in an array, without its scalars. If one element is an array, there are none after it."""
    if not part:
        return
    with suppress(msgspec.MsgspecError, RecursionError):
        yield from (each for each in _decoder(kind).decode(part) if isinstance(each, kind))


def members(part: Json) -> Iterator[tuple[str, msgspec.Raw]]:
    """The names and parts of an object. If a name occurs twice, the last one counts."""
    if not part:
        return
    with suppress(msgspec.MsgspecError, RecursionError):
        for name, member in msgspec.json.decode(part, type=dict[str, msgspec.Raw]).items():
            yield _unguard_text(name), member


def without(name: str, part: Json) -> bytes:
    """An object without the named member. The other values keep their bytes; blanks between them are lost."""
    left = msgspec.json.decode(part, type=dict[str, msgspec.Raw])
    left.pop(name, None)
    return _written(left)


def elements(part: Json) -> list[bytes] | None:
    """The elements of an array, at most one more than MOST_ELEMENTS; None if it is not an array."""
    if kind_of(part) != "[":
        return None
    found = msgspec.structs.astuple(msgspec.json.decode(part, type=_Elements))
    return [bytes(each) for each in found if len(each)]


def scalar(part: Json) -> Any:
    """A text, number or bool; None for null, numbers that Python cannot hold, objects and arrays."""
    if not part:
        return None
    try:
        found = _SCALAR.decode(part)
    except msgspec.MsgspecError:
        return None
    return _unguard_text(found) if isinstance(found, str) else found


def text(part: Json) -> str | None:
    found = scalar(part)
    return found if isinstance(found, str) else None


def number(part: Json) -> float | None:
    """A number, also if it is written as a text."""
    found = scalar(part)
    try:
        return None if isinstance(found, bool) or found is None else float(found)
    except (ValueError, OverflowError):
        return None


def _edit(text: bytes, pattern: re.Pattern[bytes], edit: Callable[[re.Match[bytes]], bytes]) -> bytes:
    """The text, edited wherever a group of the pattern matches. `re.sub` would need 400 MB for 6 MB of escapes."""
    edited, end = bytearray(), 0
    for found in pattern.finditer(text):
        if found.lastgroup:
            edited += text[end : found.start()] + edit(found)
            end = found.end()
    return bytes(edited + text[end:])


def _guard(found: re.Match[bytes]) -> bytes:
    return _GUARD + (found["half"] or _ITSELF)


def _unguard(found: re.Match[bytes]) -> bytes:
    return _MARK.encode() if found["guarded"] == _ITSELF else b"\\u" + found["guarded"]


def _unguard_text(text: str) -> str:
    return _MARKED.sub(lambda found: chr(int(found[1], 16) or ord(_MARK)), text) if _MARK in text else text


def _written(value: Any) -> bytes:
    """The value as JSON. Decoded names contain guards, which become escapes again; a part has no other U+F8FF."""
    return msgspec.json.encode(value).replace(_MARK.encode(), _GUARD)


@cache
def _decoder(kind: type[Kind]) -> msgspec.json.Decoder[list[Any]]:
    return msgspec.json.Decoder(list[kind | int | float | str | bool | None])  # type: ignore[valid-type]
