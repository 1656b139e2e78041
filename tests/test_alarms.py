"""Every alarm of the template is evaluated from its own definition, and so is the dashboard.

Our own metrics are those that the functions write when they are run under the names that the template gives them. AWS's
are those that its documentation lists, with the dimensions that it lists.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import Any, NamedTuple

import boto3
import pytest
from aws_lambda_powertools import Metrics

from scripts.embedded.deployment import ROOT
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.operations.app import app
from scripts.operations.rules import FURTHER_BACK, Metric, Period, state, watched
from shared.observability import metrics
from shared.times import utc
from tests.alarms import Deployed, drawn, emitted, expressions, translated
from tests.archiver.conftest import stage
from tests.archiver.test_handler import audio, transcript
from tests.canary.conftest import endpoint
from tests.conftest import SECRET, Stack, close_clients, forget, sqs_event
from tests.ingest.test_handler import http_event, signed
from tests.mem0_stand_in import HostedMem0
from tests.memory_writer.test_handler import announce, small_call
from tests.reconciler.conftest import KEY, NOW, conversation
from tests.reconciler.test_watchdog import webhook

DEFAULT = Deployed()
EVERYTHING = Deployed(ElevenLabsApiKey="xi-test", NoWebhookHours="3", AlarmEmail="duty@example.com", CanaryMinutes="15")
REMEMBERING = Deployed(ElevenLabsApiKey="xi-test", Mem0ApiKey="m0-test")
STACKS = [
    pytest.param(DEFAULT, id="default"),
    pytest.param(REMEMBERING, id="remembering"),
    pytest.param(EVERYTHING, id="everything"),
]
ALARMS = EVERYTHING.alarms
LONG = 10  # periods


class Documented(NamedTuple):
    """What AWS documents of a namespace: its metrics, and the dimension that names a resource, as Ref or GetAtt."""

    kind: str
    dimension: str
    value: str
    metrics: dict[str, set[str]]  # the values that StorageType may have, if it must be given


PLAIN: set[str] = set()
CLASSES = {
    "StandardStorage",
    "StandardIAStorage",
    "GlacierInstantRetrievalStorage",
    "GlacierStorage",
    "DeepArchiveStorage",
}
AWS = {
    # SQS developer guide, "Available CloudWatch metrics for Amazon SQS"
    "AWS/SQS": Documented("AWS::SQS::Queue", "QueueName", "{}.QueueName", {
        "ApproximateAgeOfOldestMessage": PLAIN, "ApproximateNumberOfMessagesVisible": PLAIN,
        "NumberOfEmptyReceives": PLAIN,
    }),
    # SNS developer guide, "Monitoring Amazon SNS topics using CloudWatch"
    "AWS/SNS": Documented("AWS::SNS::Topic", "TopicName", "{}.TopicName", {
        "NumberOfNotificationsDelivered": PLAIN, "NumberOfNotificationsFailed": PLAIN,
    }),
    # Lambda developer guide, "Types of metrics for Lambda functions"
    "AWS/Lambda": Documented("AWS::Lambda::Function", "FunctionName", "{}", {
        "Invocations": PLAIN, "Errors": PLAIN, "Throttles": PLAIN, "Duration": PLAIN,
    }),
    # API Gateway developer guide, "Monitor CloudWatch metrics for HTTP APIs": not the names that REST APIs have
    "AWS/ApiGateway": Documented("AWS::ApiGatewayV2::Api", "ApiId", "{}", {
        "Count": PLAIN, "4xx": PLAIN, "5xx": PLAIN, "DataProcessed": PLAIN,
    }),
    # S3 user guide, "Metrics and dimensions"
    "AWS/S3": Documented("AWS::S3::Bucket", "BucketName", "{}", {
        "BucketSizeBytes": CLASSES, "NumberOfObjects": {"AllStorageTypes"},
    }),
}  # fmt: skip


def resource_of(metric: Metric) -> tuple[str, str]:
    """The type and logical name of the resource that a metric of AWS is about; asserts that AWS documents it so."""
    namespace, name, dimensions = metric
    documented = AWS[namespace]
    given = dict(dimensions)
    value, storage_type = given.pop(documented.dimension), given.pop("StorageType", None)
    assert given == {}, metric
    types = documented.metrics[name]
    assert (storage_type in types) if types else (storage_type is None), metric
    logical_name = value.split(".")[0]
    assert value == documented.value.format(logical_name), metric
    return documented.kind, logical_name


# ---------------------------------------------------------------- the functions at work


class World:
    """The functions as the template configures them, with ElevenLabs and Mem0 beside them."""

    def __init__(
        self, aws: Stack, context: Any, elevenlabs: ElevenLabs, mem0: HostedMem0, patch: Any, output: Any
    ) -> None:
        self.aws, self.elevenlabs, self.mem0 = aws, elevenlabs, mem0
        self.context, self.patch, self._output = context, patch, output
        self.warm = ""
        context.get_remaining_time_in_millis = lambda: 900_000

    def run(self, function: str, event: Any) -> Any:
        """Invoke a function of the template; another one than before starts cold."""
        properties = EVERYTHING.of("AWS::Lambda::Function")[function]
        if function != self.warm:
            self._start(function, properties["Environment"]["Variables"])
        module, _, handler = properties["Handler"].rpartition(".")
        return getattr(import_module(module), handler)(event, self.context)

    def _start(self, function: str, variables: dict[str, str]) -> None:
        """A new execution environment, which reads the names of its metrics from the variables of the template."""
        close_clients()
        for name in ("POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"):
            self.patch.setenv(name, variables[name])
        self.patch.setenv("DLQ_URL", self.aws.outputs.get(f"{variables.get('DLQ_URL')}Url", "none"))
        cold = Metrics().provider
        for name in ("service", "namespace"):
            self.patch.setattr(metrics.provider, name, getattr(cold, name))
        forget()
        self.warm = function

    def emitted(self) -> dict[Metric, list[float]]:
        """What was written since the last time."""
        return emitted(self._output.readouterr().out)

    def work(self, function: str, queue: str) -> None:
        """Let a function handle all that its queue holds."""
        for message in self.aws.take(f"{queue}Url"):
            self.run(function, sqs_event(message["Body"]))


@pytest.fixture
def world(aws: Stack, context: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[World]:
    secrets = boto3.client("secretsmanager")
    with ElevenLabs(KEY) as elevenlabs, HostedMem0(key="m0-test") as mem0:
        environment = {
            "ELEVENLABS_HOST": elevenlabs.url, "MEM0_HOST": mem0.url, "MEMORY_BACKEND": "platform",
            "ELEVENLABS_SECRET_ARN": secrets.create_secret(Name="elevenlabs", SecretString=KEY)["ARN"],
            "MEMORY_SECRET_ARN": secrets.create_secret(Name="mem0", SecretString="m0-test")["ARN"],
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
        monkeypatch.setattr("reconciler.elevenlabs.PER_SECOND", 10_000)
        monkeypatch.setattr("memory_writer.remember.POLL", 0.01)
        yield World(aws, context, elevenlabs, mem0, monkeypatch, capsys)
        close_clients()
    forget()


def nothing(world: World) -> None:
    pass


def good_webhook(world: World) -> None:
    assert world.run("IngestFunction", signed())["statusCode"] == 200


def forgeries(number: int) -> Callable[[World], None]:
    def send(world: World) -> None:
        answers = [world.run("IngestFunction", signed(secret="wsec_forged"))["statusCode"] for _ in range(number)]
        assert answers == [401] * number

    return send


def a_bucket_that_is_gone(world: World) -> None:
    with world.patch.context() as gone:
        gone.setenv("BUCKET_NAME", "gone")
        world.warm = ""
        assert world.run("IngestFunction", signed())["statusCode"] == 503
    world.warm = ""


def a_secret_that_cannot_be_read_again(world: World) -> None:
    secrets, arn = boto3.client("secretsmanager"), world.aws.outputs["WebhookSecretArn"]
    with world.patch.context() as impatient:
        impatient.setenv("SECRET_CACHE_SECONDS", "-1")
        world.warm = ""
        good_webhook(world)
        secrets.put_secret_value(SecretId=arn, SecretString=" ")
        good_webhook(world)
    secrets.put_secret_value(SecretId=arn, SecretString=SECRET)
    world.warm = ""


def hourly_pass(world: World) -> None:
    world.run("ReconcilerFunction", {})


def ended_ago(conversation_id: str, hours: int, **fields: Any) -> Any:
    """A call that ended so long before the real now, as ElevenLabs tells it."""
    since = NOW - datetime.now(timezone.utc) + timedelta(hours=hours)
    return conversation(conversation_id, ended=since, **fields)


def a_call_that_no_webhook_brought(world: World) -> None:
    world.elevenlabs.add(ended_ago("conv_missing", 3, has_audio=False))
    hourly_pass(world)


def a_call_that_ended_five_hours_ago(world: World) -> None:
    world.elevenlabs.add(ended_ago("conv_old", 5, has_audio=False))
    hourly_pass(world)


def a_call_without_its_recording(world: World) -> None:
    world.elevenlabs.add(ended_ago("conv_silent", 3, has_audio=True))
    hourly_pass(world)
    world.work("ArchiverFunction", "ArchiveQueue")
    world.emitted()
    hourly_pass(world)


def audio_without_its_call(world: World) -> None:
    world.run("ArchiverFunction", sqs_event(stage(world.aws, audio("conv_parked"))))
    world.aws.dynamodb.update_item(
        TableName=world.aws.outputs["ConversationTableName"],
        Key={"conversation_id": {"S": "conv_parked"}, "item": {"S": "call"}},
        UpdateExpression="SET #started = :long_ago", ExpressionAttributeNames={"#started": "started"},
        ExpressionAttributeValues={":long_ago": {"S": utc(datetime.now(timezone.utc) - timedelta(hours=25))}},
    )  # fmt: skip
    hourly_pass(world)


def a_list_that_cannot_be_read(world: World) -> None:
    world.elevenlabs.plan("list", *["503"] * 4)
    hourly_pass(world)


def a_key_that_is_refused(world: World) -> None:
    world.elevenlabs.key = "another"
    hourly_pass(world)


def a_webhook_that_is_switched_off(world: World) -> None:
    world.elevenlabs.webhooks = {"webhooks": [webhook(is_disabled=True)]}
    hourly_pass(world)


def all_is_healed(world: World) -> None:
    """What was missing is fetched and archived; then a pass."""
    world.elevenlabs.key, world.elevenlabs.webhooks = KEY, {"webhooks": [webhook()]}
    for conversation_id in world.elevenlabs.conversations:
        world.elevenlabs.audio[conversation_id] = b"ID3 sound"
    for queue, function in (("Archive", "Archiver"), ("Audio", "Audio"), ("Archive", "Archiver")):
        world.work(f"{function}Function", f"{queue}Queue")
    hourly_pass(world)


def a_flight(world: World) -> None:
    with endpoint(world.aws, world.context) as url:
        world.patch.setenv("POST_CALL_URL", url)
        world.warm = ""
        world.run("CanaryFunction", {})


def a_flight_to_nowhere(world: World) -> None:
    world.patch.setenv("POST_CALL_URL", "http://127.0.0.1:9")
    world.warm = ""
    world.run("CanaryFunction", {})


def the_call_of_the_audio(world: World) -> None:
    if world.aws.call("conv_parked"):
        world.run("ArchiverFunction", sqs_event(stage(world.aws, transcript("conv_parked"))))
    hourly_pass(world)


# ---------------------------------------------------------------- when an alarm fires, and when not


class Scene(NamedTuple):
    """What an alarm is for: quiet times, trouble, the seconds of one period, and after how many periods it fires."""

    calm: Any
    trouble: Any
    period: int
    after: int = 1


OUR_SCENES = {
    "SignatureRejectedAlarm": Scene(forgeries(49), forgeries(50), 300),
    "WebhookUnavailableAlarm": Scene(good_webhook, a_bucket_that_is_gone, 300),
    "SecretRefreshFailedAlarm": Scene(good_webhook, a_secret_that_cannot_be_read_again, 300),
    "NoWebhookAlarm": Scene(good_webhook, nothing, 3600, 3 + FURTHER_BACK),
    "MissingCallsAlarm": Scene(all_is_healed, a_call_that_no_webhook_brought, 3600, 2),
    "MissingAudioAlarm": Scene(all_is_healed, a_call_without_its_recording, 3600, 2),
    "ReconcileFailedAlarm": Scene(all_is_healed, a_list_that_cannot_be_read, 3600, 2),
    "OldestUnarchivedAgeAlarm": Scene(all_is_healed, a_call_that_ended_five_hours_ago, 3600),
    "AudioParkedLongAlarm": Scene(the_call_of_the_audio, audio_without_its_call, 3600),
    "WebhookTroubleAlarm": Scene(all_is_healed, a_webhook_that_is_switched_off, 3600),
    "ElevenLabsKeyAlarm": Scene(all_is_healed, a_key_that_is_refused, 3600),
    "CanaryAlarm": Scene(a_flight, a_flight_to_nowhere, 900, 2),
}
ONE_TOO_MANY = ([0, 0, 0], [0, 1, 0])
AWS_SCENES = {  # by the ends of the alarms' names, the longest first
    "ReconcilerFunctionErrorsAlarm": Scene(*ONE_TOO_MANY, 3600),
    "MemoryNotConfiguredAlarm": Scene(*ONE_TOO_MANY, 60),
    "CallArchivedTopicAlarm": Scene(*ONE_TOO_MANY, 300),
    "AudioQueueAgeAlarm": Scene([2760, 2820], [3060, 3001], 60, 5),
    "QueueDepthAlarm": Scene([1000, 5], [1001, 5], 60, 5),
    "ThrottlesAlarm": Scene(*ONE_TOO_MANY, 300),
    "QueueAgeAlarm": Scene([780, 840], [840, 901], 60, 5),
    "ErrorsAlarm": Scene(*ONE_TOO_MANY, 300),
    "DlqAlarm": Scene(*ONE_TOO_MANY, 60),
}
OF_AWS = [name for name in ALARMS if ALARMS[name]["Namespace"] in AWS]
FROM_LOGS = ["WebhookThrottledAlarm"]  # on a metric that CloudWatch itself counts in a log


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


def counted(stack: Deployed, statuses: Sequence[int]) -> Period:
    """What the metric filter counts when the API answers so: it compares a field of the log's JSON with a text."""
    (rule,) = stack.of("AWS::Logs::MetricFilter").values()
    (stage,) = stack.of("AWS::ApiGatewayV2::Stage").values()
    selector = re.fullmatch(r"\{ \$\.(\w+) = \"(\w+)\" \}", rule["FilterPattern"])
    assert selector
    written = stage["AccessLogSettings"]["Format"]
    lines = [re.sub(r"\$context\.[\w.]+", "-", written.replace("$context.status", str(each))) for each in statuses]
    value = float(rule["MetricTransformations"][0]["MetricValue"])
    return [value for line in lines if json.loads(line)[selector[1]] == selector[2]]


