"""Stages what was fetched like a webhook's body, and queues it for the archiver."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from io import BytesIO
from typing import Any, BinaryIO, Literal

from shared import keys
from shared.bucket import Bucket
from shared.messages import ClaimCheck
from shared.times import utc
from shared.webhooks import TRANSCRIPTION

_ORIGIN = {"origin": "api"}


class Staging:
    """Writes to S3, and then queues. Both may run again: the key is the same, and the longer recording is kept."""

    def __init__(self, bucket: Bucket, sqs: Any, archive_queue_url: str) -> None:
        self._bucket, self._sqs, self._queue_url = bucket, sqs, archive_queue_url

    def stage_call(self, conversation: bytes, now: datetime) -> None:
        """`conversation` is the API's JSON; it becomes the `data` of a webhook, byte for byte."""
        body = b'{"type":"%s","data":%s}' % (TRANSCRIPTION.encode(), conversation)
        delivery_id = hashlib.sha256(body).hexdigest()
        self._stage(keys.staged(now, delivery_id), BytesIO(body), "application/json", _ORIGIN, now)

    def stage_recording(self, conversation_id: str, agent_id: str | None, audio: BinaryIO, now: datetime) -> None:
        delivery_id = hashlib.sha256(f"audio:{conversation_id}".encode()).hexdigest()
        named = {"conversation_id": conversation_id} | ({"agent_id": agent_id} if agent_id else {})
        self._stage(keys.staged(now, delivery_id, "mp3"), audio, "audio/mpeg", _ORIGIN | named, now)

    def queue(self, staged: Iterable[tuple[str, datetime]]) -> int:
        """Send claim checks for staged objects (key and time of receipt); returns how many."""
        checks = [check for key, received_at in staged if (check := claim_check(key, received_at, "reconciler"))]
        for check in checks:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=check.to_json())
        return len(checks)

    def _stage(self, key: str, body: BinaryIO, content_type: str, metadata: dict[str, str], now: datetime) -> None:
        self._bucket.stage(key, body, content_type, metadata)
        self.queue([(key, now)])


def claim_check(
    staged_key: str, received_at: datetime, source: Literal["reconciler", "replay"], *, force: bool = False
) -> ClaimCheck | None:
    """None if the key is not that of a staged body."""
    delivery_id = keys.staged_delivery_id(staged_key)
    return ClaimCheck(delivery_id, staged_key, utc(received_at), source, force) if delivery_id else None
