"""S3 keys: every name in the bucket is made here, and nothing gets into one that was not checked."""

import re
from datetime import datetime
from typing import Literal, TypeGuard

NO_PHONE = "no-phone"
STAGING = "staging"

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_STAGED = re.compile(r"staging/\d{4}/\d\d/\d\d/\d\d/([0-9a-f]{64})\.(?:json|mp3)", re.ASCII)


def is_id(text: object) -> TypeGuard[str]:
    """Whether `text` may stand in a key: ids and event names of ElevenLabs, never a path."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def staged_delivery_id(key: str) -> str | None:
    """The delivery_id in a key that `staged` makes, None for other keys."""
    match = _STAGED.fullmatch(key)
    return match[1] if match else None


def staged(received_at: datetime, delivery_id: str, extension: Literal["json", "mp3"] = "json") -> str:
    """The raw body, in the UTC hour of its receipt, so that a repeat within the hour finds itself there already.

    Audio that was fetched is no webhook's body: it lies there as it is.
    """
    return f"{STAGING}/{received_at:%Y/%m/%d/%H}/{delivery_id}.{extension}"


def beside(staged_key: str, delivery_id: str) -> str:
    """Another body in the same hour's folder: an element of the array under that key, or the array of an element."""
    return f"{staged_key.rpartition('/')[0]}/{delivery_id}.json"


def is_recording(staged_key: str) -> bool:
    """Whether the staged object is audio, not JSON."""
    return staged_key.endswith(".mp3")


def call_json(folder: str, conversation_id: str) -> str:
    """The call: the webhook's `data`."""
    return f"{folder}/{conversation_id}.json"


def call_mp3(folder: str, conversation_id: str) -> str:
    """The call's recording."""
    return f"{folder}/{conversation_id}.mp3"


def event_json(folder: str, conversation_id: str, event: str) -> str:
    """Another event about the call."""
    return f"{folder}/{conversation_id}.{event}.json"


def other_event(event: str, delivery_id: str) -> str:
    """An event that names no conversation."""
    return f"other-events/{event}/{delivery_id}.json"
