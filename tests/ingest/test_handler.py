"""A signed webhook is staged, and every other request is refused."""

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

import ingest.handler
from ingest.handler import lambda_handler
from tests.conftest import SECRET
from tests.ingest.conftest import BODY, DELIVERY_ID, assert_nothing_was_stored, claim_checks, http_event, signed
from tests.processes import LONGEST


def test_a_signed_webhook_is_staged_and_its_claim_check_sent_before_the_200(aws, context):
    response = lambda_handler(signed(), context)

    assert response["statusCode"] == 200
    assert json.loads(response["body"]) == {"status": "ok", "delivery_id": DELIVERY_ID}
    (key,) = aws.object_keys("staging/")
    hour = datetime.now(timezone.utc)
    assert key in {f"staging/{hour - timedelta(hours=h):%Y/%m/%d/%H}/{DELIVERY_ID}.json" for h in (0, 1)}
    assert aws.body(key) == BODY
    assert aws.head(key)["Metadata"] == {"origin": "webhook"}
    (check,) = claim_checks(aws)
    received_at = check.pop("received_at")
    assert datetime.fromisoformat(received_at) <= datetime.now(timezone.utc)
    assert check == {
        "version": 1, "delivery_id": DELIVERY_ID, "staged_key": key, "source": "webhook", "force": False,
    }  # fmt: skip


@pytest.mark.parametrize("body", [BODY, b"\xff\xfe\x00", b"not json", b'{"emoji": "\xf0\x9f\x99\x82"}'])
def test_a_base64_body_is_stored_byte_for_byte(aws, context, body):
    response = lambda_handler(signed(body, encode=True), context)

    assert response["statusCode"] == 200
    (key,) = aws.object_keys("staging/")
    assert aws.body(key) == body


def test_a_repeated_delivery_is_staged_once_and_queued_twice(aws, context):
    answers = [lambda_handler(signed(), context) for _ in range(2)]

    assert [answer["statusCode"] for answer in answers] == [200, 200]
    (key,) = aws.object_keys("staging/")
    versions = aws.s3.list_object_versions(Bucket=aws.bucket, Prefix="staging/")["Versions"]
    assert len(versions) == 1
    assert [check["staged_key"] for check in claim_checks(aws)] == [key, key]


def test_exactly_one_put_and_one_send_are_made_for_a_webhook(aws, context):
    lambda_handler(signed(), context)
    calls: list[str] = []
    for client in (ingest.handler.aws().s3, ingest.handler.aws().sqs):
        client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))

    lambda_handler(signed(b'{"another": "call"}'), context)

    assert calls == ["PutObject", "SendMessage"]


def test_a_put_that_conflicts_with_another_is_repeated(aws, context):
    lambda_handler(signed(b"warm"), context)
    remaining = iter(range(1))

    def conflict(**_: object) -> None:
        if next(remaining, None) is not None:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject")

    ingest.handler.aws().s3.meta.events.register("before-call.s3.PutObject", conflict)

    assert lambda_handler(signed(), context)["statusCode"] == 200


@pytest.mark.parametrize(
    "make_event",  # made when the test runs, because signatures expire
    [
        pytest.param(lambda: signed(secret="wsec_forged"), id="forged"),
        pytest.param(lambda: signed(late=3605), id="expired"),
        pytest.param(lambda: signed(late=-310), id="future-dated"),
        pytest.param(lambda: http_event(BODY, "v0=abc"), id="malformed"),
        pytest.param(lambda: http_event(BODY, "t=1772550280,v0=é🙂"), id="not ASCII"),
        pytest.param(lambda: http_event(BODY, ""), id="empty"),
        pytest.param(lambda: http_event(BODY), id="missing"),
        pytest.param(lambda: {"body": BODY.decode(), "isBase64Encoded": False}, id="no headers at all"),
    ],
)
def test_invalid_signatures_get_one_uniform_401_and_nothing_is_stored(aws, context, make_event):
    response = lambda_handler(make_event(), context)

    assert response["statusCode"] == 401
    assert json.loads(response["body"]) == {"error": "The signature is missing, wrong or out of date."}
    assert_nothing_was_stored(aws)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        pytest.param(signed(b""), "The body is empty.", id="empty"),
        pytest.param(signed(b"") | {"body": None}, "The body is empty.", id="none"),
        pytest.param({"headers": {}}, "The body is empty.", id="no body at all"),
        pytest.param(signed() | {"isBase64Encoded": True}, "The body could not be decoded.", id="not base64"),
        pytest.param(signed() | {"body": "\ud800"}, "The body could not be decoded.", id="no text either"),
    ],
)
def test_invalid_bodies_get_a_400_that_names_the_fault(aws, context, event, error):
    response = lambda_handler(event, context)

    assert response["statusCode"] == 400
    assert json.loads(response["body"]) == {"error": error}
    assert_nothing_was_stored(aws)


def test_logs_hold_no_secret_no_signature_and_nothing_of_the_body(aws, context, logs):
    for event in (signed(), signed(secret="wsec_forged"), http_event(BODY), signed(b"")):
        lambda_handler(event, context)

    logged = logs.getvalue()
    assert "Webhook staged" in logged
    for private in (SECRET, "v0=", "12025550123", "mooring"):
        assert private not in logged


def test_each_refusal_is_counted_under_its_reason(aws, context, capsys):
    lambda_handler(signed(late=3605), context)

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(each["SignatureRejected"], each.get("reason")) for each in metrics] == [([1.0], "expired"), ([1.0], None)]


def test_ingest_imports_neither_pydantic_nor_an_event_handler_framework():
    code = "import ingest.handler, sys; print(*sys.modules)"

    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONGEST
    ).stdout.split()

    heavy = ("pydantic", "mem0", "msgspec", "httpx", "aws_lambda_powertools.event_handler",
             "aws_lambda_powertools.utilities.batch", "aws_lambda_powertools.utilities.parser")  # fmt: skip
    assert [name for name in modules if name.startswith(heavy)] == []


def test_the_signature_header_may_have_any_case(aws, context):
    event = signed()
    event["headers"] = {name.title(): value for name, value in event["headers"].items()}

    assert lambda_handler(event, context)["statusCode"] == 200
