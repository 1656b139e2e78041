"""Indexer: write what was said in announced calls into files under text/, which Athena searches.

The queue hands over a batch of announcements every few minutes, so that there are few files (`indexer.batch`). Once an
hour the small files of each day are merged (`indexer.merge`).

All of text/ can be made again from the archive (`ops reindex --text`). A message that is delivered twice, or whose
attempt ended between two steps, leaves rows twice; those who read count each version of a call once, and only its
newest version, which the record names.

A record that raises is retried, and then moved to the DLQ. A poison message (not an announcement, its object is gone)
goes to the DLQ at once (`shared.batch`).
"""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from indexer.batch import AT_ONCE, Batch
from indexer.merge import Merger
from shared.aws import Aws
from shared.batch import process_batch
from shared.observability import logger, metrics
from shared.settings import at_start, read_settings

# If a service of AWS does not answer, the attempt fails after 2 x 12 s and a pause, well within the 45 s that are kept
# to write files.
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=2 * AT_ONCE,
)


@dataclass(frozen=True)
class Settings:
    bucket_name: str
    conversation_table_name: str
    dlq_url: str
    text_timeout_seconds: int

    @property
    def seconds_to_write(self) -> float:
        """The end of the function's time, in which nothing new begins: 45 s of its 300."""
        return self.text_timeout_seconds * 0.15


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse | None:
    """Handle a batch of SQS; any other event is the schedule's."""

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() / 1000 > settings().seconds_to_write

    if "Records" not in event:
        Merger(aws().bucket, aws().records, has_time).run(datetime.now(timezone.utc))
        return None
    batch = Batch(aws().bucket, aws().records, has_time)
    batch.index(SQSEvent(event).records)
    return process_batch(event, context, batch.report, aws().sqs, settings().dlq_url)
