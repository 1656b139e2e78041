"""What ingest or the reconciler staged, opened: a webhook's body, or a recording as ElevenLabs' API gave it."""

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
from shared.record import Records
from shared.webhooks import AUDIO, WebhookEvent, read_event


@dataclass(frozen=True)
class Staged:
    """`body` is JSON, and empty for a recording, which is read from its file piece by piece: it may be 100 MB."""

    body: bytes
    recording: BinaryIO | None
    metadata: dict[str, str]

    @property
    def origin(self) -> str:
        """`webhook`, or `api` for what the reconciler fetched."""
        return self.metadata.get("origin", "webhook")

    @property
    def length(self) -> int | None:
        """Of a recording, in bytes."""
        return self.recording.seek(0, os.SEEK_END) if self.recording else None

    def event(self) -> WebhookEvent:
        """The one event in it. A recording reads as the audio event that it stands for. Raises PoisonError."""
        if self.recording is None:
            return read_event(self.body)
        return WebhookEvent(AUDIO, b"{}", None, self.metadata.get("conversation_id"), self.metadata.get("agent_id"))

    def audio(self, event: WebhookEvent) -> BinaryIO | None:
        """The MP3 that an audio event brings, or None if it brings none that can be read."""
        return self.recording or decode_audio(event.full_audio)


@contextmanager
def open_staged(bucket: Bucket, key: str) -> Iterator[Staged | None]:
    """The staged object under `key`, or None if it is gone. Raises StorageError."""
    if not keys.is_recording(key):
        read = bucket.read(key)
        yield Staged(read[0], None, read[1]) if read else None
        return
    with tempfile.TemporaryFile() as file:
        metadata = bucket.download(key, file)
        yield None if metadata is None else Staged(b"", file, metadata)


def discard(bucket: Bucket, records: Records, staged_key: str) -> None:
    """Delete for good a staged body that is not to be kept. What is locked expires with the finished ones."""
    records.note_discarded(str(keys.staged_delivery_id(staged_key)), datetime.now(timezone.utc))
    for version in bucket.versions(staged_key):
        if not bucket.delete_for_good(version):
            logger.warning("A staged body that is not to be kept may not be deleted yet", staged_key=staged_key)
            bucket.tag_archived(staged_key)


def decode_audio(full_audio: bytes) -> BinaryIO | None:
    """The MP3 in a part that is a base64 text, or None if it is no such text."""
    try:
        decoded = msgspec.json.decode(full_audio, type=bytes)
    except msgspec.MsgspecError:
        return None
    return BytesIO(decoded) if decoded else None
