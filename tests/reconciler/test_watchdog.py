"""The watchdog: the webhook's problems at ElevenLabs, and the advice in the log."""

import json
from typing import Any

import pytest

from reconciler.handler import lambda_handler
from reconciler.watchdog import ADVICE
from tests.reconciler.conftest import NOW, conversation, run

URL = "https://api123.execute-api.us-east-1.amazonaws.com/post-call"


def webhook(**fields: Any) -> dict[str, Any]:
    return {
        "name": "calls", "webhook_id": "wh_1", "webhook_url": URL, "is_disabled": False, "is_auto_disabled": False,
        "retry_enabled": True, "created_at_unix": 1770000000, "auth_type": "hmac", "usage": [],
        "most_recent_failure_error_code": None, "most_recent_failure_timestamp": None,
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        pytest.param({}, [], id="all is well"),
        pytest.param({"is_disabled": True}, ["disabled"], id="disabled"),
        pytest.param({"is_auto_disabled": True}, ["auto_disabled"], id="auto-disabled"),
        pytest.param({"retry_enabled": False}, ["retries_off"], id="retries off"),
        pytest.param({"most_recent_failure_timestamp": NOW.timestamp() - 7100}, ["failing"], id="failed lately"),
        pytest.param(
            {"most_recent_failure_timestamp": NOW.timestamp() - 60, "most_recent_failure_error_code": 413},
            [],
            id="a recording too large to be sent",
        ),
        pytest.param({"most_recent_failure_timestamp": NOW.timestamp() - 7300}, [], id="failed long ago"),
        pytest.param({"webhook_url": "https://example.com/other", "is_disabled": True}, ["not_found"], id="another's"),
        pytest.param({"retry_enabled": None, "is_disabled": "?"}, [], id="other fields than expected"),
    ],
)
def test_the_webhooks_problems_are_logged_with_advice(aws, elevenlabs, logs, fields, trouble):
    elevenlabs.webhooks = {"webhooks": [webhook(**fields)]}

    assert run()["webhook"] == trouble

    assert [advice for advice in ADVICE.values() if advice in logs.getvalue()] == [ADVICE[each] for each in trouble]
    assert elevenlabs.requests[-1].query == {"include_usages": "true"}


@pytest.mark.parametrize(("fields", "value"), [({}, 0.0), ({"is_disabled": True, "retry_enabled": False}, 2.0)])
def test_the_alarm_has_a_metric_in_every_pass(aws, elevenlabs, context, capsys, fields, value):
    elevenlabs.webhooks = {"webhooks": [webhook(**fields)]}
    context.get_remaining_time_in_millis = lambda: 900_000

    lambda_handler({}, context)

    (written,) = [line for line in capsys.readouterr().out.splitlines() if '"WebhookTrouble"' in line]
    assert json.loads(written)["WebhookTrouble"] == [value]


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"webhooks": None}, {"webhooks": [1, {"webhook_url": 5}]}])
def test_an_unexpected_answer_does_no_harm(aws, elevenlabs, archive_all, answer):
    elevenlabs.webhooks = answer
    elevenlabs.add(conversation())

    report = run()

    assert report["webhook"] == ["not_found"]
    assert report["outcomes"] == {"fetched": 1}


def test_one_malformed_webhook_does_not_hide_another(aws, elevenlabs):
    elevenlabs.webhooks = {"webhooks": [[], 7, None, webhook(is_disabled=True)]}

    assert run()["webhook"] == ["disabled"]


@pytest.mark.parametrize("fault", ["401", "403", "404", "html", "empty"])
def test_a_failed_request_does_no_harm(aws, elevenlabs, logs, fault):
    elevenlabs.plan("webhooks", fault)
    elevenlabs.add(conversation())

    report = run()

    assert "The webhook's state could not be read" in logs.getvalue()
    assert (report["webhook"], report["outcomes"]) == ([], {"fetched": 1})
