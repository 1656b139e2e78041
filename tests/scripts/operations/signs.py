"""Signs by which `ops status` sees how a stack is: messages, alarms, lines of the log, and what functions counted."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3

from reconciler.bookmarks import Bookmarks
from shared.times import utc
from tests.alarms import Deployed
from tests.conftest import Stack
from tests.scripts.operations.conftest import table, write_log

QUEUES = ("ArchiveQueue", "ArchiveDlq", "MemoryQueue", "MemoryDlq", "AudioQueue", "AudioDlq")


def send(stack: Stack, output: str, number: int = 1, **options: Any) -> None:
    for _ in range(number):
        stack.sqs.send_message(QueueUrl=stack.outputs[output], MessageBody="{}", **options)


def receive(stack: Stack, output: str) -> None:
    """A message is at work, or has failed and is invisible until its visibility timeout ends."""
    stack.sqs.receive_message(QueueUrl=stack.outputs[output])


def age(queue: str, seconds: int, *, minutes_ago: int = 1) -> None:
    """Let CloudWatch know the age of a queue's oldest message."""
    point = {
        "MetricName": "ApproximateAgeOfOldestMessage", "Value": seconds,
        "Dimensions": [{"Name": "QueueName", "Value": queue}],
        "Timestamp": datetime.now(timezone.utc) - timedelta(minutes=minutes_ago),
    }  # fmt: skip
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=[point])


def alarm(name: str, description: str, state: str = "ALARM") -> None:
    """An alarm that CloudWatch alone can judge."""
    cloudwatch = boto3.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name, AlarmDescription=description, Namespace="AWS/SQS", MetricName="Any", Statistic="Maximum",
        Period=60, EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


def deploy_alarms(stack: Stack, **thresholds: float) -> None:
    """The template's own alarms, about the queues and functions of the stack `calls`; `thresholds` by alarm."""
    values = {f"{queue}.QueueName": stack.outputs[f"{queue}Url"].rsplit("/", 1)[-1] for queue in QUEUES}
    kept = {"AlarmDescription", "Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "Threshold",
            "ComparisonOperator", "TreatMissingData"}  # fmt: skip
    for name, properties in Deployed(ElevenLabsApiKey="xi-test", Mem0ApiKey="m0-test").alarms.items():
        given = {field: value for field, value in properties.items() if field in kept}
        numbers = {field: int(given[field]) for field in ("Period", "EvaluationPeriods")}
        numbers |= {"Threshold": thresholds.get(name, float(given["Threshold"]))}
        dimensions = [
            each | {"Value": values.get(each["Value"], each["Value"])} for each in properties.get("Dimensions", [])
        ]
        namespace = given["Namespace"].replace("AgenticMemory/stack", "AgenticMemory/calls")
        boto3.client("cloudwatch").put_metric_alarm(
            **given | numbers | {"AlarmName": f"calls-{name}-1A2B", "Dimensions": dimensions, "Namespace": namespace}
        )


def failure(exception: str, **fields: str) -> dict[str, str]:
    return {
        "level": "WARNING",
        "message": "Record processing exception",
        "exception": f"Traceback\n{exception}",
    } | fields


def count(
    metric: str, number: int = 1, *, service: str = "ingest", reason: str | None = None, seconds_ago: float = 0
) -> None:
    """A function counts an outcome, and once more under its reason, each time in a line of its log."""
    at = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    dimensions = [{"service": service}] + ([{"service": service, "reason": reason}] if reason else [])
    lines = [line(metric, each) for each in dimensions] * number
    write_log(service, *lines, at=at)


def line(metric: str, dimensions: dict[str, str]) -> str:
    """A metric in the embedded metric format, as Powertools writes it."""
    directive = {
        "Namespace": "AgenticMemory/calls", "Dimensions": [sorted(dimensions)],
        "Metrics": [{"Name": metric, "Unit": "Count"}],
    }  # fmt: skip
    blob = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}} | dimensions | {metric: [1.0]}
    return json.dumps(blob, separators=(",", ":"))


def report(stack: Stack, **found: Any) -> None:
    """What the last hourly run found."""
    Bookmarks(table(stack)).write("report", json.dumps({"at": utc(datetime.now(timezone.utc))} | found))
