"""Lambda: invocations of the real handlers, from HTTP, from queues by event source mappings, and every hour."""

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import archiver.handler
import ingest.handler
import memory_writer.handler
import reconciler.handler
from scripts.deploy.parameters import read_constants
from tests.conftest import forget
from tests.faults.simulator.scheduler import Crash, Fibre, Process
from tests.faults.simulator.world import World

CONSTANTS = {name: int(value) for name, value in read_constants(Path("template.yaml")).items()}
MOST_COPIES = 10  # messages in a queue, beyond which SQS doubles none
LOST = {"statusCode": 502, "body": ""}  # what API Gateway answers for a function that died or ran out of time


@dataclass(frozen=True)
class Source:
    """An event source mapping: a queue, the function that it feeds, and the function's timeout."""

    queue: str
    function: str
    module: ModuleType
    seconds: int
    dlq: str

    @property
    def handler(self) -> Callable[[dict[str, Any], Any], Any]:
        handle: Callable[[dict[str, Any], Any], Any] = self.module.lambda_handler
        return handle


class Lambda:
    """The stack's functions. `concurrency` is how many messages of a queue are at work at the same time."""

    def __init__(self, world: World, urls: dict[str, str], concurrency: int) -> None:
        self._world, self._concurrency = world, concurrency
        archive, memory, audio = (CONSTANTS[f"{name}TimeoutSeconds"] for name in ("Archive", "Memory", "Audio"))
        self.sources = [
            Source(urls["ArchiveQueueUrl"], "archiver", archiver.handler, archive, urls["ArchiveDlqUrl"]),
            Source(urls["MemoryQueueUrl"], "memory", memory_writer.handler, memory, urls["MemoryDlqUrl"]),
            Source(urls["AudioQueueUrl"], "audio", reconciler.handler, audio, urls["AudioDlqUrl"]),
        ]
        self._at_work = dict.fromkeys((each.queue for each in self.sources), 0)
        self._polls_at = dict.fromkeys(self._at_work, float("inf"))
        self._names: dict[str, int] = {}
        world.after_call = lambda service: self.poll_all() if service in ("sqs", "sns") else None

    def start(self, environment: dict[str, str]) -> None:
        """New execution environments: each function reads its settings, which differ by the queue for its failures."""
        forget()
        os.environ.update(environment)
        for source in self.sources:
            os.environ["DLQ_URL"] = source.dlq
            source.module.settings()

    # Invocations

    def invoke(
        self, name: str, handler: Callable[[dict[str, Any], Any], Any], event: dict[str, Any], seconds: int,
        then: Callable[[Any], None],
    ) -> None:  # fmt: skip
        """Start an invocation; `then` gets its answer, or None if it raised, died or ran out of time."""
        number = self._names[name] = self._names.get(name, 0) + 1
        process = self._world.process(f"{name}#{number}", seconds)
        fibre = self._world.scheduler.start(process, partial(self._run, process, handler, event))
        fibre.then.append(partial(self._ended, process, fibre, then))

    def _ended(self, process: Process, fibre: Fibre, then: Callable[[Any], None]) -> None:
        if fibre.error:
            self._world.note(process, f"ends with {type(fibre.error).__name__}: {fibre.error}")
        then(fibre.result if fibre.error is None else None)

    def _run(self, process: Process, handler: Callable[[dict[str, Any], Any], Any], event: dict[str, Any]) -> Any:
        clock = self._world.scheduler
        context = SimpleNamespace(
            function_name="simulated", memory_limit_in_mb=512, aws_request_id=process.name, invoked_function_arn="arn",
            get_remaining_time_in_millis=lambda: (process.deadline - clock.now) * 1000,
        )  # fmt: skip
        answer = handler(event, context)
        if process.dies_before is not None and process.calls < process.dies_before <= process.calls + 2:
            raise Crash  # after its last call, before its answer
        return answer

    # HTTP

    def post(self, name: str, body: bytes, headers: dict[str, str], then: Callable[[dict[str, Any]], None]) -> None:
        event = {
            "body": base64.b64encode(body).decode(), "isBase64Encoded": True, "headers": headers,
            "requestContext": {"http": {"sourceIp": "203.0.113.7"}},
        }  # fmt: skip
        self.invoke(name, ingest.handler.lambda_handler, event, 15, lambda answer: then(answer or LOST))

    # Queues

    def poll_all(self) -> None:
        for source in self.sources:
            self._poll(source)

    def _poll(self, source: Source) -> None:
        """Receive what is visible, and look again when the next message becomes visible."""
        sqs = self._world.sqs
        while self._at_work[source.queue] < self._concurrency and self._receive(source):
            pass
        due = sqs.next_change(source.queue)
        if due is not None and due < self._polls_at[source.queue] and self._at_work[source.queue] < self._concurrency:
            self._polls_at[source.queue] = due = max(due, self._world.scheduler.now + 0.01)
            self._world.scheduler.at(due, partial(self._poll_again, source))

    def _poll_again(self, source: Source) -> None:
        self._polls_at[source.queue] = float("inf")
        self._poll(source)

    def _receive(self, source: Source) -> bool:
        asked = {"QueueUrl": source.queue, "AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
        answer = self._world.sqs.call("receive_message", asked)
        for message in answer.get("Messages", []):
            if self._world.random.random() < self._world.faults.doubles and self._may_double(source):
                self._world.sqs.duplicate(source.queue, message)
            self._at_work[source.queue] += 1
            self._invoke_for(source, message)
        return bool(answer.get("Messages"))

    def _may_double(self, source: Source) -> bool:
        """Copies are not copied without end."""
        return self._world.is_faulty and len(self._world.sqs.messages(source.queue)) < MOST_COPIES

    def _invoke_for(self, source: Source, message: dict[str, Any]) -> None:
        record = {
            "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
            "attributes": message.get("Attributes", {}), "messageAttributes": {}, "md5OfBody": "",
            "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:q", "awsRegion": "us-east-1",
        }  # fmt: skip
        self._world.note(source.function, f"receives {message['Body'][:150]}")
        self.invoke(
            source.function,
            source.handler,
            {"Records": [record]},
            source.seconds,
            partial(self._finish, source, message),
        )

    def _finish(self, source: Source, message: dict[str, Any], answer: Any) -> None:
        """Delete the message if its record did not fail; the deletion may get lost."""
        self._at_work[source.queue] -= 1
        is_done = answer is not None and not answer["batchItemFailures"]
        is_lost = self._world.is_faulty and self._world.random.random() < self._world.faults.lost_deliveries
        self._world.note(
            source.function,
            "done" if is_done else "failed",
            "its message is not deleted" if is_lost and is_done else None,
        )
        if is_done and not is_lost:
            self._world.sqs.call(
                "delete_message", {"QueueUrl": source.queue, "ReceiptHandle": message["ReceiptHandle"]}
            )
        self._poll(source)

    # Every hour

    def reconcile(self, then: Callable[[Any], None] = lambda _: None) -> None:
        self.invoke("reconciler", reconciler.handler.lambda_handler, {}, 900, then)
