"""On paper: 20,000 duplicates at once, against the limit of a standard queue.

A standard queue has about 120,000 messages in flight at most: received, and not yet deleted. A message that succeeds
is in flight while its function runs: as many as run at once (ArchiveConcurrency; a batch is one message), and the few
that Lambda's pollers hold ready. A message that fails stays in flight for the visibility timeout of the queue
(ArchiveVisibilitySeconds, 720 s), and Lambda goes on receiving as fast as before, because of ReportBatchItemFailures.

A message is in flight once, so 20,000 duplicates are 20,000 in flight at most, if all fail: a sixth of the limit. To
reach it, 120,000 messages must wait, and 167 a second must fail for 12 minutes. With the default ArchiveConcurrency
of 2 each would have to fail within 12 ms, which is less than its requests to AWS take; with 50, within 0.3 s, which is
possible if a right is missing. Nothing is lost then either: SQS takes new messages as before and keeps them for 4 days,
and hands out no more until some are deleted or visible again.
"""

from collections.abc import Iterator

from scripts.deploy.parameters import read_constants, read_template
from scripts.embedded.deployment import TEMPLATE

LIMIT = 120_000
DUPLICATES = 20_000
FAILS_IN = 0.1  # seconds until the archiver has failed: a few requests to AWS


def most_in_flight(messages: int, concurrency: int, fails_in: float, visibility: int) -> int:
    """Messages of one queue in flight at most, if each fails so many seconds after it was received."""
    return min(messages, round(concurrency + concurrency / fails_in * visibility))


def visibility_seconds() -> int:
    return int(read_constants(TEMPLATE)["ArchiveVisibilitySeconds"])


def default_concurrency() -> int:
    return int(read_template(TEMPLATE)["ArchiveConcurrency"].default)


def in_flight() -> Iterator[str]:
    for concurrency in (default_concurrency(), 50, 1000):
        most = most_in_flight(DUPLICATES, concurrency, FAILS_IN, visibility_seconds())
        yield (
            f"on paper: {DUPLICATES:,} duplicates, all fail after {FAILS_IN:g} s, ArchiveConcurrency {concurrency}: "
            f"{most:,} in flight, of {LIMIT:,}"
        )
