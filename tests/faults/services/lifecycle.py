"""S3's lifecycle rules for staged bodies, as the template has them."""

from collections.abc import Callable
from itertools import pairwise
from math import ceil

from tests.faults.services.objects import Objects, ObjectVersion

DAY = 86400
NONCURRENT_DAYS = 30  # of the template's rule old-versions-of-staged-bodies-go
PREFIX, TAG = "staging/", ("archived", "true")


def expire(objects: Objects, days: int, now: float, mark_deleted: Callable[[str], object]) -> None:
    """Delete archived bodies after `days`, replaced and deleted versions after 30 days, then markers that are alone.

    A deletion by a rule is a delete marker, too. What a rule does counts from the next midnight in UTC.
    """
    for key in list(objects.keys(PREFIX)):
        versions = objects.versions[key]
        latest = versions[-1]
        if latest.body is not None and TAG in (latest.tags or {}).items() and _is_over(latest.created_at, days, now):
            mark_deleted(key)
        for version, successor in list(pairwise(versions)):
            if _is_over(successor.created_at, NONCURRENT_DAYS, now):
                objects.remove(version)
        if _is_marker_alone(versions):
            objects.remove(versions[0])


def _is_over(since: float, days: int, now: float) -> bool:
    return ceil((since + days * DAY) / DAY) * DAY <= now


def _is_marker_alone(versions: list[ObjectVersion]) -> bool:
    return len(versions) == 1 and versions[0].body is None
