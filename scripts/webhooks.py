"""Sends webhooks as ElevenLabs does."""

import time

import httpx

from shared.signature import sign


def send(url: str, secret: str, body: bytes, timestamp: int | None = None) -> httpx.Response:
    """POST `body` signed with `secret`, now or as of `timestamp` in unix seconds."""
    moment = str(int(time.time()) if timestamp is None else timestamp)
    headers = {
        "Content-Type": "application/json",
        "ElevenLabs-Signature": f"t={moment},v0={sign(body, moment, secret)}",
    }
    return httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)
