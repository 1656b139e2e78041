"""Splits an array body into bodies of one event, so that each fails, is tagged and is erased by itself."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

from archiver.staged import Staged
from shared import keys
from shared.bucket import Bucket
from shared.errors import PoisonError, RetryError
from shared.messages import ClaimCheck
from shared.unnamed import Unnamed

_AT_ONCE = 10  # concurrent puts to S3
_BATCH = 10  # messages in one request: SQS's maximum


class Splitter:
    """Stages all elements, and then queues them. Both may run again: the same element gets the same key."""

    def __init__(self, bucket: Bucket, unnamed: Unnamed, sqs: Any, archive_queue_url: str) -> None:
        self._bucket, self._unnamed, self._sqs, self._queue_url = bucket, unnamed, sqs, archive_queue_url

    def split(self, elements: list[bytes], staged: Staged, check: ClaimCheck, now: datetime) -> None:
        """Stage each element in its array's folder and queue its claim check. Raises PoisonError for a nested array.

        If the array's hour is over, the sweep may have passed it and would not list an unfinished element there. So
        the element is listed here.
        """
        if "part_of" in staged.metadata:
            raise PoisonError("webhook", "The body is an array inside an array.")
        is_late = keys.staged(now, check.delivery_id) != check.staged_key
        metadata = {"origin": staged.origin, "part_of": check.delivery_id}

        def stage(element: bytes) -> ClaimCheck:
            delivery_id = hashlib.sha256(element).hexdigest()
            key = keys.sibling(check.staged_key, delivery_id)
            if is_late:
                self._unnamed.note(key)
            self._bucket.stage(key, BytesIO(element), "application/json", metadata)
            return replace(check, delivery_id=delivery_id, staged_key=key)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            checks = list(pool.map(stage, dict.fromkeys(elements)))
        for start in range(0, len(checks), _BATCH):
            self._send(checks[start : start + _BATCH])

    def _send(self, checks: list[ClaimCheck]) -> None:
        entries = [{"Id": str(number), "MessageBody": check.to_json()} for number, check in enumerate(checks)]
        if self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries).get("Failed"):
            raise RetryError("SQS did not accept all claim checks of an array")
