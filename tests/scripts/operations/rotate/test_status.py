"""`ops rotate-secret --status`: whether the previous key may still be needed."""

from datetime import datetime, timedelta, timezone

import boto3

from tests.scripts.operations.conftest import deploy_outputs, write_log
from tests.scripts.operations.rotate.conftest import HOUR, NEW, deploy, put, sign


def test_the_status_of_a_secret_that_was_never_rotated(step):
    code, found = step("--status")

    assert (code, found["previous_accepted_until"], "next" in found) == (0, None, False)


def test_the_status_tells_whether_the_previous_key_is_still_used(stack, step):
    changed_at = put(stack, NEW, ago=5 * HOUR)
    last = datetime.now(timezone.utc) - timedelta(minutes=30)
    sign("previous", changed_at - HOUR)
    sign("previous", changed_at + HOUR, 4)
    sign("previous", last, 2)
    sign("current", last, 3)

    code, found = step("--status")

    assert code == 1
    assert found["signed_with_previous_in_the_last_hour"] == 2
    assert found["signed_with_previous_since_the_change"] == 6
    assert found["signed_with_current"] == 3
    assert found["last_signed_with_previous"] == f"{last:%Y-%m-%dT%H:%M:00Z}"
    assert found["next"].startswith(f"Switch ElevenLabs by {found['previous_accepted_until']}: the previous key still")


def test_the_status_shows_test_webhooks_apart_because_they_say_nothing_about_elevenlabs(stack, step, run_ops):
    put(stack, NEW, ago=5 * HOUR)
    test = {"MetricName": "TestWebhookStaged", "Value": 3, "Timestamp": datetime.now(timezone.utc) - HOUR,
            "Dimensions": [{"Name": "service", "Value": "ingest"}]}  # fmt: skip
    boto3.client("cloudwatch").put_metric_data(Namespace="AgenticMemory/calls", MetricData=[test])

    code, found = step("--status")
    _, out, _ = run_ops("rotate-secret", "--status")

    assert (code, found["signed_with_current"], found["test_webhooks_not_counted"]) == (1, 0, 3)
    assert "test webhooks not counted" in out


def test_a_previous_key_that_nobody_uses_any_more_can_be_given_up(stack, step, run_ops):
    put(stack, NEW, ago=5 * HOUR)
    sign("previous", datetime.now(timezone.utc) - 2 * HOUR)
    sign("current", datetime.now(timezone.utc) - HOUR)

    code, found = step("--status")
    _, out, _ = run_ops("rotate-secret", "--status")

    assert (code, found["next"].partition(": ")[2]) == (0, "./scripts/ops rotate-secret --finish --yes --stack calls")
    assert out.endswith("\n      ./scripts/ops rotate-secret --finish --yes --stack calls\n")


def test_in_the_wait_nobody_is_told_to_switch_at_once(stack, step):
    deploy(stack, cache=3000)
    put(stack, NEW, ago=timedelta(minutes=1))
    sign("current", datetime.now(timezone.utc), 9)  # by ingests that knew only the previous key

    code, found = step("--status")

    assert (code, found["signed_with_current"], found["next"].split()[0]) == (1, 0, "Wait")


def test_where_there_are_no_metrics_the_log_tells(stack, step):
    put(stack, NEW, ago=2 * HOUR)
    now = datetime.now(timezone.utc)
    staged = {"level": "INFO", "message": "Webhook staged"}
    write_log("ingest", staged | {"secret": "previous"}, at=now - 3 * HOUR)
    write_log("ingest", *[staged | {"secret": "previous"}] * 2, staged | {"secret": "current"}, at=now - HOUR / 2)
    write_log("ingest", {"level": "INFO", "message": "Webhook refused: signature"}, "START RequestId: 1", at=now)
    write_log("ingest", {"level": "INFO", "message": "Test webhook staged"}, at=now)

    code, found = step("--status")

    assert code == 1
    assert found["signed_with_previous_since_the_change"] == 2
    assert found["signed_with_current"] == 1
    assert found["test_webhooks_not_counted"] == 1


def test_a_stack_of_an_older_version_is_named(stack, run_ops):
    deploy_outputs(stack.outputs)

    code, out, err = run_ops("rotate-secret", "--status")

    assert (code, out) == (2, "")
    assert err.startswith("The stack is of an older version")
