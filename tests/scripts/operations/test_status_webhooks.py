"""`ops status` tells how many webhooks were accepted and refused, and why, and when somebody must look at it."""

from datetime import datetime, timedelta

import pytest

from shared.times import utc
from tests.scripts.operations.signs import count, deploy_alarms


@pytest.fixture(autouse=True)
def deployed(stack) -> None:
    deploy_alarms(stack)


def test_webhooks_are_counted_by_what_became_of_them(run_ops, run_ops_json):
    count("WebhookStaged", 12, seconds_ago=60)
    count("TestWebhookStaged", 2)
    count("SignatureRejected", 2, reason="missing")
    count("SignatureRejected", 3, reason="mismatch", seconds_ago=90)
    count("BodyRejected")
    count("WebhookUnavailable", 4, reason="S3", seconds_ago=400)
    count("WebhookStaged", 7, seconds_ago=3700)

    code, found = run_ops_json("status")
    _, out, _ = run_ops("status")

    webhooks = found["webhooks_in_the_last_hour"]
    assert (code, webhooks["accepted"], webhooks["tests"], webhooks["refused"]) == (0, 12, 2, 10)
    assert webhooks["refused_by_reason"] == {
        "S3 unavailable": 4, "signature mismatch": 3, "signature missing": 2, "no body": 1,
    }  # fmt: skip
    assert "Webhooks in the last hour: 12 accepted (and 2 tests), 10 refused (S3" in out


@pytest.mark.parametrize("reason", ["mismatch", "expired", "future", "source"])
def test_signed_webhooks_of_which_none_is_accepted_need_attention_before_the_alarm_fires(run_ops_json, reason):
    count("WebhookStaged", seconds_ago=1200)
    count("SignatureRejected", 31, reason=reason, seconds_ago=600)

    code, found = run_ops_json("status")

    (trouble,) = found["next"]
    assert (code, trouble["alarm"]) == (1, "SignatureRejectedAlarm")
    assert trouble["trouble"].startswith(
        f"31 webhooks were refused in the last hour, and none was accepted since: signature {reason} 31."
    )
    assert "./scripts/ops reconcile --stack calls" in trouble["commands"]
    assert ("./scripts/ops rotate-secret --yes --stack calls" in trouble["commands"]) == (reason == "mismatch")


def test_a_few_refused_webhooks_say_how_to_tell_a_changed_secret_from_forged_webhooks(run_ops_json):
    count("SignatureRejected", 31, reason="mismatch", seconds_ago=600)
    count("TestWebhookStaged")
    _, without = run_ops_json("status")
    count("WebhookStaged", seconds_ago=1200)
    _, found = run_ops_json("status")

    accepted = found["webhooks_in_the_last_hour"]["last_accepted_at"]
    assert "If a call has ended in the last hour, ElevenLabs signs with another" in without["next"][0]["trouble"]
    (trouble,) = found["next"]
    assert f"If a call has ended since the last accepted webhook ({accepted}), Eleven" in trouble["trouble"]
    assert "somebody forges webhooks: do not change the secret." in trouble["trouble"]
    assert "when a webhook of ElevenLabs is accepted (test calls do not count)" in trouble["trouble"]


def test_webhooks_that_could_not_be_stored_need_attention_until_one_is(run_ops_json):
    count("WebhookUnavailable", reason="SQS", seconds_ago=600)
    code, found = run_ops_json("status")
    assert (code, [each["alarm"] for each in found["next"]]) == (1, ["WebhookUnavailableAlarm"])

    count("WebhookStaged", seconds_ago=500)
    assert run_ops_json("status")[0] == 0


@pytest.mark.parametrize("reason", ["missing", "malformed"])
def test_requests_that_nobody_signed_need_no_attention(run_ops_json, reason):
    count("SignatureRejected", 9, reason=reason)

    code, found = run_ops_json("status")

    assert (code, found["webhooks_in_the_last_hour"]["refused"]) == (0, 9)


def test_a_test_webhook_does_not_prove_that_those_of_elevenlabs_are_accepted(run_ops_json):
    count("SignatureRejected", 9, reason="mismatch", seconds_ago=600)
    count("TestWebhookStaged")

    assert run_ops_json("status")[0] == 1


def test_a_burst_of_refused_webhooks_does_not_ask_for_another_secret_when_one_was_accepted_after_it(run_ops_json):
    count("SignatureRejected", 60, reason="mismatch", seconds_ago=100)
    count("WebhookStaged", seconds_ago=50)

    code, found = run_ops_json("status")

    (trouble,) = found["next"]
    webhooks = found["webhooks_in_the_last_hour"]
    over = datetime.fromisoformat(webhooks["last_refused_at"]) + timedelta(minutes=5)
    assert (code, trouble["alarm"]) == (1, "SignatureRejectedAlarm")
    assert f"accepted after them, at {webhooks['last_accepted_at']}" in trouble["trouble"]
    assert f"This is over by {utc(over)}" in trouble["trouble"]
    assert trouble["commands"] == ["./scripts/ops reconcile --stack calls"]


def test_a_burst_of_refused_webhooks_says_when_the_secret_must_be_changed(run_ops_json):
    count("WebhookStaged", seconds_ago=200)
    count("SignatureRejected", 60, reason="mismatch", seconds_ago=100)

    _, found = run_ops_json("status")

    (trouble,) = found["next"]
    assert "none was accepted since. If a call has ended since the last accepted webhook (20" in trouble["trouble"]
    assert trouble["commands"][0] == "./scripts/ops rotate-secret --yes --stack calls"
