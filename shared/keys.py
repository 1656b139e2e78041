"""S3 keys: all names in the bucket are made here, from checked parts only."""

import re
from datetime import datetime
from typing import Literal, TypeGuard

NO_PHONE = "no-phone"
STAGING = "staging"
TRANSCRIBE = "transcribe"  # where Amazon Transcribe writes; the results are copied from there into the call's folder
TEST_CALLS = "canary_"  # how the ids of the canary's calls begin

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CALL = re.compile(rf"(?:[0-9]{{7,15}}|{NO_PHONE})/{_ID.pattern}\.json")
_STAGED = re.compile(r"staging/\d{4}/\d\d/\d\d/\d\d/([0-9a-f]{64})\.(?:json|mp3)", re.ASCII)


def is_id(text: object) -> TypeGuard[str]:
    """Whether `text` may be part of a key: an id or event name of ElevenLabs, never a path."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def staged_delivery_id(key: str) -> str | None:
    """The delivery_id in a key made by `staged`; None for other keys."""
    match = _STAGED.fullmatch(key)
    return match[1] if match else None


def is_source(key: str) -> bool:
    """Whether `key` may hold an announced call: its final JSON, or a staged body."""
    return _CALL.fullmatch(key) is not None or (staged_delivery_id(key) is not None and not is_recording(key))


def staged(received_at: datetime, delivery_id: str, extension: Literal["json", "mp3"] = "json") -> str:
    """The key of a raw body, by the UTC hour of its receipt: a repeat within the hour gets the same key.

    Fetched audio is stored as an MP3, not as a webhook's body.
    """
    return f"{STAGING}/{received_at:%Y/%m/%d/%H}/{delivery_id}.{extension}"


def sibling(staged_key: str, delivery_id: str) -> str:
    """The key of another body in the same hour's folder: an array and its elements are stored together."""
    return f"{staged_key.rpartition('/')[0]}/{delivery_id}.json"


def is_recording(staged_key: str) -> bool:
    """Whether the staged object is audio and not JSON."""
    return staged_key.endswith(".mp3")


def call_json(folder: str, conversation_id: str) -> str:
    """The call: the webhook's `data`."""
    return f"{folder}/{conversation_id}.json"


def call_mp3(folder: str, conversation_id: str) -> str:
    """The call's recording."""
    return f"{folder}/{conversation_id}.mp3"


def call_transcription(folder: str, conversation_id: str) -> str:
    """The words of the recording: the result of Amazon Transcribe, as it came."""
    return f"{folder}/{conversation_id}.transcribe.json"


def call_subtitles(folder: str, conversation_id: str) -> str:
    """The same words as subtitles (WebVTT)."""
    return f"{folder}/{conversation_id}.vtt"


def transcribing(conversation_id: str, attempt: str = "") -> str:
    """The folder in which Amazon Transcribe works on a call; it is deleted when the job is done."""
    return f"{TRANSCRIBE}/{conversation_id}/{attempt}/" if attempt else f"{TRANSCRIBE}/{conversation_id}/"


def event_json(folder: str, conversation_id: str, event: str) -> str:
    """Another event about the call."""
    return f"{folder}/{conversation_id}.{event}.json"


def other_event(event: str, delivery_id: str) -> str:
    """An event that names no conversation."""
    return f"other-events/{event}/{delivery_id}.json"
