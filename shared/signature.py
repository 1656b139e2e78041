"""How a webhook is signed: `ElevenLabs-Signature: t=<unix seconds>,v0=<hex HMAC-SHA256 of "<t>.<raw body>">`."""

import hashlib
import hmac


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """The lower-case hex of the HMAC-SHA256 over `<timestamp>.<body>`."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
