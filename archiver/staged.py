"""Reads what ingest or the reconciler staged: a webhook's body, or a recording from ElevenLabs' API."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from typing import BinaryIO

import msgspec

from shared import keys
from shared.bucket import Bucket
from shared.observability import logger
from shared.parts import Json
from shared.record import Records
from shared.webhooks import AUDIO, WebhookEvent, read_event


@dataclass(frozen=True)
class Staged:
    """`body` is JSON. For a recording it is empty; the recording is a file, because it may have 100 MB."""

    body: bytes
    recording: BinaryIO | None
    metadata: dict[str, str]

    @property
    def origin(self) -> str:
        """`webhook`, or `api` if the reconciler fetched it."""
        return self.metadata.get("origin", "webhook")

    @property
    def length(self) -> int | None:
        """A recording's length in bytes."""
        return self.recording.seek(0, os.SEEK_END) if self.recording else None

    def event(self) -> WebhookEvent:
        """The event in it; for a recording, an audio event. Raises PoisonError."""
        if self.recording is None:
            return read_event(self.body)
        return WebhookEvent(AUDIO, b"{}", None, self.metadata.get("conversation_id"), self.metadata.get("agent_id"))

    def audio(self, event: WebhookEvent) -> BinaryIO | None:
        """The MP3 of an audio event, or None if it has none or it is not base64."""
        return self.recording or decode_audio(event.full_audio)


@contextmanager
def open_staged(bucket: Bucket, key: str) -> Iterator[Staged | None]:
    """The staged object under `key`, or None if it no longer exists. Raises StorageError."""
    if not keys.is_recording(key):
        read = bucket.read(key)
        yield Staged(read[0], None, read[1]) if read else None
        return
    with tempfile.TemporaryFile() as file:
        metadata = bucket.download(key, file)
        yield None if metadata is None else Staged(b"", file, metadata)


def discard(bucket: Bucket, records: Records, staged_key: str) -> None:
    """Delete a staged body permanently. If it is locked, it is tagged, and expires like an archived one."""
    records.note_discarded(str(keys.staged_delivery_id(staged_key)), datetime.now(timezone.utc))
    for version in bucket.versions(staged_key):
        if not bucket.delete_for_good(version):
            logger.warning(
                "A staged body could not be deleted yet: it is locked, or a policy forbids it", staged_key=staged_key
            )
            bucket.tag_archived(staged_key)


def decode_audio(full_audio: Json) -> BinaryIO | None:
    """The MP3 in a base64 text, or None if the part is not one."""
    try:
        decoded = msgspec.json.decode(full_audio, type=bytes)
    except msgspec.MsgspecError:
        return None
    return BytesIO(decoded) if decoded else None
