"""Runs one input through the real handlers on services in moto, and tells everything that could be seen of it."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import StringIO
from typing import Any

from botocore.client import BaseClient
from moto import mock_aws
from moto.backends import get_backend

import archiver.handler
import ingest.handler
import memory_writer.handler
from shared import keys
from shared.messages import ClaimCheck
from shared.observability import logger
from tests.conftest import client, create_resources, environment, forget, lambda_context, sqs_event
from tests.faults.fuzzing.inputs import SAMPLE, Delivery, Message, Request
from tests.mem0_stand_in import HostedMem0

Input = Request | Delivery | Message
ACCOUNT = "123456789012"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)


@dataclass
class Seen:
    """What one input led to. `dead` has the messages in the dead-letter queues with their attributes."""

    event: dict[str, Any] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    lines: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    dead: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    seconds: float = 0  # of CPU in our code, without the services


class FuzzAws:
    """The services, emptied before each input."""

    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs, self._log, self._services_took = outputs, StringIO(), 0.0
        self._s3 = get_backend("s3")[ACCOUNT]["aws"]
        self._queues = get_backend("sqs")[ACCOUNT]["us-east-1"].queues
        self._table = get_backend("dynamodb")[ACCOUNT]["us-east-1"].tables["conversations"]
        logger.registered_handler.stream = self._log
        self._bucket = self._s3.buckets[outputs["BucketName"]]

    def run(self, given: Input) -> Seen:
        self._clear()
        seen, runs = Seen(), {Request: self._ingest, Delivery: self._archive, Message: self._message}
        with redirect_stdout(self._log):
            runs[type(given)](given, seen)
        seen.lines = self._log.getvalue()
        seen.objects = {key: bytes(each.value) for key, each in self._bucket.keys.items()}
        seen.tags = {
            key: self._s3.tagger.get_tag_dict_for_resource(each.arn) for key, each in self._bucket.keys.items()
        }
        seen.records = [item.to_regular_json() for items in self._table.items.values() for item in items.values()]
        seen.announced += self._bodies("Announcements")
        for name in ("ArchiveDlqUrl", "MemoryDlqUrl"):
            for each in self._queues[name]._messages:
                attributes = {name: value["StringValue"] for name, value in each.message_attributes.items()}
                seen.dead.append((each.body, attributes))
        return seen

    def sample(self) -> tuple[str, str]:
        """A valid claim check and a valid announcement, of the same call."""
        seen = self.run(Delivery((SAMPLE,)))
        return seen.messages[0], seen.announced[-1]

    def _ingest(self, given: Request, seen: Seen) -> None:
        seen.event = given.event(datetime.now(timezone.utc))
        self._call(ingest.handler.lambda_handler, seen.event, seen)
        seen.messages = self._bodies("ArchiveQueueUrl")

    def _archive(self, given: Delivery, seen: Seen) -> None:
        waiting = [self._stage(body) for body in given.bodies]
        while waiting:
            seen.messages.append(waiting.pop(0))
            self._call(archiver.handler.lambda_handler, sqs_event(seen.messages[-1]), seen)
            waiting += self._bodies("ArchiveQueueUrl")
            self._queues["ArchiveQueueUrl"]._messages.clear()

    def _message(self, given: Message, seen: Seen) -> None:
        self._archive(Delivery((SAMPLE,)), seen)
        for each in self._queues.values():
            each._messages.clear()
        self._clear_log()
        seen.messages, seen.answers, seen.announced, seen.seconds = [given.text], [], [], 0
        handler = archiver.handler if given.to == "archiver" else memory_writer.handler
        self._call(handler.lambda_handler, sqs_event(given.text), seen)

    def _stage(self, body: bytes) -> str:
        delivery_id = hashlib.sha256(body).hexdigest()
        key = keys.staged(NOW, delivery_id)
        client("s3").put_object(Bucket=self._bucket.name, Key=key, Body=body, Metadata={"origin": "webhook"})
        return ClaimCheck(delivery_id, key, "2026-11-22T10:00:00Z", "webhook").to_json()

    def _call(self, handler: Callable[..., Any], event: dict[str, Any], seen: Seen) -> None:
        begun, self._services_took = time.process_time(), 0.0
        try:
            seen.answers.append(handler(event, lambda_context()))
        except Exception as error:
            seen.errors.append(error)
        seen.seconds += time.process_time() - begun - self._services_took

    def timed(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return request(*arguments, **named)
            finally:
                self._services_took += time.thread_time() - begun

        return call

    def _bodies(self, queue: str) -> list[str]:
        return [each.body for each in self._queues[queue]._messages]

    def _clear(self) -> None:
        for each in self._queues.values():
            each._messages.clear()
        self._bucket.keys.clear()
        self._s3.tagger.tags.clear()
        self._table.items.clear()
        self._clear_log()

    def _clear_log(self) -> None:
        self._log.seek(0)
        self._log.truncate()


@contextmanager
def fuzz_aws() -> Iterator[FuzzAws]:
    """New services in moto and a new Mem0; all is as before afterwards."""
    before, stream, request = dict(os.environ), logger.registered_handler.stream, BaseClient._make_api_call
    with mock_aws(config={"core": {"reset_boto3_session": False}}), HostedMem0(key="m0-test") as mem0:
        outputs = create_resources()
        secret = client("secretsmanager").create_secret(Name="mem0", SecretString="m0-test")["ARN"]
        os.environ |= environment(outputs)
        os.environ |= {"MEMORY_BACKEND": "platform", "MEM0_HOST": mem0.url, "MEMORY_SECRET_ARN": secret}
        forget()
        services = FuzzAws(outputs)
        # A plain function, so that it becomes a method of each client.
        BaseClient._make_api_call = lambda *arguments: services.timed(request)(*arguments)
        try:
            yield services
        finally:
            BaseClient._make_api_call = request
            logger.registered_handler.stream = stream
            os.environ.clear()
            os.environ.update(before)
            forget()
