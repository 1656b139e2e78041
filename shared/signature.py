"""How a webhook is signed: `ElevenLabs-Signature: t=<unix seconds>,v0=<hex HMAC-SHA256 of "<t>.<raw body>">`.

Test webhooks from the canary and the tools carry a second header and are counted separately. Otherwise they would hide
that ElevenLabs' webhooks have stopped, or are still signed with the previous key.
"""

import hashlib
import hmac

SIGNATURE = "ElevenLabs-Signature"
TEST = "AgenticMemory-Test"


def signed_headers(body: bytes, secret: str, timestamp: str, *, is_test: bool) -> dict[str, str]:
    signature = f"t={timestamp},v0={sign(body, timestamp, secret)}"
    return {"Content-Type": "application/json", SIGNATURE: signature} | ({TEST: "true"} if is_test else {})


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """The lower-case hex of the HMAC-SHA256 over `<timestamp>.<body>`."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
