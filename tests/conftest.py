"""Shared by all tests: a stack's resources in moto, and Lambda events in AWS's form."""

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import boto3
import boto3.dynamodb.types
import httpx
import pytest
from moto import mock_aws
from moto.dynamodb.models import DynamoDBBackend

os.environ |= {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_METRICS_NAMESPACE": "AgenticMemory/test",
    "POWERTOOLS_SERVICE_NAME": "test",
}

from shared.indexes import INDEXES, LISTED, LISTS
from shared.observability import logger, metrics

# A shell starts background jobs with SIGINT ignored, and processes that the tests start would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

HTTP_CLIENTS: WeakSet[httpx.Client] = WeakSet()  # all that are in use: to look for them takes longer than most tests
make_client = httpx.Client.__init__


def remember_client(client: httpx.Client, *arguments: Any, **named: Any) -> None:
    HTTP_CLIENTS.add(client)
    make_client(client, *arguments, **named)


httpx.Client.__init__ = remember_client  # type: ignore[method-assign]

pytest_plugins = ["tests.browser"]
FOLDER = Path(__file__).parent
FIXTURES = FOLDER / "fixtures"
SECRET = "wsec_0123456789abcdef"
# The files that take longest, in this order.
LONGEST = [
    "scripts/operations/erasure/test_interrupted.py", "pipeline/test_operations.py", "scripts/deploy/test_deploy.py",
    "archiver/test_schedules.py", "pipeline/test_erasure.py", "pipeline/test_status.py",
    "memory_writer/test_schedules.py", "pipeline/test_faults.py", "archiver/test_arrays.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that none of them is still running when all others have ended."""
    places = {FOLDER / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def fixture_body(name: str) -> bytes:
    """The fixture whose file name begins with `name`, for example "02"."""
    return next(FIXTURES.glob(f"{name}*.json")).read_bytes()


def deserialise(row: dict[str, Any]) -> dict[str, Any]:
    """An item of DynamoDB as Python has it."""
    deserialiser = boto3.dynamodb.types.TypeDeserializer()
    return {name: deserialiser.deserialize(value) for name, value in row.items()}


@cache
def client(service: str) -> Any:
    """One client for all tests in moto: making one takes longer than most tests. Do not register hooks on it."""
    return boto3.client(service)


class Stack:
    """The resources that the handlers use, in moto or the embedded AWS, and their contents."""

    def __init__(self, client: Callable[[str], Any], outputs: dict[str, str]) -> None:
        self._client, self.outputs = client, outputs

    @cached_property
    def s3(self) -> Any:
        return self._client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self._client("sqs")

    @cached_property
    def dynamodb(self) -> Any:
        return self._client("dynamodb")

    @property
    def bucket(self) -> str:
        return self.outputs["BucketName"]

    def object_keys(self, prefix: str = "") -> set[str]:
        """All keys under `prefix`; without one, all keys except those of staged bodies and of rows."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        found = {item["Key"] for page in pages for item in page.get("Contents", [])}
        return found if prefix else {key for key in found if not key.startswith(("staging/", "text/"))}

    def body(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def json(self, key: str) -> Any:
        return json.loads(self.body(key))

    def head(self, key: str) -> dict[str, Any]:
        return self.s3.head_object(Bucket=self.bucket, Key=key)

    def tags(self, key: str) -> dict[str, str]:
        tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    def versions(self, prefix: str = "") -> set[tuple[str, str]]:
        """Every version of every object under `prefix`; without one, except staged bodies and rows."""
        pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        versions = [version for page in pages for version in page.get("Versions", []) + page.get("DeleteMarkers", [])]
        found = {(each["Key"], each["VersionId"]) for each in versions if not each["Key"].startswith("staging/")}
        return found if prefix else {each for each in found if not each[0].startswith("text/")}

    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The whole table, by conversation_id and item."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.outputs["ConversationTableName"])
        rows = [deserialise(row) for page in pages for row in page["Items"]]
        return {(row["conversation_id"], row["item"]): row for row in rows}

    def call(self, conversation_id: str) -> dict[str, Any]:
        """A call's record; empty if there is none."""
        table, key = self.outputs["ConversationTableName"], {"conversation_id": conversation_id, "item": "call"}
        found = self.dynamodb.get_item(
            TableName=table, Key={name: {"S": value} for name, value in key.items()}, ConsistentRead=True
        )
        return deserialise(found.get("Item", {}))

    def take(self, output: str) -> list[dict[str, Any]]:
        """Receive and delete all messages of the queue in this stack output."""
        url = self.outputs[output]
        taken: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            taken += messages
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return taken

    def announcements(self) -> list[dict[str, Any]]:
        return [json.loads(message["Body"]) for message in self.take("Announcements")]

    def reasons(self, output: str = "ArchiveDlqUrl") -> list[tuple[str, str]]:
        """The attributes `step` and `error` of each message in a dead-letter queue; empties the queue."""
        attributes = [message["MessageAttributes"] for message in self.take(output)]
        return [(each["step"]["StringValue"], each["error"]["StringValue"]) for each in attributes]


@pytest.fixture
def context() -> Any:
    return lambda_context()


def lambda_context() -> Any:
    return SimpleNamespace(
        function_name="test", memory_limit_in_mb=512, aws_request_id="request-1",
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:test",
        get_remaining_time_in_millis=lambda: 60_000,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def log_stream() -> Iterator[None]:
    """Restore the log's stream after the test: the operators' tool sets it to a stderr that is closed with the test."""
    before = logger.registered_handler.stream
    yield
    logger.registered_handler.stream = before


@pytest.fixture
def logs(log_stream: None) -> StringIO:
    """Captures everything that the functions log."""
    written = StringIO()
    logger.registered_handler.stream = written
    return written


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A new stack in moto. The handlers' environment names it, and their cached settings and clients are cleared."""
    update, one_at_a_time = DynamoDBBackend.update_item, Lock()

    def update_item(*arguments: Any, **named: Any) -> Any:
        with one_at_a_time:  # moto checks the condition and writes in two separate steps
            return update(*arguments, **named)

    monkeypatch.setattr(DynamoDBBackend, "update_item", update_item)
    with mock_aws(config={"core": {"reset_boto3_session": False}}):  # a reset would load all of AWS's models again
        outputs = create_resources()
        for name, value in environment(outputs).items():
            monkeypatch.setenv(name, value)
        forget()
        yield Stack(client, outputs)
    forget()


def create_resources() -> dict[str, str]:
    bucket = "elevenlabs-agentic-memory-test"
    s3, sqs, sns = client("s3"), client("sqs"), client("sns")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    create_table("conversations")
    queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
    topic = sns.create_topic(Name="call-archived")["TopicArn"]
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Attributes={"RawMessageDelivery": "true"},
        Endpoint="arn:aws:sqs:us-east-1:123456789012:Announcements",
    )  # fmt: skip
    secret = client("secretsmanager").create_secret(Name="webhook", SecretString=SECRET)["ARN"]
    erasure = client("secretsmanager").create_secret(Name="erasure", SecretString="invented-key-of-tombstones")["ARN"]
    return queues | {
        "BucketName": bucket, "ConversationTableName": "conversations", "CallArchivedTopicArn": topic,
        "WebhookSecretArn": secret, "ErasureSecretArn": erasure,
    }  # fmt: skip


def create_table(name: str) -> None:
    """The ConversationTable of the template."""
    keys = {"table": ("conversation_id", "item")} | INDEXES
    schemas = {
        index: [{"AttributeName": hash_key, "KeyType": "HASH"}, {"AttributeName": range_key, "KeyType": "RANGE"}]
        for index, (hash_key, range_key) in keys.items()
    }
    client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=schemas.pop("table"),
        AttributeDefinitions=[
            {"AttributeName": each, "AttributeType": "S"} for each in {each for pair in keys.values() for each in pair}
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": index, "KeySchema": schema, "Projection": projection(index)}
            for index, schema in schemas.items()
        ],
    )  # fmt: skip


def projection(index: str) -> dict[str, Any]:
    if index in LISTS:
        return {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(LISTED)}
    return {"ProjectionType": "KEYS_ONLY"}


QUEUES = (
    "ArchiveQueueUrl", "ArchiveDlqUrl", "MemoryDlqUrl", "AudioQueueUrl", "AudioDlqUrl", "TranscribeQueueUrl",
    "TranscribeDlqUrl", "TextQueueUrl", "TextDlqUrl", "Announcements",
)  # fmt: skip


def environment(outputs: dict[str, str]) -> dict[str, str]:
    return {
        "BUCKET_NAME": outputs["BucketName"],
        "ARCHIVE_QUEUE_URL": outputs["ArchiveQueueUrl"],
        "ERASURE_SECRET_ARN": outputs["ErasureSecretArn"],
        "WEBHOOK_SECRET_ARN": outputs["WebhookSecretArn"],
        "SIGNATURE_MAX_AGE_SECONDS": "3600",
        "SIGNATURE_MAX_AHEAD_SECONDS": "300",
        "SECRET_OVERLAP_SECONDS": "86400",
        "SOURCE_ADDRESSES": "off",
        "ALLOWED_SOURCES": "203.0.113.7",
        "SECRET_CACHE_SECONDS": "300",
        "SECRET_GRACE_SECONDS": "900",
        "CONVERSATION_TABLE_NAME": outputs["ConversationTableName"],
        "CALL_ARCHIVED_TOPIC_ARN": outputs["CallArchivedTopicArn"],
        "DLQ_URL": outputs["ArchiveDlqUrl"],
        "MEMORY_BACKEND": "oss",
        "MEM0_HOST": "http://127.0.0.1:9",
        "MEMORY_TIMEOUT_SECONDS": "120",
        "MEMORY_INFERENCE": "false",
        "MEMORY_LEASE_SECONDS": "180",
        "MEMORY_UNKNOWN_SECONDS": "3600",
        "AUDIO_QUEUE_URL": outputs["AudioQueueUrl"],
        "ELEVENLABS_SECRET_ARN": "",
        "ELEVENLABS_HOST": "http://127.0.0.1:9",
        "HTTP_API_ID": "api123",
        "RECONCILE_AFTER_MINUTES": "60",
        "POST_CALL_URL": "http://127.0.0.1:9",
        "MEMORY_QUEUE_URL": "",
        "CANARY_STEP_SECONDS": "5",
        "KEEP_AUDIO": "true",
        "GZIP_JSON": "false",
        "MINIMUM_CALL_SECONDS": "0",
        "AGENT_IDS": "",
        "MEMORY_SECRET_ARN": "",
        "TRANSCRIBE_QUEUE_URL": outputs.get("TranscribeQueueUrl", ""),
        "TEXT_QUEUE_URL": "",
        "JOB_PREFIX": "6f1c0e52-0000-4000-8000-000000000000",
        "KMS_KEY_ARN": "",
        "TRANSCRIBE": "all",
        "TRANSCRIBE_CHECK_SECONDS": "0",
        "TEXT_DATABASE": "texts",
        "TEXT_TABLE": "turns",
        "ATHENA_WORKGROUP": "searches",
        "TEXT_TIMEOUT_SECONDS": "300",
    }


def forget() -> None:
    """Clear everything that the handlers cache, like a new execution environment."""
    import api.handler
    import archiver.handler
    import canary.handler
    import indexer.handler
    import ingest.handler
    import memory_writer.handler
    import reconciler.handler
    import transcriber.handler

    handlers = (
        ingest.handler, archiver.handler, memory_writer.handler, reconciler.handler, canary.handler, api.handler,
        transcriber.handler, indexer.handler,
    )  # fmt: skip
    for handler in handlers:
        handler.settings.cache_clear()
        handler.aws.cache_clear()
    archiver.handler.archiver.cache_clear()
    archiver.handler.sns.cache_clear()
    transcriber.handler.jobs.cache_clear()
    api.handler.signer.cache_clear()
    api.handler.remembered.cache_clear()
    api.handler.storage.cache_clear()
    api.handler.athena.cache_clear()
    metrics.clear_metrics()
    memory_writer.handler.make_backend.cache_clear()
    reconciler.handler._elevenlabs.cache_clear()


def close_clients() -> None:
    """Close the connections that a warm function would keep."""
    for each in list(HTTP_CLIENTS):
        each.close()


def sqs_event(*bodies: str) -> dict[str, Any]:
    """An SQS batch in Lambda's form, with the messages message-1, message-2, ..."""
    return {"Records": [_sqs_record(number, body) for number, body in enumerate(bodies, start=1)]}


def _sqs_record(number: int, body: str) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}", "receiptHandle": f"handle-{number}", "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1772550280000",
                       "SenderId": "test", "ApproximateFirstReceiveTimestamp": "1772550280001"},
        "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:ArchiveQueue", "awsRegion": "us-east-1",
    }  # fmt: skip
