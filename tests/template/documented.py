"""The metrics that AWS documents, and the alarms of the template as stacks have them."""

from typing import NamedTuple

import pytest

from scripts.operations.rules import Metric, watched
from tests.alarms import Deployed

DEFAULT = Deployed()


EVERYTHING = Deployed(
    ElevenLabsApiKey="xi-test", NoWebhookHours="3", AlarmEmail="duty@example.com", CanaryMinutes="15", Transcribe="all"
)  # fmt: skip


REMEMBERING = Deployed(ElevenLabsApiKey="xi-test", Mem0ApiKey="m0-test")


STACKS = [
    pytest.param(DEFAULT, id="default"),
    pytest.param(REMEMBERING, id="remembering"),
    pytest.param(EVERYTHING, id="everything"),
]


ALARMS = EVERYTHING.alarms


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
    # Athena user guide, "List of CloudWatch metrics and dimensions for Athena"
    "AWS/Athena": Documented("AWS::Athena::WorkGroup", "WorkGroup", "{}", {"ProcessedBytes": PLAIN}),
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
    of_queries = {"QueryState": "SUCCEEDED", "QueryType": "DML"} if namespace == "AWS/Athena" else {}
    assert given == of_queries, metric
    types = documented.metrics[name]
    assert (storage_type in types) if types else (storage_type is None), metric
    logical_name = value.split(".")[0]
    assert value == documented.value.format(logical_name), metric
    return documented.kind, logical_name


OF_AWS = [name for name in ALARMS if ALARMS[name]["Namespace"] in AWS]


FROM_LOGS = ["WebhookThrottledAlarm"]  # on a metric that CloudWatch itself counts in a log


def has_alarms(stack: Deployed) -> set[tuple[str, str]]:
    """Resource and metric of each alarm on a metric of AWS."""
    of_aws = [watched(alarm) for alarm in stack.alarms.values() if alarm["Namespace"] in AWS]
    return {(resource_of(metric)[1], metric[1]) for metric in of_aws}


def dead_letter_queues(stack: Deployed) -> set[str]:
    sources = [queue["RedrivePolicy"] for queue in stack.of("AWS::SQS::Queue").values() if "RedrivePolicy" in queue]
    return {policy["deadLetterTargetArn"].removesuffix(".Arn") for policy in sources}


def from_logs(stack: Deployed) -> set[Metric]:
    """The metrics that CloudWatch counts in logs."""
    changes = [each for rule in stack.of("AWS::Logs::MetricFilter").values() for each in rule["MetricTransformations"]]
    return {(each["MetricNamespace"], each["MetricName"], frozenset()) for each in changes}
