"""The memory writer's handler called as SQS would."""

from collections.abc import Callable
from typing import Any

import pytest

from memory_writer.handler import lambda_handler
from tests.conftest import sqs_event


@pytest.fixture
def remember(context: Any) -> Callable[..., list[str]]:
    """Hand announcements to the memory writer in one batch; returns those that failed, as `message-1`."""

    def run(*bodies: str) -> list[str]:
        response = lambda_handler(sqs_event(*bodies), context)
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    return run
