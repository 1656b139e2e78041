"""When an alarm fires and when it clears, by its own definition in the template.

Our own metrics are those that the functions write when they run under the names that the template gives them. AWS's are
those that its documentation lists, with the dimensions that it lists.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from scripts.operations.rules import FURTHER_BACK, Period, state, watched
from tests.alarms import Deployed
from tests.ingest.conftest import http_event, signed
from tests.template.documented import ALARMS, EVERYTHING, FROM_LOGS, OF_AWS, from_logs, resource_of
from tests.template.world import (
    World,
    a_bucket_that_is_gone,
    a_call_that_ended_five_hours_ago,
    a_call_that_no_webhook_brought,
    a_call_without_its_recording,
    a_key_that_is_refused,
    a_list_that_cannot_be_read,
    a_secret_that_cannot_be_read_again,
    a_test_call,
    a_test_call_that_fails,
    a_webhook_that_is_switched_off,
    all_is_fixed,
    audio_without_its_call,
    forgeries,
    good_webhook,
    nothing,
    the_call_of_the_audio,
)

LONG = 10  # periods


class Scene(NamedTuple):
    """When an alarm must not fire, when it must, the seconds of one period, and after how many periods it fires."""

    calm: Any
    trouble: Any
    period: int
    after: int = 1


OUR_SCENES = {
    "SignatureRejectedAlarm": Scene(forgeries(49), forgeries(50), 300),
    "WebhookUnavailableAlarm": Scene(good_webhook, a_bucket_that_is_gone, 300),
    "SecretRefreshFailedAlarm": Scene(good_webhook, a_secret_that_cannot_be_read_again, 300),
    "NoWebhookAlarm": Scene(good_webhook, nothing, 3600, 3 + FURTHER_BACK),
    "MissingCallsAlarm": Scene(all_is_fixed, a_call_that_no_webhook_brought, 3600, 2),
    "MissingAudioAlarm": Scene(all_is_fixed, a_call_without_its_recording, 3600, 2),
    "ReconcileFailedAlarm": Scene(all_is_fixed, a_list_that_cannot_be_read, 3600, 2),
    "OldestUnarchivedAgeAlarm": Scene(all_is_fixed, a_call_that_ended_five_hours_ago, 3600),
    "AudioParkedLongAlarm": Scene(the_call_of_the_audio, audio_without_its_call, 3600),
    "WebhookTroubleAlarm": Scene(all_is_fixed, a_webhook_that_is_switched_off, 3600),
    "ElevenLabsKeyAlarm": Scene(all_is_fixed, a_key_that_is_refused, 3600),
    "CanaryAlarm": Scene(a_test_call, a_test_call_that_fails, 900, 2),
}


ONE_TOO_MANY = ([0, 0, 0], [0, 1, 0])


AWS_SCENES = {  # by the ends of the alarms' names, the longest first
    "ReconcilerFunctionErrorsAlarm": Scene(*ONE_TOO_MANY, 3600),
    "MemoryNotConfiguredAlarm": Scene(*ONE_TOO_MANY, 60),
    "CallArchivedTopicAlarm": Scene(*ONE_TOO_MANY, 300),
    "TranscribeQueueAgeAlarm": Scene([1020, 1080], [1081, 1081], 60, 5),
    "AudioQueueAgeAlarm": Scene([2760, 2820], [3060, 3001], 60, 5),
    "TextQueueAgeAlarm": Scene([2760, 2820], [3060, 3001], 60, 5),
    "TextQueueDepthAlarm": Scene([10_000, 5], [10_001, 5], 60, 5),
    "QueueDepthAlarm": Scene([1000, 5], [1001, 5], 60, 5),
    "ThrottlesAlarm": Scene(*ONE_TOO_MANY, 300),
    "QueueAgeAlarm": Scene([780, 840], [840, 901], 60, 5),
    "ErrorsAlarm": Scene(*ONE_TOO_MANY, 300),
    "DlqAlarm": Scene(*ONE_TOO_MANY, 60),
}


def assert_fires_and_clears(alarm: Any, scene: Scene, calm: Sequence[Period], trouble: Sequence[Period]) -> None:
    before, after = [calm[0]] * LONG, [calm[-1]] * LONG
    assert alarm["Period"] == scene.period
    assert state(alarm, before) == "OK"
    assert state(alarm, [*before, *trouble[:-1]]) == "OK"
    assert state(alarm, [*before, *trouble]) == "ALARM"
    assert state(alarm, [*before, *trouble, *after]) == "OK"


@pytest.mark.parametrize("name", OF_AWS)
def test_an_alarm_on_a_metric_of_aws_fires_and_clears(name):
    scene = next(scene for end, scene in AWS_SCENES.items() if name.endswith(end))

    assert_fires_and_clears(ALARMS[name], scene, [scene.calm], [scene.trouble] * scene.after)


@pytest.mark.parametrize("name", OUR_SCENES)
def test_an_alarm_on_a_metric_of_ours_fires_and_clears_by_what_the_functions_write(world, name):
    alarm, scene = ALARMS[name], OUR_SCENES[name]

    def played(act: Callable[[World], None]) -> Period:
        act(world)
        return world.emitted().get(watched(alarm), [])

    calm = [played(scene.calm)]
    trouble = [played(scene.trouble) for _ in range(scene.after)]
    calm.append(played(scene.calm))

    assert any(calm + trouble), f"nothing emits {watched(alarm)}"
    assert_fires_and_clears(alarm, scene, calm, trouble)


def stage_of_webhooks(stack: Deployed) -> Any:
    return next(each for each in stack.of("AWS::ApiGatewayV2::Stage").values() if each["ApiId"] == "Api")


def counted(stack: Deployed, statuses: Sequence[int]) -> Period:
    """What the metric filter counts for these answers of the API. It compares a field of the log's JSON with a text."""
    (rule,) = stack.of("AWS::Logs::MetricFilter").values()
    stage = stage_of_webhooks(stack)
    selector = re.fullmatch(r"\{ \$\.(\w+) = \"(\w+)\" \}", rule["FilterPattern"])
    assert selector
    written = stage["AccessLogSettings"]["Format"]
    lines = [re.sub(r"\$context\.[\w.]+", "-", written.replace("$context.status", str(each))) for each in statuses]
    value = float(rule["MetricTransformations"][0]["MetricValue"])
    return [value for line in lines if json.loads(line)[selector[1]] == selector[2]]


