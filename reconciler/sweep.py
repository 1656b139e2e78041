"""The sweep: staged bodies that nobody finished get their claim check again, once.

Whoever crashes between S3 and SQS strands a body; what is parked, or failed for good, carries no tag either, and is
handled once more without harm. Each is noted before, so that an erasure can look at it. The bookmark is the last key
that was looked at. Keys sort by hour, so that a missed run is caught up, and a poison message does not come back for
ever.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from reconciler.bookmarks import Bookmarks
from reconciler.staging import Staging
from shared.bucket import Bucket
from shared.keys import STAGING
from shared.unnamed import Unnamed

_AT_ONCE = 10  # tags asked for at the same time


def sweep(
    bucket: Bucket, staging: Staging, bookmarks: Bookmarks, unnamed: Unnamed, now: datetime,
    has_time: Callable[[], bool],
) -> int:  # fmt: skip
    """Sweep up to the hour before last, which no delivery writes into any more; returns how many were handed on."""
    end = f"{STAGING}/{now - timedelta(hours=1):%Y/%m/%d/%H}/"
    handed_on = 0
    for page in bucket.pages(f"{STAGING}/", after=bookmarks.read("swept") or ""):
        due = list(takewhile(lambda item: item["Key"] < end, page))
        untagged = [item for item in _untagged(bucket, due) if unnamed.note_unless_dropped(item[0])]
        handed_on += staging.hand_on(untagged)
        if due:
            bookmarks.write("swept", due[-1]["Key"])
        if len(due) < len(page) or not has_time():
            break
    return handed_on


def _untagged(bucket: Bucket, items: list[dict[str, Any]]) -> list[tuple[str, datetime]]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        archived = pool.map(bucket.is_archived, [item["Key"] for item in items])
        return [(item["Key"], item["LastModified"]) for item, done in zip(items, archived, strict=True) if not done]
