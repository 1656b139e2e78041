"""Ingest through its handler: what is durable before the 200, and what every other answer leaves behind."""

import base64
import hashlib
import json
import math
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import count
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

import ingest.handler
from ingest.handler import lambda_handler, receive
from shared.errors import SignatureError, UnavailableError
from shared.signature import sign
from tests.conftest import SECRET, fixture_body
from tests.processes import LONGEST

BODY = fixture_body("02")
DELIVERY_ID = hashlib.sha256(BODY).hexdigest()


def http_event(body: bytes | str | None, header: str | None = None, *, encode: bool = False) -> dict:
    """A request as an HTTP API hands it on, payload format 2.0."""
    text = body.decode() if isinstance(body, bytes) and not encode else body
    headers = {"content-type": "application/json"} | ({"elevenlabs-signature": header} if header is not None else {})
    return {
        "version": "2.0", "routeKey": "POST /post-call", "rawPath": "/post-call", "headers": headers,
        "body": base64.b64encode(body).decode() if encode else text, "isBase64Encoded": encode,
    }  # fmt: skip


def signed(body: bytes = BODY, secret: str = SECRET, late: int = 0, **options) -> dict:
    timestamp = str(int(datetime.now(timezone.utc).timestamp()) - late)
    return http_event(body, f"t={timestamp},v0={sign(body, timestamp, secret)}", **options)


def claim_checks(aws) -> list[dict]:
    return [json.loads(message["Body"]) for message in aws.take("ArchiveQueueUrl")]


def assert_nothing_was_stored(aws) -> None:
    assert aws.object_keys("staging/") == set()
    assert claim_checks(aws) == []


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
def test_a_base64_body_is_kept_byte_for_byte_whatever_it_holds(aws, context, body):
    response = lambda_handler(signed(body, encode=True), context)

    assert response["statusCode"] == 200
    (key,) = aws.object_keys("staging/")
    assert aws.body(key) == body


def test_the_same_delivery_is_staged_once_and_handed_on_twice(aws, context):
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


def test_a_put_that_meets_another_at_the_same_moment_looks_again(aws, context):
    lambda_handler(signed(b"warm"), context)
    remaining = iter(range(1))

    def conflict(**_: object) -> None:
        if next(remaining, None) is not None:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject")

    ingest.handler.aws().s3.meta.events.register("before-call.s3.PutObject", conflict)

    assert lambda_handler(signed(), context)["statusCode"] == 200


