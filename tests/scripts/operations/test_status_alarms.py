"""`ops status` judges the stack's alarms by their own definitions, and names the commands that help."""

import json

import boto3
import pytest

from tests.scripts.operations.conftest import ops
from tests.scripts.operations.signs import age, alarm, count, deploy_alarms, receive, send


@pytest.fixture(autouse=True)
def deployed(stack) -> None:
    """The template's alarms, which CloudWatch has not evaluated yet."""
    deploy_alarms(stack, SignatureRejectedAlarm=5, ArchiveQueueDepthAlarm=2, MemoryQueueDepthAlarm=2)


def troubles(found) -> dict[str, list[str]]:
    """The commands that are advised, by alarm."""
    return {each["alarm"]: each["commands"] for each in found["next"]}


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(("output", "queue"), [("ArchiveDlqUrl", "archive"), ("MemoryDlqUrl", "memory")])
def test_dead_letters_fire_their_alarm_even_while_they_are_looked_at(stack, run_ops_json, output, queue, looked_at):
    send(stack, output)
    if looked_at:
        receive(stack, output)

    code, found = run_ops_json("status")

    ((name, commands),) = troubles(found).items()
    assert (code, name) == (1, output.replace("Url", "Alarm"))
    assert commands == [f"./scripts/ops dlq show {queue} --stack calls"]


def test_a_depth_above_the_deployed_threshold_fires(stack, run_ops_json):
    send(stack, "ArchiveQueueUrl", 2)
    send(stack, "MemoryQueueUrl", 3)

    code, found = run_ops_json("status")

    assert (code, [each["alarm"] for each in found["next"]]) == (1, ["MemoryQueueDepthAlarm"])


def test_a_burst_of_refused_webhooks_fires_at_the_deployed_threshold_and_is_over_after_its_period(run_ops_json):
    count("WebhookStaged", seconds_ago=290)
    count("SignatureRejected", 4, reason="mismatch", seconds_ago=295)
    assert run_ops_json("status")[1]["alarms"] == []

    count("SignatureRejected", reason="mismatch", seconds_ago=295)
    code, found = run_ops_json("status")
    assert (code, [each["alarm"] for each in found["alarms"]]) == (1, ["SignatureRejectedAlarm"])
    assert "./scripts/ops reconcile --stack calls" in troubles(found)["SignatureRejectedAlarm"]


def test_a_burst_before_the_alarms_period_is_past(run_ops_json):
    count("SignatureRejected", 9, reason="mismatch", seconds_ago=310)
    count("WebhookStaged", seconds_ago=290)

    code, found = run_ops_json("status")

    assert (code, found["next"], found["webhooks_in_the_last_hour"]["refused"]) == (0, [], 9)


def test_a_metric_of_the_hourly_pass_fires_after_two_passes(run_ops_json):
    count("MissingCalls", service="reconciler", seconds_ago=1800)
    assert run_ops_json("status")[0] == 0

    count("MissingCalls", service="reconciler", seconds_ago=5400)
    assert troubles(run_ops_json("status")[1]).keys() == {"MissingCallsAlarm"}


def test_what_only_cloudwatch_can_see_is_as_cloudwatch_says(stack, run_ops_json):
    cloudwatch = boto3.client("cloudwatch")
    for name in ("ArchiveQueueAgeAlarm", "IngestFunctionErrorsAlarm", "CallArchivedTopicAlarm"):
        cloudwatch.set_alarm_state(AlarmName=f"calls-{name}-1A2B", StateValue="ALARM", StateReason="a test")

    code, found = run_ops_json("status")

    assert code == 1
    assert troubles(found).keys() == {"ArchiveQueueAgeAlarm", "IngestFunctionErrorsAlarm", "CallArchivedTopicAlarm"}


def test_no_age_is_a_trouble_without_its_alarm(stack, run_ops_json):
    send(stack, "MemoryQueueUrl")
    age("MemoryQueueUrl", 901)

    code, found = run_ops_json("status")

    assert (code, found["next"]) == (0, [])


def test_an_alarm_that_is_over_before_cloudwatch_notices_is_not_shown(stack, run_ops_json):
    boto3.client("cloudwatch").set_alarm_state(
        AlarmName="calls-ArchiveDlqAlarm-1A2B", StateValue="ALARM", StateReason="a message that was redriven"
    )

    assert run_ops_json("status")[0] == 0


def test_each_alarm_names_the_commands_that_help_each_on_a_line_of_its_own(stack, run_ops):
    send(stack, "AudioDlqUrl")

    code, out, _ = run_ops("status")

    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Next: "))
    assert code == 1
    assert "AudioDlqAlarm" in "".join(lines[start:])
    assert lines[-1] == "      ./scripts/ops dlq show audio --stack calls"


def test_an_alarm_of_another_stack_is_not_shown(stack, run_ops, run_ops_json):
    alarm("calls-TeamAlarm-1A2B", "Calls [1] could not be remembered. ./scripts/ops status shows them.")
    alarm("calls-of-others-ArchiveDlqAlarm-1A2B", "Another stack's calls.")
    alarm("recalls-ArchiveDlqAlarm-1A2B", "Another stack's calls.")

    code, found = run_ops_json("status")
    _, out, _ = run_ops("status")

    assert code == 1
    assert found["alarms"] == [
        {"alarm": "TeamAlarm", "says": "Calls [1] could not be remembered. ./scripts/ops status shows them."}
    ]
    assert found["next"] == [
        {"trouble": "Calls [1] could not be remembered.", "alarm": "TeamAlarm", "commands": []},
    ]
    assert "Next: Calls [1] could not be remembered. See TeamAlarm in docs/operate.md.\n" in out


def test_a_stack_may_be_named_by_its_arn(stack, capsys):
    alarm("calls-TeamAlarm-1A2B", "Calls could not be remembered.")
    arn = boto3.client("cloudformation").describe_stacks(StackName="calls")["Stacks"][0]["StackId"]

    _, out, _ = ops(capsys, "status", "--stack", arn, "--json")

    assert [each["alarm"] for each in json.loads(out)["alarms"]] == ["TeamAlarm"]
