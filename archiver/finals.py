"""Writes the final objects of a call, and the log lines that docs/operate.md lists for operators."""

import os
from io import BytesIO
from typing import BinaryIO, Literal

from shared import keys
from shared.bucket import Bucket, PutOutcome
from shared.call import Call
from shared.errors import StorageError
from shared.observability import logger, mask_key
from shared.webhooks import WebhookEvent

Kind = Literal["JSON", "MP3"]


class Finals:
    """Conditional writes of final objects: the newest version wins. Every method raises StorageError."""

    def __init__(self, bucket: Bucket, *, gzip_json: bool) -> None:
        self._bucket, self._gzip_json = bucket, gzip_json

    def put(self, kind: Kind, call: Call, event: WebhookEvent, body: BinaryIO, order: str, *, force: bool) -> None:
        """Write the call's JSON or MP3. A retry that finds its object already written logs success too."""
        make_key = keys.call_json if kind == "JSON" else keys.call_mp3
        key = make_key(str(call.folder), call.conversation_id)
        size = f" ({body.seek(0, os.SEEK_END)} bytes)" if kind == "MP3" else ""
        logger.info(f"Saving {kind} to S3: s3://{self._bucket.name}/{mask_key(key)}{size}")
        outcome = self._write(kind, key, body, describe(event, call, order), force)
        saved = f"Successfully saved {kind} for conversation {call.conversation_id}"
        logger.info("A newer object is there" if outcome == "stale" else saved)

    def put_event(self, key: str, body: bytes, event: WebhookEvent, call: Call, order: str, *, force: bool) -> None:
        """Write another event under its own key."""
        self._write("JSON", key, BytesIO(body), describe(event, call, order), force)

    def _write(self, kind: Kind, key: str, body: BinaryIO, metadata: dict[str, str], force: bool) -> PutOutcome:
        content_type, compress = ("application/json", self._gzip_json) if kind == "JSON" else ("audio/mpeg", False)
        try:
            return self._bucket.put_newest(key, body, content_type, metadata, force=force, compress=compress)
        except StorageError as error:
            logger.error(f"Error saving to S3: {error}")
            raise


def describe(event: WebhookEvent, call: Call, order: str) -> dict[str, str]:
    """Object metadata from checked values only. All are ASCII, because S3 accepts nothing else."""
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
