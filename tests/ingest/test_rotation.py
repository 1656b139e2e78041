"""The rotation of the signing secret: both keys sign during the overlap."""

import json
from datetime import datetime, timedelta, timezone

import pytest

import ingest.handler
from ingest.handler import lambda_handler, receive
from shared.errors import SignatureError, UnavailableError
from tests.conftest import SECRET
from tests.ingest.conftest import (
    DELIVERY_ID,
    assert_nothing_was_stored,
    delete_secret,
    put_secret,
    receive_after,
    signed,
)


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


def test_a_key_that_is_found_only_by_reading_again_is_named_too(aws):
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


def test_many_forged_requests_do_not_read_the_secret_again(aws, context):
    lambda_handler(signed(), context)
    calls: list[str] = []
    ingest.handler.aws().secret.client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))

    for _ in range(5):
        assert lambda_handler(signed(secret="wsec_forged"), context)["statusCode"] == 401

    assert calls == []


def test_a_mismatch_with_an_unreadable_secret_is_a_503(aws):
    receive_after(0)
    delete_secret(aws)

    for seconds in (11, 12):  # the second time, the failure is cached
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


def test_the_old_secret_is_not_read_after_the_overlap(aws, context, monkeypatch):
    monkeypatch.setenv("SECRET_OVERLAP_SECONDS", "0")
    calls: list[str] = []
    ingest.handler.aws().secret.client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))

    assert lambda_handler(signed(), context)["statusCode"] == 200

    assert calls == ["GetSecretValue"]
