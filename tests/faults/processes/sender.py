"""Sends webhooks as ElevenLabs does: a transcript again until it is answered with 2xx, audio once."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from threading import Lock, Semaphore
from typing import Self

import httpx

from shared.signature import signed_headers
from tests.faults.processes.calls import Delivery, Kind

THREADS = 32  # most wait: for the moment to send again
AT_ONCE = 6
ANSWER_SECONDS = 15
AGAIN = (0.5, 2, 8, 30)  # ElevenLabs waits 30 s, 2, 8 and 30 min: a sixtieth of that
RETRYABLE = (408, 429)  # and 5xx, and no answer at all
Body = tuple[str, Kind]  # conversation_id and kind


class Sender:
    """Posts in threads while the `with` block lasts. `answers` counts them by status; 0 is none at all."""

    def __init__(self, outputs: Mapping[str, str]) -> None:
        self._url, self._secret = outputs["PostCallUrl"], outputs["WebhookSecret"]
        self.acknowledged: set[Body] = set()
        self.answers: Counter[int] = Counter()
        self.seconds: list[float] = []  # of each 200, in order
        self._lock, self._places = Lock(), Semaphore(AT_ONCE)

    def __enter__(self) -> Self:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        self._client = httpx.Client(timeout=ANSWER_SECONDS, trust_env=False, limits=limits)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, deliveries: Sequence[Delivery], until: float = inf) -> int:
        """Send each at its time, and wait until all are answered or given up; returns how many were sent.

        What is not begun at `until`, on the monotonic clock, is not sent.
        """
        begun = time.monotonic()
        with ThreadPoolExecutor(THREADS) as threads:
            futures = []
            for each in deliveries:
                time.sleep(max(0, begun + each.at - time.monotonic()))
                futures.append(threads.submit(self._deliver, each, until))
        return sum(future.result() for future in futures)

    def _deliver(self, delivery: Delivery, until: float) -> bool:
        body = delivery.call.body(delivery.kind)
        for pause in (0, *AGAIN):
            time.sleep(pause)
            status = self._post(body, until)
            if status is None:
                return pause > 0
            if 200 <= status < 300:
                self.acknowledged.add((delivery.call.conversation_id, delivery.kind))
            is_sent_again = status == 0 or status >= 500 or status in RETRYABLE
            if delivery.kind == "mp3" or not is_sent_again:
                break
        return True

    def _post(self, body: bytes, until: float) -> int | None:
        """The answer's status; 0 if there is no answer, None if it is too late to send."""
        with self._places:
            begun = time.monotonic()
            if begun > until:
                return None
            headers = signed_headers(body, self._secret, str(int(time.time())), is_test=False)
            try:
                status = self._client.post(self._url, content=body, headers=headers).status_code
            except httpx.HTTPError:
                status = 0
            taken = time.monotonic() - begun
        with self._lock:
            self.answers[status] += 1
            if status == 200:
                self.seconds.append(taken)
        return status
