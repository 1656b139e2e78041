"""The sweep: sends the claim check of each unfinished staged body once more.

A crash between S3 and SQS leaves a body without a claim check. Parked audio and failed bodies have no tag either;
processing them again does no harm. Each body is listed first, so that an erasure can read it. The bookmark is the last
key that the sweep looked at. Keys sort by hour, so a missed run is caught up, and a poison message is sent only once.
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

_AT_ONCE = 10  # concurrent requests for tags


def sweep(
    bucket: Bucket, staging: Staging, bookmarks: Bookmarks, unnamed: Unnamed, now: datetime,
    has_time: Callable[[], bool],
) -> int:  # fmt: skip
    """Sweep up to the hour before last, which gets no more deliveries; returns how many bodies were queued."""
    end = f"{STAGING}/{now - timedelta(hours=1):%Y/%m/%d/%H}/"
    queued = 0
    for page in bucket.pages(f"{STAGING}/", after=bookmarks.read("swept") or ""):
        due = list(takewhile(lambda item: item["Key"] < end, page))
        untagged = [item for item in _untagged(bucket, due) if unnamed.note_unless_dropped(item[0])]
        queued += staging.queue(untagged)
        if due:
            bookmarks.write("swept", due[-1]["Key"])
        if len(due) < len(page) or not has_time():
            break
    return queued


def _untagged(bucket: Bucket, items: list[dict[str, Any]]) -> list[tuple[str, datetime]]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        archived = pool.map(bucket.is_archived, [item["Key"] for item in items])
        return [(item["Key"], item["LastModified"]) for item, done in zip(items, archived, strict=True) if not done]
