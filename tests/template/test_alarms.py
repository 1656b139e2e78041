"""What alarms watch, what has alarms, what they say, and to whom."""

import json
import re

import pytest
import yaml

from scripts.deploy.parameters import constants
from scripts.embedded.deployment import ROOT, TEMPLATE
from scripts.operations.app import app
from scripts.operations.rules import watched
from tests.alarms import Deployed, translated
from tests.template.documented import (
    ALARMS,
    DEFAULT,
    EVERYTHING,
    FROM_LOGS,
    OF_AWS,
    REMEMBERING,
    STACKS,
    dead_letter_queues,
    has_alarms,
    resource_of,
)


@pytest.mark.parametrize("name", OF_AWS)
def test_an_alarm_of_aws_watches_a_documented_metric_of_the_resource_of_its_name(name):
    kind, resource = resource_of(watched(ALARMS[name]))

    assert EVERYTHING.resources[resource]["Type"] == kind
    assert name.startswith("MemoryNotConfigured" if resource == "MemoryQueue" and "Queue" not in name else resource)


@pytest.mark.parametrize("stack", STACKS)
def test_every_queue_function_api_and_topic_has_its_alarms(stack):
    queues, dead = set(stack.of("AWS::SQS::Queue")), dead_letter_queues(stack)
    wanted = {(queue, "ApproximateNumberOfMessagesVisible") for queue in queues}
    wanted |= {(queue, "ApproximateAgeOfOldestMessage") for queue in queues - dead}
    functions = set(stack.of("AWS::Lambda::Function")) - {"CanaryFunction"}  # its own alarm watches its test calls
    wanted |= {(function, name) for function in functions for name in ("Errors", "Throttles")}
    wanted |= {(api, "5xx") for api in stack.of("AWS::ApiGatewayV2::Api")}
    wanted |= {(topic, "NumberOfNotificationsFailed") for topic in set(stack.of("AWS::SNS::Topic")) - {"AlarmTopic"}}

    assert has_alarms(stack) == wanted
    assert {"ArchiveDlq", "MemoryDlq"} <= dead


def test_alarms_that_depend_on_parameters_exist_only_with_them():
    transcription = {name for name in ALARMS if name.startswith("Transcribe")}
    assert len(transcription) == 5
    assert set(ALARMS) - set(REMEMBERING.alarms) == {
        "NoWebhookAlarm", "MemoryNotConfiguredAlarm", "CanaryAlarm", *transcription,
    }  # fmt: skip
    assert {"MemoryNotConfiguredAlarm", "AudioParkedLongAlarm"} <= set(DEFAULT.alarms)
    assert "NoWebhookAlarm" not in DEFAULT.alarms


@pytest.mark.parametrize("name", ALARMS)
def test_no_alarm_looks_back_further_than_cloudwatch_allows(name):
    most_hours = str(translated()["Parameters"]["NoWebhookHours"]["MaxValue"])
    alarm = Deployed(
        ElevenLabsApiKey="xi-test", NoWebhookHours=most_hours, CanaryMinutes="60", Transcribe="all"
    ).alarms[name]

    seconds = alarm["Period"] * int(alarm["EvaluationPeriods"])

    assert seconds <= (7 * 86400 if alarm["Period"] >= 3600 else 86400)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_notifies_the_operators_when_it_fires_and_when_it_is_over(name):
    alarm = ALARMS[name]

    assert (alarm["AlarmActions"], alarm["OKActions"]) == (["AlarmTopic"], ["AlarmTopic"])
    assert alarm.get("ActionsEnabled", True)


COMMAND = re.compile(
    r"\./scripts/ops (status|reconcile|canary|rotate-secret --yes|verify --since 48h"
    r"|replay --since 30d --unarchived --yes"
    r"|dlq (?:show|redrive) (?:archive|memory|audio|transcribe|text)(?: --yes)?)"
)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_it_means_which_command_to_run_and_where_more_is_written(name, capsys):
    text = ALARMS[name]["AlarmDescription"]
    commands = COMMAND.findall(text)

    assert len(text) <= 3 * 120
    assert text.endswith(f". docs/operate.md: {name}.")
    assert 3 <= text.count(". ") + text.count(": ") <= 6  # two to four short sentences, and where more is written
    assert len(commands) == text.count("/ops") > 0
    for command in commands:
        assert app([*command.split(), "--help"], standalone_mode=False) == 0
    assert all(command.endswith("--yes") == ("redrive" in command) for command in commands if "dlq" in command)


def test_the_alarm_about_the_secret_says_how_long_ingest_uses_the_last_one():
    seconds = constants(translated())["SecretGraceSeconds"][1]

    assert f"For {seconds // 60} minutes" in ALARMS["SecretRefreshFailedAlarm"]["AlarmDescription"]


PROPERTIES = {
    "AlarmDescription", "AlarmActions", "OKActions", "Namespace", "MetricName", "Dimensions", "Statistic", "Period",
    "EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData",
}  # fmt: skip


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_has_all_its_properties_in_plain_cloudformation(name):
    """Rendered to JSON without YAML's anchors, as AWS gets it."""
    rendered = json.loads(json.dumps(translated()["Resources"][name]))

    lacks = {"Dimensions"} if name in FROM_LOGS else set()
    assert set(rendered["Properties"]) == PROPERTIES - lacks
    assert set(rendered) <= {"Type", "Condition", "Properties"}


def test_the_template_has_no_merge_keys_which_some_scanners_and_editors_refuse():
    """Anchors of whole values are left: `sam build` and `sam deploy` write them out."""
    keys = [token for token in yaml.scan(TEMPLATE.read_text()) if getattr(token, "value", "") == "<<"]

    assert keys == []


def test_alarms_are_mailed_to_the_address_of_alarm_email_alone():
    kind = "AWS::SNS::Subscription"
    mails = [each for each in EVERYTHING.of(kind).values() if each["Protocol"] == "email"]

    assert mails == [{"TopicArn": "AlarmTopic", "Protocol": "email", "Endpoint": "duty@example.com"}]
    assert [each for each in DEFAULT.of(kind).values() if each["Protocol"] == "email"] == []


def test_cloudwatch_can_publish_to_the_alarm_topic():
    """With the key alias/aws/sns it could not; one of our own would need a policy for cloudwatch.amazonaws.com."""
    assert "KmsMasterKeyId" not in EVERYTHING.of("AWS::SNS::Topic")["AlarmTopic"]


def test_the_runbook_has_an_entry_for_each_alarm_and_for_no_other():
    headings = re.findall(r"^### (.*)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)

    assert {name for heading in headings for name in heading.split(", ")} == set(ALARMS)
