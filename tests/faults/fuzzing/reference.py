"""A second reader of webhook bodies, written with `json` alone: what must become of a body."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CALL, AUDIO = "post_call_transcription", "post_call_audio"
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NUMBER = re.compile(r"\+([0-9]{7,15})")


@dataclass(frozen=True)
class Reading:
    """What a body holds. `is_poison` is None if this reader cannot tell, for example with odd base64."""

    is_poison: bool | None
    type: str = ""
    conversation_id: str | None = None
    data: Any = None

    @property
    def audio(self) -> bytes | None:
        return decode(self.data.get("full_audio")) if isinstance(self.data, dict) else None

    @property
    def folder(self) -> str | None:
        """The caller's folder, if the most reliable place has a plain number."""
        place = self.data
        for name in ("metadata", "phone_call", "external_number"):
            place = place.get(name) if isinstance(place, dict) else None
        found = _NUMBER.fullmatch(place) if isinstance(place, str) else None
        return found[1] if found and not found[1].startswith(("266", "737", "862", "256", "865")) else None


POISON = Reading(True)


def parse(text: bytes) -> Any:
    """The value of a JSON text, every number with every digit. Raises ValueError, or RecursionError."""
    number = ("number",)
    return json.loads(
        text.decode(), parse_int=lambda digits: (*number, digits), parse_float=lambda digits: (*number, digits),
        parse_constant=_refuse,
    )  # fmt: skip


def read(body: bytes, *, is_element: bool) -> Reading:
    """The reading of a body with one event, or of an array: that is poison or not as a whole, and has no type."""
    try:
        value = parse(body.removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        return Reading(None)
    except ValueError:
        return POISON
    if isinstance(value, list):
        return Reading(is_element or not 1 <= len(value) <= 1000)
    return _read_event(value) if isinstance(value, dict) else POISON


def decode(audio: Any) -> bytes | None:
    """The bytes of plain base64; None if it is not, or may not be."""
    try:
        decoded = base64.b64decode(audio, validate=True) if isinstance(audio, str) else b""
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded and base64.b64encode(decoded).decode() == audio else None


def texts(body: bytes) -> Iterator[str]:
    """Texts and long numbers in a body, also if it is no JSON."""
    text = body[:20_000].decode(errors="replace")
    for each in re.findall(r'"([^"\\]{8,})"', text)[:200]:
        yield each[:60]
        digits = re.sub(r"[^0-9]", "", each)
        if 7 <= len(digits) <= 15:
            yield digits
    yield from re.findall(r"[0-9]{7,15}", text)[:200]


def is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _read_event(value: dict[str, Any]) -> Reading:
    if "type" not in value and "conversation_id" in value:
        has_call = any(name in value for name in ("transcript", "metadata", "analysis", "status"))
        has_audio = value.get("full_audio") not in (None, "")
        return _judge(AUDIO if has_audio and not has_call else CALL, value)
    data = value.get("data")
    if not is_id(value.get("type")) or (value["type"] in (CALL, AUDIO) and not isinstance(data, dict)):
        return POISON
    return _judge(value["type"], data if isinstance(data, dict) else {})


def _judge(kind: str, data: dict[str, Any]) -> Reading:
    conversation_id, audio = data.get("conversation_id"), data.get("full_audio")
    if conversation_id is None and kind in (CALL, AUDIO):
        return POISON
    if conversation_id is not None and not is_id(conversation_id):
        return POISON
    unsure = kind == AUDIO and audio and isinstance(audio, str) and decode(audio) is None
    is_poison = kind == AUDIO and (not audio or not isinstance(audio, str))
    return Reading(None if unsure else is_poison, kind, conversation_id, data)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
