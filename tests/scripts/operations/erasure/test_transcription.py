"""What Amazon Transcribe heard is erased with the call, also while it is still listening."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Stack, sqs_event
from tests.scripts.operations.conftest import CALLER
from tests.transcriber.conftest import Amazon, amazon_transcribe, archive
from transcriber.handler import lambda_handler

pytestmark = [  # the tool ends without closing its connections
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def amazon(stack: Stack) -> Iterator[Amazon]:
    with amazon_transcribe(stack) as there:
        yield there


def begin(stack: Stack, amazon: Amazon, context: Any) -> str:
    """A call of the caller whose recording is given to Amazon Transcribe; returns the job's name."""
    announced = archive(stack)
    stack.dynamodb.update_item(
        TableName=stack.outputs["ConversationTableName"],
        Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
        UpdateExpression="SET caller = :digits, listed_at = :at",
        ExpressionAttributeValues={":digits": {"S": CALLER[1:]}, ":at": {"S": "2026-11-22T10:00:00Z"}},
    )
    assert lambda_handler(sqs_event(announced), context) == {"batchItemFailures": []}
    (name,) = amazon.jobs
    return name


@pytest.mark.parametrize("words", [(CALLER,), ("--conversation", "conv_1")], ids=["caller", "call"])
def test_the_words_of_a_recording_are_erased_with_the_call(stack, amazon, erase, context, words):
    lambda_handler(sqs_event(amazon.complete(begin(stack, amazon, context))), context)
    assert "12025550123/conv_1.vtt" in stack.object_keys()

    code, certificate = erase(*words)

    assert (code, certificate["complete"]) == (0, True)
    assert stack.versions() == set()
    assert stack.call("conv_1").keys() == {"conversation_id", "item", "erased_at"}


def test_a_job_that_has_ended_is_erased_with_its_working_files(stack, amazon, erase, context):
    amazon.complete(begin(stack, amazon, context))

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"]) == (0, True)
    assert stack.versions() == set()
    assert amazon.jobs == []


def test_an_erasure_is_not_complete_while_a_job_is_running_and_the_next_one_ends_it(stack, amazon, erase, context):
    name = begin(stack, amazon, context)
    amazon.request(name).status = "IN_PROGRESS"

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"]) == (1, False)
    (still,) = [each for each in certificate["remains"] if each["what"] == "conv_1"]
    assert "Amazon Transcribe" in still["why"]
    assert stack.versions() == set()
    lambda_handler(sqs_event(amazon.complete(name)), context)
    assert stack.versions() == set()
    assert amazon.jobs == []
    assert erase(CALLER)[0] == 0
    assert stack.call("conv_1").keys() == {"conversation_id", "item", "erased_at"}


def test_a_job_that_ended_between_two_erasures_is_deleted_by_the_second(stack, amazon, erase, context):
    name = begin(stack, amazon, context)
    amazon.request(name).status = "IN_PROGRESS"
    erase(CALLER)
    amazon.complete(name)

    code, _ = erase(CALLER)

    assert code == 0
    assert stack.versions() == set()
    assert amazon.jobs == []
