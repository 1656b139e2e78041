"""The functions at work as the template configures them, and what may happen to them."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Metrics

from scripts.embedded.elevenlabs import ElevenLabs
from scripts.operations.rules import Metric
from shared.observability import metrics
from shared.times import utc
from tests.alarms import emitted
from tests.archiver.conftest import audio, stage, transcript
from tests.canary.conftest import endpoint
from tests.conftest import SECRET, Stack, close_clients, forget, sqs_event
from tests.ingest.conftest import signed
from tests.mem0_stand_in import HostedMem0
from tests.reconciler.conftest import KEY, NOW, conversation
from tests.reconciler.test_watchdog import webhook
from tests.template.documented import EVERYTHING


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
        """Invoke a function of the template. It starts cold unless it ran last."""
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
        """Let a function handle all messages of its queue."""
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
    """A call that ended so many hours ago, as ElevenLabs lists it."""
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


def all_is_fixed(world: World) -> None:
    """Fetch and archive what was missing; then run a pass."""
    world.elevenlabs.key, world.elevenlabs.webhooks = KEY, {"webhooks": [webhook()]}
    for conversation_id in world.elevenlabs.conversations:
        world.elevenlabs.audio[conversation_id] = b"ID3 sound"
    for queue, function in (("Archive", "Archiver"), ("Audio", "Audio"), ("Archive", "Archiver")):
        world.work(f"{function}Function", f"{queue}Queue")
    hourly_pass(world)


def a_test_call(world: World) -> None:
    with endpoint(world.aws, world.context) as url:
        world.patch.setenv("POST_CALL_URL", url)
        world.warm = ""
        world.run("CanaryFunction", {})


def a_test_call_that_fails(world: World) -> None:
    world.patch.setenv("POST_CALL_URL", "http://127.0.0.1:9")
    world.warm = ""
    world.run("CanaryFunction", {})


def the_call_of_the_audio(world: World) -> None:
    if world.aws.call("conv_parked"):
        world.run("ArchiverFunction", sqs_event(stage(world.aws, transcript("conv_parked"))))
    hourly_pass(world)
