"""If AWS does not answer, or something in the code is wrong, a reader learns nothing of the inside."""

import json
from io import StringIO
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

import api.handler
from api.handler import lambda_handler
from tests.api.conftest import Get, call, event, index, stage

SECRETS = ["12025550123", "Traceback", "botocore", "arn:aws:dynamodb", "api/", ".py"]
ERRORS = [
    ClientError({"Error": {"Code": "AccessDeniedException", "Message": "arn:aws:dynamodb of 12025550123"}}, "Query"),
    ClientError({"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "12025550123"}}, "Query"),
    ReadTimeoutError(endpoint_url="https://dynamodb/12025550123"),
]
FAULT = RuntimeError("12025550123 in api/handler.py")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/calls", "dynamodb.Query"), ("/calls", "dynamodb.BatchGetItem"), ("/stats", "s3.ListObjectsV2"),
        ("/stats", "athena.StartQueryExecution"), ("/search?q=hello", "athena.GetQueryExecution"),
        ("/search?q=hello", "dynamodb.BatchGetItem"), ("/search?q=hello", "athena.GetQueryResults"),
        ("/calls/conv_1", "dynamodb.GetItem"), ("/calls/conv_1", "s3.GetObject"),
        ("/calls/conv_1/transcript", "s3.GetObject"), ("/callers/12025550123", "dynamodb.Query"),
    ],
)  # fmt: skip
def test_if_a_service_fails_the_answer_is_503(
    aws, archive, athena, get: Get, logs: StringIO, path, operation, error
) -> None:
    archive(stage(aws, call(transcript=[{"role": "user", "message": "Hello."}])))
    index(aws, athena, "conv_1")
    fail(operation, error)

    answer = get(*path.split("?"))

    assert answer["status"] == 503
    assert not [
        text for text in SECRETS if text in json.dumps(answer) or text in logs.getvalue().split("Call archived")[-1]
    ]


@pytest.mark.parametrize("path", ["/calls", "/calls/conv_1", "/stats"])
def test_a_fault_in_the_code_is_told_by_the_log_alone(
    aws, archive, athena, get: Get, logs: StringIO, path: str
) -> None:
    archive(stage(aws, call(transcript=[{"role": "user", "message": "Hello."}])))
    index(aws, athena, "conv_1")
    fail("athena.StartQueryExecution", FAULT)
    fail("dynamodb.Query", FAULT)
    fail("dynamodb.GetItem", FAULT)

    answer = get(path)

    assert answer["status"] == 500
    assert not [text for text in SECRETS if text in json.dumps(answer)]
    assert "RuntimeError" in logs.getvalue()
    assert "12025550123" not in logs.getvalue()


def test_what_is_unavailable_may_be_asked_for_again(aws, context) -> None:
    fail("dynamodb.Query", ERRORS[0])

    assert lambda_handler(event("/calls"), context)["headers"]["Retry-After"] == "5"


@pytest.mark.parametrize("path", ["/calls", "/calls/x", "/nothing"])
def test_no_answer_is_cached_or_taken_for_something_else(aws, context, path: str) -> None:
    headers = lambda_handler(event(path), context)["headers"]

    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def fail(operation: str, error: Exception) -> None:
    def raise_it(**_: Any) -> None:
        raise error

    aws = api.handler.aws()
    clients = {"s3": [aws.bucket._s3, api.handler.storage()], "dynamodb": [aws.table.meta.client]}
    for client in clients.get(operation.split(".")[0], [api.handler.athena().client]):
        client.meta.events.register_first(f"before-call.{operation}", raise_it)
