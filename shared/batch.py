"""Partial batch responses: a failed record does not fail its batch, and a poison message goes to the DLQ at once."""

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
    """Call `handle` for each record. If it raises, SQS retries the record; a PoisonError sends it to the DLQ."""

    def handle_or_reject(record: SQSRecord) -> None:
        logger.remove_keys(["delivery_id", "conversation_id"])  # set for the previous record
        try:
            try:
                handle(record)
            except PoisonError as error:
                send_to_dlq(record.body, error, sqs, dlq_url)
        except Exception:
            count("RecordFailed")
            raise

    # Do not raise if the whole batch failed: SQS gets the same list either way, and the log has the reasons.
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False, logger=cast(Any, logger))
    return process_partial_response(event, handle_or_reject, processor, context)


def send_to_dlq(body: str, error: PoisonError, sqs: Any, dlq_url: str) -> None:
    """Send a message to the DLQ, with the attributes `step` and `error`."""
    sqs.send_message(
        QueueUrl=dlq_url,
        MessageBody=body,
        MessageAttributes=string_attributes({"step": error.step, "error": error.error}),
    )
    count("RecordPoisoned", reason=error.step)
    logger.error("Message sent to the dead-letter queue", step=error.step, error=error.error)


def string_attributes(texts: dict[str, str]) -> dict[str, dict[str, str]]:
    """Message attributes in the form that SQS and SNS take."""
    return {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
