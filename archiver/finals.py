"""The final objects of a call, and the log lines that operators know."""

import os
from io import BytesIO
from typing import BinaryIO

from shared import keys
from shared.bucket import Bucket, Outcome
from shared.errors import StorageError
from shared.observability import logger, mask_key
from shared.record import Call
from shared.webhooks import WebhookEvent


class Finals:
    """Writes JSON and MP3 where they belong; the newest wins. Raises StorageError."""

    def __init__(self, bucket: Bucket, *, gzip_json: bool) -> None:
        self._bucket, self._gzip_json = bucket, gzip_json

    def put_json(self, call: Call, body: bytes, event: WebhookEvent, order: str, *, force: bool) -> None:
        """The call as ElevenLabs told it, byte for byte."""
        key = keys.call_json(str(call.folder), call.conversation_id)
        logger.info(f"Saving JSON to S3: s3://{self._bucket.name}/{mask_key(key)}")
        outcome = self._put(key, BytesIO(body), "application/json", describe(event, call, order), force)
        _say(outcome, f"Successfully saved JSON for conversation {call.conversation_id}")

    def put_mp3(self, call: Call, event: WebhookEvent, audio: BinaryIO, order: str, *, force: bool) -> None:
        key = keys.call_mp3(str(call.folder), call.conversation_id)
        size = audio.seek(0, os.SEEK_END)
        logger.info(f"Saving MP3 to S3: s3://{self._bucket.name}/{mask_key(key)} ({size} bytes)")
        outcome = self._put(key, audio, "audio/mpeg", describe(event, call, order), force)
        _say(outcome, f"Successfully saved MP3 for conversation {call.conversation_id}")

    def put_event(self, key: str, body: bytes, event: WebhookEvent, call: Call, order: str, *, force: bool) -> None:
        """Whatever else ElevenLabs said, kept under a key of its own."""
        self._put(key, BytesIO(body), "application/json", describe(event, call, order), force)

    def _put(self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str], force: bool) -> Outcome:
        try:
            compress = self._gzip_json and content_type == "application/json"
            return self._bucket.put_newest(key, body, content_type, metadata, force=force, compress=compress)
        except StorageError as error:
            logger.error(f"Error saving to S3: {error}")
            raise


def _say(outcome: Outcome, success: str) -> None:
    """The retry of a put that was made already is a success too."""
    logger.info("A newer object is there" if outcome == "stale" else success)


def describe(event: WebhookEvent, call: Call, order: str) -> dict[str, str]:
    """Object metadata: ASCII, for S3 takes nothing else, and only what was checked."""
    values = {
        "external_number": call.external_number,
        "conversation_id": event.conversation_id,
        "agent_id": event.agent_id,
        "timestamp": call.started_at,
        "event": event.type,
        "event_timestamp": event.event_timestamp,
        "delivery_id": order.rsplit("-", maxsplit=1)[-1],
        "order": order,
    }
    return {name: value for name, value in values.items() if value is not None}
