"""Sends webhooks like ElevenLabs."""

import time

import httpx

from shared.signature import signed_headers


def send(url: str, secret: str, body: bytes, timestamp: int | None = None, *, is_test: bool = False) -> httpx.Response:
    """POST `body` signed with `secret`, now or as of `timestamp` in unix seconds. `is_test`: ingest counts it apart."""
    headers = signed_headers(body, secret, str(int(time.time()) if timestamp is None else timestamp), is_test=is_test)
    return httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)
