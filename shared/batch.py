"""Partial batch responses: one record's trouble is its own, and what no retry can heal goes to the DLQ at once."""

from collections.abc import Callable
from typing import Any, cast

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.errors import PoisonError
from shared.observability import count, logger


def process_batch(
    event: dict[str, Any], context: LambdaContext, handle: Callable[[SQSRecord], None], sqs: Any, dlq_url: str
) -> PartialItemFailureResponse:
    """Call `handle` for each record. What raises is retried; a PoisonError is set aside and acknowledged."""

    def handle_or_set_aside(record: SQSRecord) -> None:
        logger.remove_keys(["delivery_id", "conversation_id"])  # of the record before
        try:
            try:
                handle(record)
            except PoisonError as error:
                set_aside(record, error, sqs, dlq_url)
        except Exception:
            count("RecordFailed")
            raise

    # Not raising for a batch that failed whole: SQS gets the same list either way, and the reasons are in the log.
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False, logger=cast(Any, logger))
    return process_partial_response(event, handle_or_set_aside, processor, context)


def set_aside(record: SQSRecord, error: PoisonError, sqs: Any, dlq_url: str) -> None:
    """Send the message to its DLQ with the attributes `step` and `error`."""
    sqs.send_message(
        QueueUrl=dlq_url,
        MessageBody=record.body,
        MessageAttributes=string_attributes({"step": error.step, "error": error.error}),
    )
    count("RecordPoisoned", reason=error.step)
    logger.error("Message set aside in the dead-letter queue", step=error.step, error=error.error)


def string_attributes(texts: dict[str, str]) -> dict[str, dict[str, str]]:
    """The attributes of a message, as SQS and SNS take them."""
    return {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
