"""Canary: sends a test call on a schedule, so that a broken pipeline is noticed before a real call is affected.

A failed run is counted, and logged with its failed step. The next run is the retry.
"""

from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from canary.canary import Canary, CanaryError, agent_of
from shared.aws import Aws
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings

_CONFIG = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class Settings:
    """`memory_queue_url` is empty if the stack writes no memories."""

    post_call_url: str
    webhook_secret_arn: str
    bucket_name: str
    conversation_table_name: str
    memory_queue_url: str
    canary_step_seconds: int
    agent_ids: str
    minimum_call_seconds: int
    keep_audio: bool


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


def canary() -> Canary:
    """A canary with the current signing secret."""
    return Canary(
        settings().post_call_url, aws().read_secret(settings().webhook_secret_arn),
        aws().bucket, aws().records, aws().sqs, settings().memory_queue_url, settings().canary_step_seconds,
        agent_of(settings().agent_ids), max(1, settings().minimum_call_seconds), settings().keep_audio,
    )  # fmt: skip


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(_event: dict[str, Any], _context: LambdaContext) -> dict[str, float]:
    steps: dict[str, float] = {}
    try:
        for step in canary().run():
            steps[step.name] = step.seconds
            with single_metric(name="CanarySeconds", unit=MetricUnit.Seconds, value=step.seconds) as metric:
                metric.add_dimension(name="step", value=step.name)
    except CanaryError as error:
        metrics.add_metric("CanaryPassed", MetricUnit.Count, 0)
        count("CanaryFailed", reason=error.step)
        logger.error("The canary failed", step=error.step, error=str(error), steps=steps)
        return steps
    count("CanaryPassed")
    logger.info("The canary passed", steps=steps)
    return steps
