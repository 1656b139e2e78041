"""What must hold for every request to ingest. A rule returns what is wrong, or None."""

import base64
import binascii
import hashlib
import json
import re
import time
from typing import Any

from shared.signature import sign
from tests.conftest import SECRET
from tests.faults.fuzzing.aws import Seen
from tests.faults.fuzzing.inputs import Request


def answers_without_error(given: Request, seen: Seen) -> str | None:
    """Every request gets 200, 400 or 401 while the services work."""
    codes = [answer["statusCode"] for answer in seen.answers]
    return None if codes in ([200], [400], [401]) and not seen.errors else f"answers {codes}, raises {seen.errors}"


def refuses_what_is_not_signed(given: Request, seen: Seen) -> str | None:
    """200 only for a body that the secret signed for a time within the limits."""
    if not _is_accepted(seen):
        return None
    body, now = carried(seen.event), time.time()
    headers = [value for name, value in (seen.event["headers"] or {}).items() if name.lower() == "elevenlabs-signature"]
    for header in headers:
        for t in re.findall(r"[0-9]{1,12}", header):
            if body and -305 <= now - int(t) <= 3605 and sign(body, t, SECRET) in header:
                return None
    return "a body without a valid signature is accepted"


def accepts_what_is_signed(given: Request, seen: Seen) -> str | None:
    """Never 401 or 400 for a body that is signed, and in time."""
    return "a signed body is refused" if given.is_genuine and not _is_accepted(seen) else None


def stages_byte_for_byte(given: Request, seen: Seen) -> str | None:
    """After a 200 the body is staged and queued; after anything else there is nothing."""
    if not _is_accepted(seen):
        return "a refused body leaves something" if seen.objects or seen.messages else None
    body = carried(seen.event) or b""
    checks = [json.loads(message)["staged_key"] for message in seen.messages]
    is_named = all(hashlib.sha256(body).hexdigest() in key for key in checks)
    kept = seen.objects == dict.fromkeys(checks, body) and len(checks) == 1 and is_named
    return None if kept else "the staged object is not the body"


def carried(event: dict[str, Any]) -> bytes | None:
    """The bytes that an event carries; None if it carries none."""
    try:
        text = event.get("body") or ""
        return base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, ValueError):
        return None


def _is_accepted(seen: Seen) -> bool:
    return any(answer.get("statusCode") == 200 for answer in seen.answers)
