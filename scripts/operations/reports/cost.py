"""An estimate of what the calls of a month cost at AWS, with its derivation.

The prices and requests are those of the dashboard: us-east-1, without free tier. How long Lambda works on a call is an
assumption.
"""

from collections.abc import Sequence
from typing import Any

from scripts.operations.reports.month import Facts

GB, MILLION = 1 << 30, 1_000_000
METERED = 512 * 1024  # bytes that count as one request of an HTTP API
MP3 = 16_000  # bytes of a second of recording: 128 kbit/s
BASE64 = 4 / 3  # in which a webhook carries the recording
LARGEST = 6_000_000  # bytes that a webhook can carry; longer recordings are fetched
GB_SECONDS = 1.0  # of Lambda for a call without memories: ingest, archiver, and their starts
MEMORY_GB_SECONDS = 10.0  # for each of its memories: the function waits until Mem0 has it
INVOCATIONS = 4  # two webhooks, each received and archived
# How many requests a call needs, and the price of a million.
PER_CALL = {
    "S3, PUT": (6, 5.0), "S3, GET": (4, 0.4), "SQS": (15, 0.4), "SNS": (2, 0.5), "DynamoDB, write units": (24, 0.625),
    "DynamoDB, read units": (2, 0.125),
}  # fmt: skip
NOTE = (
    "An estimate for the calls of this month, at prices of us-east-1 without free tier: please verify them. The time "
    "of Lambda is an assumption. Recordings count 16,000 bytes a second. Not included: CloudWatch, secrets, readers, "
    "storage of earlier months, Mem0 and ElevenLabs. The stack's dashboard estimates from what AWS counted."
)


def aws_cost(calls: Sequence[Facts]) -> dict[str, Any]:
    """The amounts in US dollars, and what they are made of: how much of what, at which price."""
    recorded = [(each.seconds or 0) * MP3 for each in calls if each.audio == "archived"]
    requests = sum(-(-each.bytes // METERED) or 1 for each in calls)
    requests += sum(int(-(-size * BASE64 // METERED)) or 1 for size in recorded if size * BASE64 <= LARGEST)
    memories = sum(state is not None for each in calls for state in each.memories)
    stored = (sum(each.bytes for each in calls) + sum(recorded)) / GB
    items = [
        item("HTTP API", requests, "requests of 512 KB", 1.0, MILLION),
        item("Lambda, invocations", INVOCATIONS * len(calls) + memories, "invocations", 0.2, MILLION),
        item("Lambda, time", GB_SECONDS * len(calls) + MEMORY_GB_SECONDS * memories, "GB-seconds", 13.3334, MILLION),
        *(item(name, times * len(calls), "requests", price, MILLION) for name, (times, price) in PER_CALL.items()),
        item("S3, storage for a month", stored, "GB", 0.023),
    ]
    return {"total": round(sum(each["amount"] for each in items), 2), "currency": "USD", "items": items, "note": NOTE}


def item(what: str, quantity: float, unit: str, price: float, per: int = 1) -> dict[str, Any]:
    return {"what": what, "quantity": round(quantity, 3), "unit": unit, "price": price, "per": per,
            "amount": round(quantity * price / per, 6)}  # fmt: skip