@pytest.mark.parametrize(
    "make_event",  # made when the test runs: some of them age
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
def test_doubtful_signatures_get_one_uniform_401_and_nothing_is_stored(aws, context, make_event):
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
def test_bodies_that_cannot_be_kept_get_a_400_that_names_the_fault(aws, context, event, error):
    response = lambda_handler(event, context)

    assert response["statusCode"] == 400
    assert json.loads(response["body"]) == {"error": error}
    assert_nothing_was_stored(aws)


def delete_secret(aws) -> None:
    arn = aws.outputs["WebhookSecretArn"]
    boto3.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def delete_bucket(aws) -> None:
    aws.s3.delete_bucket(Bucket=aws.bucket)


def delete_queue(aws) -> None:
    aws.sqs.delete_queue(QueueUrl=aws.outputs["ArchiveQueueUrl"])


@pytest.mark.parametrize("breakage", [delete_secret, delete_bucket, delete_queue])
def test_a_service_out_of_reach_is_a_503(aws, context, breakage):
    breakage(aws)

    response = lambda_handler(signed(), context)

    assert response["statusCode"] == 503
    assert json.loads(response["body"]) == {"error": "The webhook could not be stored now. Please send it again."}


def test_an_unreadable_secret_is_never_a_401_not_even_for_forgeries(aws, context):
    delete_secret(aws)

    assert lambda_handler(signed(secret="wsec_forged"), context)["statusCode"] == 503
    assert_nothing_was_stored(aws)


@pytest.mark.parametrize("value", [" ", "\n"])
def test_an_empty_secret_is_a_503_for_whoever_signs_with_nothing(aws, context, value):
    put_secret(aws, value)

    response = lambda_handler(signed(secret=""), context)

    assert response["statusCode"] == 503
    assert_nothing_was_stored(aws)


def put_secret(aws, value: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=aws.outputs["WebhookSecretArn"], SecretString=value)


def receive_after(seconds: int, secret: str = SECRET) -> str:
    """The delivery_id; take in a webhook that is signed, and comes, that many seconds from now."""
    return receive(signed(secret=secret, late=-seconds), datetime.now(timezone.utc) + timedelta(seconds=seconds))[0]


def test_old_and_new_secret_sign_during_the_overlap_of_a_rotation(aws):
    receive_after(0)
    put_secret(aws, "wsec_new")

    assert receive_after(11, "wsec_new") == DELIVERY_ID
    assert receive_after(12) == DELIVERY_ID


@pytest.mark.parametrize(
    ("secret", "name", "counted"),
    [
        pytest.param(SECRET, "previous", {"WebhookStaged": [1.0], "SignedWithPrevious": [1.0]}, id="previous"),
        pytest.param("wsec_new", "current", {"WebhookStaged": [1.0]}, id="current"),
    ],
)
def test_the_key_that_signed_is_counted_and_logged_by_its_name(aws, context, logs, capsys, secret, name, counted):
    put_secret(aws, "wsec_new")

    assert lambda_handler(signed(secret=secret), context)["statusCode"] == 200

    (metrics,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert {key: value for key, value in metrics.items() if isinstance(value, list)} == counted
    (entry,) = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (entry["message"], entry["secret"]) == ("Webhook staged", name)
    assert SECRET not in logs.getvalue()


def test_a_key_that_is_learnt_only_by_reading_again_is_named_too(aws):
    receive_after(0)
    put_secret(aws, "wsec_new")

    found = receive(signed(secret="wsec_new", late=-11), datetime.now(timezone.utc) + timedelta(seconds=11))

    assert found == (DELIVERY_ID, "current")


def test_a_secret_that_was_put_again_signs_as_the_current_one(aws):
    put_secret(aws, SECRET)

    assert receive(signed(), datetime.now(timezone.utc)) == (DELIVERY_ID, "current")


def test_the_old_secret_is_refused_once_the_overlap_is_over(aws, context, monkeypatch):
    monkeypatch.setenv("SECRET_OVERLAP_SECONDS", "0")
    put_secret(aws, "wsec_new")

    assert lambda_handler(signed(), context)["statusCode"] == 401
    assert lambda_handler(signed(secret="wsec_new"), context)["statusCode"] == 200


def test_a_flood_of_forgeries_does_not_read_the_secret_again(aws, context):
    lambda_handler(signed(), context)
    calls: list[str] = []
    ingest.handler.aws().secret.client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))

    for _ in range(5):
        assert lambda_handler(signed(secret="wsec_forged"), context)["statusCode"] == 401

    assert calls == []


def test_a_mismatch_that_cannot_be_checked_against_a_fresh_secret_is_no_401(aws):
    receive_after(0)
    delete_secret(aws)

    for seconds in (11, 12):  # the second time the failure is remembered
        with pytest.raises(UnavailableError):
            receive_after(seconds, "wsec_new")
    assert receive_after(13) == DELIVERY_ID


@pytest.mark.parametrize("seconds", [300, 60])
def test_the_cached_secret_is_read_again_after_the_cache_time(aws, monkeypatch, seconds):
    monkeypatch.setenv("SECRET_CACHE_SECONDS", str(seconds))
    monkeypatch.setenv("SECRET_GRACE_SECONDS", "0")
    receive_after(0)
    delete_secret(aws)

    assert receive_after(seconds - 30) == DELIVERY_ID
    with pytest.raises(UnavailableError):
        receive_after(seconds + 2)


def empty_secret(aws) -> None:
    put_secret(aws, " ")


