"""The cached signing secret while Secrets Manager cannot be read."""

import json
import math
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

import ingest.handler
from ingest.handler import lambda_handler
from shared.errors import SignatureError, UnavailableError
from tests.conftest import SECRET
from tests.ingest.conftest import DELIVERY_ID, counted, delete_secret, put_secret, receive_after, signed


def empty_secret(aws) -> None:
    put_secret(aws, " ")


def deny_secret(aws) -> None:
    fail_readings(ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"))


def silence_secret(aws) -> None:
    fail_readings(ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"))


def fail_readings(error: Exception, times: float = math.inf, stage: str = "*") -> list[str]:
    """Let this number of attempts to read the secret fail; returns a growing list of the stages of all attempts."""
    attempts: list[str] = []

    def fail(request: Any, **_: object) -> None:
        attempts.append(json.loads(request.body)["VersionStage"])
        if stage in ("*", attempts[-1]) and len(attempts) <= times:
            raise error

    ingest.handler.aws().secret.client.meta.events.register_first("before-send.secrets-manager.GetSecretValue", fail)
    return attempts


@pytest.mark.parametrize("breakage", [delete_secret, empty_secret, deny_secret, silence_secret])
def test_the_cached_secret_is_used_during_the_grace_period(aws, breakage):
    receive_after(0)
    breakage(aws)

    assert receive_after(310) == DELIVERY_ID
    assert receive_after(300 + 890) == DELIVERY_ID
    with pytest.raises(UnavailableError):
        receive_after(300 + 902)


def test_the_pause_after_a_failed_reading_begins_when_the_reading_ends(aws, monkeypatch):
    """Each look at the clock is 3 s later, as if the service did not answer for 3 s."""
    receive_after(0)
    attempts = fail_readings(ConnectTimeoutError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com"))
    monkeypatch.setattr("ingest.secret.time", SimpleNamespace(monotonic=count(step=3).__next__))
    receive_after(310)
    asked = len(attempts)

    receive_after(322)
    assert len(attempts) == asked

    receive_after(324)
    assert len(attempts) > asked


def test_the_cached_previous_secret_is_used_during_the_grace_period_too(aws):
    put_secret(aws, "wsec_new")
    receive_after(0)
    delete_secret(aws)

    assert receive_after(310) == receive_after(321, "wsec_new") == DELIVERY_ID


@pytest.mark.parametrize("breakage", [delete_secret, empty_secret, deny_secret])
def test_a_mismatch_with_a_cached_secret_that_cannot_be_read_again_is_a_503(aws, breakage):
    receive_after(0)
    breakage(aws)

    for seconds in (310, 311, 330):
        with pytest.raises(UnavailableError):
            receive_after(seconds, "wsec_new")
    assert receive_after(331) == DELIVERY_ID


def test_while_the_secret_cannot_be_read_it_is_tried_once_in_ten_seconds(aws):
    receive_after(0)
    attempts = fail_readings(ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"))

    made = [(receive_after(seconds), len(attempts))[1] for seconds in (310, 311, 319, 322, 330)]

    assert made == [1, 1, 1, 2, 2]


def test_without_a_cached_secret_it_is_also_tried_once_in_ten_seconds(aws):
    attempts = fail_readings(
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"), times=1
    )

    for seconds in (0, 5):
        with pytest.raises(UnavailableError):
            receive_after(seconds)
    assert attempts == ["AWSCURRENT"]
    assert receive_after(11) == DELIVERY_ID


def test_a_secret_that_becomes_readable_is_used_at_once(aws):
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


def test_a_webhook_accepted_with_the_cached_secret_is_counted_and_logged(aws, context, monkeypatch, capsys, logs):
    monkeypatch.setenv("SECRET_CACHE_SECONDS", "-1")  # so that each webhook reads the secret again
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