def test_a_throttled_webhook_fires_an_alarm_and_no_other_answer_does():
    """The metric 4xx would not do: it also counts the 404 of scanners and the 413 of long recordings."""
    others = counted(EVERYTHING, [200, 400, 401, 404, 413, 500, 503])

    throttled = counted(EVERYTHING, [200, 429, 200])

    assert_fires_and_clears(ALARMS["WebhookThrottledAlarm"], Scene([], [], 300), [others], [throttled])


def test_the_access_log_of_webhooks_is_where_throttled_ones_are_counted():
    (rule,) = EVERYTHING.of("AWS::Logs::MetricFilter").values()
    stage = stage_of_webhooks(EVERYTHING)

    assert stage["AccessLogSettings"]["DestinationArn"] == f"{rule['LogGroupName']}.Arn"
    assert watched(ALARMS["WebhookThrottledAlarm"]) in from_logs(EVERYTHING)


def test_every_alarm_is_shown_to_fire():
    assert sorted([*OF_AWS, *OUR_SCENES, *FROM_LOGS]) == sorted(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_without_any_metric_only_the_alarms_that_expect_webhooks_and_test_calls_fire(name):
    silence: list[Period] = [[]] * LONG

    assert state(ALARMS[name], silence) == ("ALARM" if name in ("NoWebhookAlarm", "CanaryAlarm") else "OK")


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_an_hour_with_any_webhook_does_not_fire_the_alarm_for_none(number):
    assert state(ALARMS["NoWebhookAlarm"], [[1.0] * number] * LONG) == "OK"


@pytest.mark.parametrize("counts_delay", [True, False], ids=["age since it was sent", "age since its delay"])
@pytest.mark.parametrize("name", [name for name in ALARMS if name.endswith("QueueAgeAlarm")])
def test_a_message_is_late_before_its_third_attempt_and_not_if_the_second_succeeds(name, counts_delay):
    """SQS leaves a message out of the metric after three receives, so the alarm must fire before."""
    queue = EVERYTHING.of("AWS::SQS::Queue")[resource_of(watched(ALARMS[name]))[1]]
    delay, visibility = int(queue.get("DelaySeconds", 0)), int(queue["VisibilityTimeout"])

    def minutes(attempt: int) -> list[Period]:
        """The age by the minute, until that attempt."""
        end = delay + (attempt - 1) * visibility
        ages = [elapsed - (0 if counts_delay else delay) for elapsed in range(60, end + 1, 60)]
        return [[age] if age >= 0 else [] for age in ages]

    second, third = minutes(2), minutes(3)

    assert {state(ALARMS[name], second[: end + 1]) for end in range(len(second))} == {"OK"}
    assert state(ALARMS[name], third) == "ALARM"


def a_strangers_requests(world: World) -> None:
    """All requests that somebody without the signing secret can make, more often than any threshold."""
    unsigned, malformed = http_event(b"{}"), http_event(b"{}", "nonsense")
    for event in (unsigned, malformed, http_event(b""), signed(secret="wsec_forged"), signed(late=7200)):
        answers = [world.run("IngestFunction", event)["statusCode"] for _ in range(60)]
        assert set(answers) <= {400, 401}


def test_requests_without_the_signing_secret_cannot_undo_a_gradual_deployment(world):
    stack = Deployed(GradualDeployment="AllAtOnce", DeploymentId="1")
    (group,) = stack.of("AWS::CodeDeploy::DeploymentGroup").values()
    take_back = {each["Name"] for each in group["AlarmConfiguration"]["Alarms"]}

    a_strangers_requests(world)  # none of which makes ingest crash
    written = world.emitted()

    states = {name: state(alarm, [written.get(watched(alarm), [])]) for name, alarm in stack.alarms.items()}
    raised = {name for name, each in states.items() if each == "ALARM"}
    assert raised == {"SignatureRejectedAlarm"}
    assert take_back == {"IngestFunctionErrorsAlarm", "WebhookUnavailableAlarm"}


# The examples of the guide: 0 is a value within the threshold, X one beyond it, - a missing one.
THREE_OF_THREE = [
    ("0-X-X", "OK", "OK"), ("0----", "OK", "OK"), ("-----", "ALARM", "OK"), ("0XX-X", "ALARM", "ALARM"),
    ("----X", "ALARM", "OK"), ("X----", "ALARM", "OK"),
]  # fmt: skip


TWO_OF_THREE = [
    ("0-X-X", "ALARM", "ALARM"), ("00X0X", "ALARM", "ALARM"), ("0-X--", "ALARM", "OK"), ("----0", "ALARM", "OK"),
    ("----X", "ALARM", "OK"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("to_alarm", "points", "breaching", "not_breaching"),
    [(3, *example) for example in THREE_OF_THREE] + [(2, *example) for example in TWO_OF_THREE],
)
def test_alarms_are_evaluated_as_the_cloudwatch_guide_shows_it(to_alarm, points, breaching, not_breaching):
    alarm = {
        "Statistic": "Sum", "EvaluationPeriods": 3, "DatapointsToAlarm": to_alarm, "Threshold": 0,
        "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    periods = [{"0": [0], "X": [1], "-": []}[point] for point in points]

    states = [state(alarm | {"TreatMissingData": treatment}, periods) for treatment in ("breaching", "notBreaching")]

    assert states == [breaching, not_breaching]