def deny_secret(aws) -> None:
    fail_readings(ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"))


def silence_secret(aws) -> None:
    fail_readings(ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"))


def fail_readings(error: Exception, times: float = math.inf, stage: str = "*") -> list[str]:
    """Let so many attempts to read the secret fail; returns the stages of all attempts, as a list that grows."""
    attempts: list[str] = []

    def fail(request: Any, **_: object) -> None:
        attempts.append(json.loads(request.body)["VersionStage"])
        if stage in ("*", attempts[-1]) and len(attempts) <= times:
            raise error

    ingest.handler.aws().secret.client.meta.events.register_first("before-send.secrets-manager.GetSecretValue", fail)
    return attempts


@pytest.mark.parametrize("breakage", [delete_secret, empty_secret, deny_secret, silence_secret])
def test_the_last_reading_holds_for_the_grace_when_the_secret_cannot_be_read_again(aws, breakage):
    receive_after(0)
    breakage(aws)

    assert receive_after(310) == DELIVERY_ID
    assert receive_after(300 + 890) == DELIVERY_ID
    with pytest.raises(UnavailableError):
        receive_after(300 + 902)


def test_the_pause_after_a_failed_reading_begins_when_it_has_failed(aws, monkeypatch):
    """Each look at the clock is 3 s later: an attempt on a silent service takes its time."""
    receive_after(0)
    attempts = fail_readings(ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"))
    monkeypatch.setattr("ingest.secret.time", SimpleNamespace(monotonic=count(step=3).__next__))
    receive_after(310)
    asked = len(attempts)

    receive_after(322)
    assert len(attempts) == asked

    receive_after(324)
    assert len(attempts) > asked


def test_the_previous_secret_holds_for_the_grace_too(aws):
    put_secret(aws, "wsec_new")
    receive_after(0)
    delete_secret(aws)

    assert receive_after(310) == receive_after(321, "wsec_new") == DELIVERY_ID


@pytest.mark.parametrize("breakage", [delete_secret, empty_secret, deny_secret])
def test_a_mismatch_with_a_reading_that_could_not_be_renewed_is_no_401(aws, breakage):
    receive_after(0)
    breakage(aws)

    for seconds in (310, 311, 330):
        with pytest.raises(UnavailableError):
            receive_after(seconds, "wsec_new")
    assert receive_after(331) == DELIVERY_ID


def test_while_the_secret_cannot_be_read_one_webhook_in_ten_seconds_tries_it(aws):
    receive_after(0)
    attempts = fail_readings(ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"))

    made = [(receive_after(seconds), len(attempts))[1] for seconds in (310, 311, 319, 322, 330)]

    assert made == [1, 1, 1, 2, 2]


def test_without_any_reading_too_one_webhook_in_ten_seconds_tries_it(aws):
    attempts = fail_readings(
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"), times=1
    )

    for seconds in (0, 5):
        with pytest.raises(UnavailableError):
            receive_after(seconds)
    assert attempts == ["AWSCURRENT"]
    assert receive_after(11) == DELIVERY_ID


def test_a_secret_that_can_be_read_again_is_used_at_once(aws):
    receive_after(0)
    empty_secret(aws)
    receive_after(310)
    put_secret(aws, "wsec_new")

    assert receive_after(321, "wsec_new") == DELIVERY_ID
    with pytest.raises(SignatureError):
        receive_after(322)


def test_a_single_fault_of_secrets_manager_is_tried_again(aws):
    attempts = fail_readings(
        ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"), times=1
    )

    assert receive_after(0) == DELIVERY_ID

    assert attempts == ["AWSCURRENT", "AWSCURRENT", "AWSPREVIOUS"]


def test_a_previous_secret_that_cannot_be_read_fails_the_reading(aws):
    attempts = fail_readings(
        ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"), stage="AWSPREVIOUS"
    )

    with pytest.raises(UnavailableError):
        receive_after(0)

    assert attempts == ["AWSCURRENT", "AWSPREVIOUS", "AWSPREVIOUS"]


def seconds_of_silence(client: Any) -> float:
    """The longest that a call may take: its attempts, and a second between two of them."""
    config = client.meta.config
    attempts = config.retries["total_max_attempts"]
    return attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1)


def test_one_silent_service_leaves_time_to_answer_within_eight_seconds(aws):
    clients = ingest.handler.aws()

    assert seconds_of_silence(clients.s3) < 8
    assert seconds_of_silence(clients.sqs) < 8
    assert seconds_of_silence(clients.secret.client) < 8


def test_a_webhook_taken_with_the_last_reading_is_counted_and_logged_as_such(aws, context, monkeypatch, capsys, logs):
    monkeypatch.setenv("SECRET_CACHE_SECONDS", "-1")  # each webhook reads again
    lambda_handler(signed(), context)
    empty_secret(aws)

    answers = [lambda_handler(signed(), context)["statusCode"] for _ in range(2)]

    assert answers == [200, 200]
    assert counted("SecretRefreshFailed", capsys.readouterr().out) == 1
    warnings = [entry for entry in map(json.loads, logs.getvalue().splitlines()) if entry["level"] == "WARNING"]
    assert [entry["reason"] for entry in warnings] == [
        "Secrets Manager: the secret is empty", "Secrets Manager: the last reading failed a moment ago",
    ]  # fmt: skip
    assert SECRET not in logs.getvalue()


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


def from_address(source: str, event: dict) -> dict:
    return event | {"requestContext": {"http": {"sourceIp": source}}}


def counted(metric: str, output: str) -> int:
    return sum(metric in json.loads(line) for line in output.splitlines() if '"_aws"' in line)


@pytest.mark.parametrize("allowed", ["203.0.113.7", "198.51.100.1,203.0.113.7", "203.0.113.0/24", "203.0.113.9/24"])
@pytest.mark.parametrize("mode", ["off", "metric", "filter"])
def test_a_webhook_from_an_allowed_address_is_taken_in_every_mode(aws, context, monkeypatch, capsys, mode, allowed):
    monkeypatch.setenv("SOURCE_ADDRESSES", mode)
    monkeypatch.setenv("ALLOWED_SOURCES", allowed)

    assert lambda_handler(from_address("203.0.113.7", signed()), context)["statusCode"] == 200
    assert counted("SourceUnknown", capsys.readouterr().out) == 0


@pytest.mark.parametrize("source", ["203.0.113.8", "2001:db8::7", "", "unknown"])
def test_a_webhook_from_elsewhere_is_taken_counted_or_refused(aws, context, monkeypatch, capsys, source):
    outcomes = {}
    for mode in ("off", "metric", "filter"):
        monkeypatch.setenv("SOURCE_ADDRESSES", mode)
        ingest.handler.settings.cache_clear()
        status = lambda_handler(from_address(source, signed()), context)["statusCode"]
        outcomes[mode] = (status, counted("SourceUnknown", capsys.readouterr().out))

    assert outcomes == {"off": (200, 0), "metric": (200, 1), "filter": (401, 0)}


def test_the_filter_stores_nothing_and_tells_an_address_from_a_wrong_signature(aws, context, monkeypatch, logs):
    monkeypatch.setenv("SOURCE_ADDRESSES", "filter")

    lambda_handler(from_address("203.0.113.8", signed()), context)
    lambda_handler(from_address("203.0.113.8", signed(secret="wsec_forged")), context)

    assert [json.loads(line)["reason"] for line in logs.getvalue().splitlines()] == ["source", "mismatch"]
    assert_nothing_was_stored(aws)


def test_a_header_does_not_make_an_address(aws, context, monkeypatch):
    monkeypatch.setenv("SOURCE_ADDRESSES", "filter")
    event = signed()
    event["headers"]["x-forwarded-for"] = "203.0.113.7"

    assert lambda_handler(from_address("203.0.113.8", event), context)["statusCode"] == 401


def test_ingest_imports_neither_pydantic_nor_an_event_handler_framework():
    code = "import ingest.handler, sys; print(*sys.modules)"

    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONGEST
    ).stdout.split()

    heavy = ("pydantic", "mem0", "msgspec", "httpx", "aws_lambda_powertools.event_handler",
             "aws_lambda_powertools.utilities.batch", "aws_lambda_powertools.utilities.parser")  # fmt: skip
    assert [name for name in modules if name.startswith(heavy)] == []


def test_the_signature_is_found_whatever_the_case_of_its_header(aws, context):
    event = signed()
    event["headers"] = {name.title(): value for name, value in event["headers"].items()}

    assert lambda_handler(event, context)["statusCode"] == 200


def test_a_cached_old_secret_is_refused_once_the_overlap_is_over(aws, monkeypatch):
    monkeypatch.setenv("SECRET_OVERLAP_SECONDS", "100")
    put_secret(aws, "wsec_new")
    receive_after(0)

    with pytest.raises(SignatureError):
        receive_after(105)


def test_an_old_secret_that_was_empty_signs_nothing(aws, context):
    put_secret(aws, " ")
    put_secret(aws, SECRET)

    assert lambda_handler(signed(secret=""), context)["statusCode"] == 401
    assert_nothing_was_stored(aws)


def test_a_service_out_of_reach_is_counted_by_its_name(aws, context, capsys):
    delete_bucket(aws)

    lambda_handler(signed(), context)

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(each["WebhookUnavailable"], each.get("reason")) for each in metrics] == [([1.0], "S3"), ([1.0], None)]


def test_the_old_secret_is_not_even_asked_for_once_the_overlap_is_over(aws, context, monkeypatch):
    monkeypatch.setenv("SECRET_OVERLAP_SECONDS", "0")
    calls: list[str] = []
    ingest.handler.aws().secret.client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))

    assert lambda_handler(signed(), context)["statusCode"] == 200

    assert calls == ["GetSecretValue"]