def test_a_throttled_webhook_fires_an_alarm_and_no_other_answer_does():
    """Not the metric 4xx: scanners' 404 are in that, and recordings of more than 4.9 minutes with their 413."""
    others = counted(EVERYTHING, [200, 400, 401, 404, 413, 500, 503])

    throttled = counted(EVERYTHING, [200, 429, 200])

    assert_fires_and_clears(ALARMS["WebhookThrottledAlarm"], Scene([], [], 300), [others], [throttled])


def test_the_access_log_of_webhooks_is_where_throttled_ones_are_counted():
    (rule,) = EVERYTHING.of("AWS::Logs::MetricFilter").values()
    (stage,) = EVERYTHING.of("AWS::ApiGatewayV2::Stage").values()

    assert stage["AccessLogSettings"]["DestinationArn"] == f"{rule['LogGroupName']}.Arn"
    assert watched(ALARMS["WebhookThrottledAlarm"]) in from_logs(EVERYTHING)


def from_logs(stack: Deployed) -> set[Metric]:
    """The metrics that CloudWatch counts in logs."""
    changes = [each for rule in stack.of("AWS::Logs::MetricFilter").values() for each in rule["MetricTransformations"]]
    return {(each["MetricNamespace"], each["MetricName"], frozenset()) for each in changes}


def test_every_alarm_is_shown_to_fire():
    assert sorted([*OF_AWS, *OUR_SCENES, *FROM_LOGS]) == sorted(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_calm_but_for_the_alarms_that_wait_for_webhooks_and_flights(name):
    silence: list[Period] = [[]] * LONG

    assert state(ALARMS[name], silence) == ("ALARM" if name in ("NoWebhookAlarm", "CanaryAlarm") else "OK")


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_an_hour_with_any_webhook_is_calm(number):
    assert state(ALARMS["NoWebhookAlarm"], [[1.0] * number] * LONG) == "OK"


@pytest.mark.parametrize("counts_delay", [True, False], ids=["age since it was sent", "age since its delay"])
@pytest.mark.parametrize("name", [name for name in ALARMS if name.endswith("QueueAgeAlarm")])
def test_a_message_is_late_before_its_third_attempt_and_not_if_the_second_succeeds(name, counts_delay):
    """SQS leaves a message that was received three times out of the metric, so that the alarm must come before that."""
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
    """All that somebody without the signing secret can post, more often than any threshold."""
    unsigned, malformed = http_event(b"{}"), http_event(b"{}", "nonsense")
    for event in (unsigned, malformed, http_event(b""), signed(secret="wsec_forged"), signed(late=7200)):
        answers = [world.run("IngestFunction", event)["statusCode"] for _ in range(60)]
        assert set(answers) <= {400, 401}


def test_no_stranger_can_take_a_gradual_deployment_back(world):
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


# ---------------------------------------------------------------- what alarms watch, and what has alarms


@pytest.mark.parametrize("name", OF_AWS)
def test_an_alarm_of_aws_watches_a_documented_metric_of_the_resource_of_its_name(name):
    kind, resource = resource_of(watched(ALARMS[name]))

    assert EVERYTHING.resources[resource]["Type"] == kind
    assert name.startswith("MemoryNotConfigured" if resource == "MemoryQueue" and "Queue" not in name else resource)


def has_alarms(stack: Deployed) -> set[tuple[str, str]]:
    """Resource and metric of each alarm on a metric of AWS."""
    of_aws = [watched(alarm) for alarm in stack.alarms.values() if alarm["Namespace"] in AWS]
    return {(resource_of(metric)[1], metric[1]) for metric in of_aws}


def dead_letter_queues(stack: Deployed) -> set[str]:
    sources = [queue["RedrivePolicy"] for queue in stack.of("AWS::SQS::Queue").values() if "RedrivePolicy" in queue]
    return {policy["deadLetterTargetArn"].removesuffix(".Arn") for policy in sources}


@pytest.mark.parametrize("stack", STACKS)
def test_every_queue_function_api_and_topic_has_its_alarms(stack):
    queues, dead = set(stack.of("AWS::SQS::Queue")), dead_letter_queues(stack)
    wanted = {(queue, "ApproximateNumberOfMessagesVisible") for queue in queues}
    wanted |= {(queue, "ApproximateAgeOfOldestMessage") for queue in queues - dead}
    functions = set(stack.of("AWS::Lambda::Function")) - {"CanaryFunction"}  # whose own alarm misses its flights
    wanted |= {(function, name) for function in functions for name in ("Errors", "Throttles")}
    wanted |= {(api, "5xx") for api in stack.of("AWS::ApiGatewayV2::Api")}
    wanted |= {(topic, "NumberOfNotificationsFailed") for topic in set(stack.of("AWS::SNS::Topic")) - {"AlarmTopic"}}

    assert has_alarms(stack) == wanted
    assert {"ArchiveDlq", "MemoryDlq"} <= dead


def test_alarms_that_depend_on_parameters_are_there_when_they_are_meant():
    assert set(ALARMS) - set(REMEMBERING.alarms) == {"NoWebhookAlarm", "MemoryNotConfiguredAlarm", "CanaryAlarm"}
    assert {"MemoryNotConfiguredAlarm", "AudioParkedLongAlarm"} <= set(DEFAULT.alarms)
    assert "NoWebhookAlarm" not in DEFAULT.alarms


@pytest.mark.parametrize("name", ALARMS)
def test_no_alarm_looks_back_further_than_cloudwatch_allows(name):
    most_hours = str(translated()["Parameters"]["NoWebhookHours"]["MaxValue"])
    alarm = Deployed(ElevenLabsApiKey="xi-test", NoWebhookHours=most_hours, CanaryMinutes="60").alarms[name]

    seconds = alarm["Period"] * int(alarm["EvaluationPeriods"])

    assert seconds <= (7 * 86400 if alarm["Period"] >= 3600 else 86400)


# ---------------------------------------------------------------- what alarms say, and to whom


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_operators_when_it_rises_and_when_it_is_over(name):
    alarm = ALARMS[name]

    assert (alarm["AlarmActions"], alarm["OKActions"]) == (["AlarmTopic"], ["AlarmTopic"])
    assert alarm.get("ActionsEnabled", True)


COMMAND = re.compile(
    r"\./scripts/ops (status|reconcile|canary|verify --since 24h|replay --since 30d --unarchived --yes"
    r"|dlq (?:show|redrive) (?:archive|memory|audio)(?: --yes)?)"
)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_it_means_which_command_to_run_and_where_more_is_written(name, capsys):
    text = ALARMS[name]["AlarmDescription"]
    commands = COMMAND.findall(text)

    assert len(text) <= 1024
    assert text.endswith(f". RUNBOOK.md: {name}.")
    assert len(commands) == text.count("/ops") > 0
    for command in commands:
        assert app([*command.split(), "--help"], standalone_mode=False) == 0
    assert all(command.endswith("--yes") == ("redrive" in command) for command in commands if "dlq" in command)


def test_alarms_are_mailed_to_whoever_is_named_and_to_nobody_else():
    kind = "AWS::SNS::Subscription"
    mails = [each for each in EVERYTHING.of(kind).values() if each["Protocol"] == "email"]

    assert mails == [{"TopicArn": "AlarmTopic", "Protocol": "email", "Endpoint": "duty@example.com"}]
    assert [each for each in DEFAULT.of(kind).values() if each["Protocol"] == "email"] == []


def test_cloudwatch_can_publish_to_the_alarm_topic():
    """With the key alias/aws/sns it could not; one of our own would need a policy for cloudwatch.amazonaws.com."""
    assert "KmsMasterKeyId" not in EVERYTHING.of("AWS::SNS::Topic")["AlarmTopic"]


# ---------------------------------------------------------------- the dashboard


def everything_that_is_counted(world: World) -> dict[Metric, list[float]]:
    """What the functions write when each outcome has happened once."""
    for act in (
        webhooks,
        a_secret_that_cannot_be_read_again,
        calls,
        memories,
        recordings,
        passes,
        a_flight_to_nowhere,
        a_breakdown,
    ):
        act(world)
    return world.emitted()


def webhooks(world: World) -> None:
    good_webhook(world)
    forgeries(1)(world)
    assert world.run("IngestFunction", signed(b""))["statusCode"] == 400


def calls(world: World) -> None:
    for body in (transcript("conv_1"), audio("conv_1"), audio("conv_2"), {"type": "new", "data": {}}):
        world.run("ArchiverFunction", sqs_event(stage(world.aws, body)))
    world.run("ArchiverFunction", sqs_event("not json"))


def memories(world: World) -> None:
    known, unknown = announce(world.aws, small_call()), announce(world.aws, small_call(), number=None)
    for message in (known, known, unknown, "not json"):
        world.run("MemoryWriterFunction", sqs_event(message))


def recordings(world: World) -> None:
    """One that is there, one that may still come, and one that was never made."""
    for conversation_id in ("conv_there", "conv_late", "conv_none"):
        world.elevenlabs.add(ended_ago(conversation_id, 3, has_audio=conversation_id != "conv_none"))
        world.run("ArchiverFunction", sqs_event(stage(world.aws, transcript(conversation_id))))
    world.elevenlabs.audio["conv_there"] = b"ID3 sound"
    for announced in world.aws.announcements():
        world.run("AudioFunction", sqs_event(json.dumps(announced)))
    world.run("AudioFunction", sqs_event("not json"))


def passes(world: World) -> None:
    for act in (all_is_healed, a_list_that_cannot_be_read, a_key_that_is_refused):
        act(world)


def a_breakdown(world: World) -> None:
    """Without its table and its queue no function can do its work."""
    announced, staged = announce(world.aws, small_call()), stage(world.aws, transcript("conv_3"))
    world.aws.dynamodb.delete_table(TableName=world.aws.outputs["ConversationTableName"])
    world.aws.sqs.delete_queue(QueueUrl=world.aws.outputs["ArchiveQueueUrl"])
    for function, message in {"Archiver": staged, "MemoryWriter": announced, "Audio": announced}.items():
        assert world.run(f"{function}Function", sqs_event(message))["batchItemFailures"]
    assert world.run("IngestFunction", signed())["statusCode"] == 503


def test_each_metric_of_ours_on_the_dashboard_and_in_an_alarm_is_one_that_is_counted(world):
    on_dashboard = {metric for metric, _ in drawn(EVERYTHING.dashboard)}
    in_alarms = {watched(alarm) for alarm in ALARMS.values()}
    ours = {metric for metric in on_dashboard | in_alarms if metric[0] not in AWS}

    written = everything_that_is_counted(world)

    assert sorted(ours - set(written) - from_logs(EVERYTHING)) == []
    assert len(ours) > 20


def test_each_metric_of_aws_on_the_dashboard_is_documented_for_a_resource_of_the_stack():
    of_aws = {metric for metric, _ in drawn(EVERYTHING.dashboard) if metric[0] in AWS}

    assert {resource_of(metric) for metric in of_aws} == {
        (AWS[namespace].kind, name)
        for namespace in AWS for name in EVERYTHING.of(AWS[namespace].kind) if name != "AlarmTopic"
    }  # fmt: skip


def test_each_alarm_can_be_seen_on_the_dashboard():
    assert {watched(alarm) for alarm in ALARMS.values()} <= {metric for metric, _ in drawn(EVERYTHING.dashboard)}


def test_without_a_key_of_elevenlabs_the_dashboard_names_nothing_that_is_not_there():
    of_aws = {metric for metric, _ in drawn(DEFAULT.dashboard) if metric[0] in AWS}

    assert {resource_of(metric)[1] for metric in of_aws if "none" not in dict(metric[2]).values()} <= set(
        DEFAULT.resources
    )


@pytest.mark.parametrize("stack", STACKS)
def test_the_widgets_fill_row_by_row(stack):
    widgets, column = stack.dashboard["widgets"], 0

    for widget in widgets:
        column = column % 24 + widget["width"]
        assert column <= 24
        assert widget["type"] == "text" or widget["properties"]["region"] == "AWS::Region"
    assert column == 24


def test_the_estimate_of_the_cost_is_that_of_the_prices_beside_it():
    hidden = {options["id"]: metric for metric, options in drawn(EVERYTHING.dashboard) if "id" in options}
    memory = {name: each["MemorySize"] for name, each in EVERYTHING.of("AWS::Lambda::Function").items()}
    month = {
        "Count": 2_000, "DataProcessed": 2**30, "Invocations": 5_000, "NumberOfEmptyReceives": 400_000,
        "CallArchived": 1_000, "BucketSizeBytes": 2**30, "NumberOfObjects": 4_000,
    }  # fmt: skip
    seconds = {name: 100 * 2**place for place, name in enumerate(memory)}

    def measured(metric: Metric) -> float:
        return 1000 * seconds[dict(metric[2])["FunctionName"]] if metric[1] == "Duration" else month[metric[1]]

    cost: dict[str, Any] = {"SUM": sum} | {name: measured(metric) for name, metric in hidden.items()}
    for name, expression in reversed(expressions(EVERYTHING.dashboard).items()):
        cost[name] = eval(expression, {}, cost)

    gigabyte_seconds = sum(seconds[name] * memory[name] / 1024 for name in memory)
    per_call = (6 * 5 + 3 * 0.4 + 4 * 3 * 0.4 + 2 * 0.5 + 20 * 0.625) * 1e-6
    parts = {
        "api": (2_000 + 2_048) * 1e-6,
        "functions": 6 * 5_000 * 0.2e-6 + gigabyte_seconds * 0.0000133334,
        "polling": 3 * 400_000 * 0.4e-6,
        "handling": 1_000 * round(per_call, 5),
        "storage": 0.023 + 0.0125 + 0.004 + 4_000 * 0.65 / 100_000,
    }
    assert {name: cost[name] for name in parts} == pytest.approx(parts)
    assert cost["total"] == pytest.approx(sum(parts.values()))


def test_the_runbook_has_an_entry_for_each_alarm_and_for_no_other():
    headings = re.findall(r"^### (.*)$", (ROOT / "RUNBOOK.md").read_text(), re.MULTILINE)

    assert {name for heading in headings for name in heading.split(", ")} == set(ALARMS)
