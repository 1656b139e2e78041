"""Scenes: each function does all that it can do, in moto, so that all its calls of AWS are recorded."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from threading import Thread
from typing import Any

import boto3
import pytest
from moto import mock_aws

import api.handler
from scripts.embedded.elevenlabs import ElevenLabs
from shared.indexes import DAYS, listing
from shared.messages import ClaimCheck
from shared.record import MEMORIES
from shared.texts import Row
from shared.tombstones import Tombstones
from tests.alarms import Deployed
from tests.api.conftest import event as request
from tests.archiver.conftest import audio, envelope, stage, stage_recording, staged_key, transcript
from tests.athena_stand_in import Athena
from tests.conftest import SECRET, Stack, close_clients, create_table, forget, lambda_context, sqs_event
from tests.ingest.conftest import signed
from tests.memory_writer.conftest import announce, small_call
from tests.options import EVERYTHING as ALL_OPTIONS
from tests.policies import (
    BUCKET,
    PHYSICAL,
    TOPIC,
    Gap,
    Watch,
    environment,
    is_invoked,
)
from tests.processes import LONGEST
from tests.reconciler.conftest import KEY, NOW, conversation
from tests.transcriber.conftest import amazon_transcribe


class World:
    """One function of a stack in moto, with ElevenLabs and Mem0 beside it."""

    def __init__(self, aws: Stack, watch: Watch, handler: Any, elevenlabs: ElevenLabs) -> None:
        self.aws, self.watch, self.elevenlabs, self._handler = aws, watch, elevenlabs, handler

    def run(self, event: Any) -> Any:
        context = lambda_context()
        context.get_remaining_time_in_millis = lambda: 900_000
        with self.watch.hearing():
            return self._handler(event, context)

    def work(self, *bodies: str) -> None:
        """Handle messages; none of them fails."""
        assert self.run(sqs_event(*bodies)) == {"batchItemFailures": []}

    def change(self, conversation_id: str, item: str = "call", **fields: str) -> None:
        """Write into a call's record."""
        self.aws.dynamodb.update_item(
            TableName="ConversationTable", Key={"conversation_id": {"S": conversation_id}, "item": {"S": item}},
            UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in fields)}",
            ExpressionAttributeNames={f"#{name}": name for name in fields},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in fields.items()},
        )  # fmt: skip


def a_webhook(world: World) -> None:
    assert world.run(signed())["statusCode"] == 200


def a_call_in_two_versions(world: World) -> None:
    first, second = (stage(world.aws, transcript("conv_1", at=at)) for at in (1772550278, 1772550279))
    world.work(first, first, second)


def audio_before_its_call(world: World) -> None:
    world.work(stage(world.aws, audio("conv_2")))
    world.work(stage(world.aws, transcript("conv_2")))


def a_recording_that_was_fetched(world: World) -> None:
    world.work(stage_recording(world.aws, "conv_1", b"ID3 sound"))


def another_event(world: World) -> None:
    world.work(stage(world.aws, envelope({"conversation_id": "conv_1"}, "call_initiation_failure")))


def a_call_of_two_numbers(world: World) -> None:
    world.work(stage(world.aws, envelope({"conversation_id": "conv_1", "external_number": "+12025550124"}, "mood")))


def an_event_about_no_call(world: World) -> None:
    world.work(stage(world.aws, envelope({"external_number": "+12025550124"}, "voice_removed")))


def an_array(world: World) -> None:
    world.work(stage(world.aws, [transcript("conv_4"), transcript("conv_5")]))


def a_late_body_of_an_erased_call(world: World) -> None:
    world.change("conv_3", erased_at="2026-11-22T10:00:00Z")
    world.work(stage(world.aws, transcript("conv_3")))


def a_call_of_an_erased_caller(world: World) -> None:
    table = boto3.Session().resource("dynamodb").Table("ConversationTable")
    Tombstones(table, lambda: SECRET).record_erasure("12025550125", datetime.now(timezone.utc))
    number = {"metadata": {"phone_call": {"external_number": "+12025550125"}}}
    world.work(stage(world.aws, envelope({"conversation_id": "conv_6"}, "mood")))
    world.change("conv_6", erased_at="2026-11-22T10:00:00Z")  # by an attempt long ago
    world.work(stage(world.aws, transcript("conv_6", **number)))


def a_claim_check_without_its_body(world: World) -> None:
    delivery_id = "0" * 64
    world.work(
        ClaimCheck(
            delivery_id, f"staging/2026/11/22/10/{delivery_id}.json", "2026-11-22T10:00:00Z", "webhook"
        ).to_json()
    )


def a_call_to_remember_and_to_forget(world: World) -> None:
    announcement = announce(world.aws, small_call())
    world.work(announcement)
    world.change("conv_1", erased_at="2026-11-22T10:00:00Z")
    world.work(announcement)


def a_call_to_remember_from_its_staged_body(world: World) -> None:
    body = envelope(small_call(conversation_id="conv_2"))
    key = staged_key(stage(world.aws, body))
    world.work(announce(world.aws, body["data"], source_key=key, json_key=None))


def an_announced_call_that_is_gone(world: World) -> None:
    world.work(announce(world.aws, small_call(conversation_id="conv_3"), source_key="12025550123/gone.json"))


def indexed(world: World, conversation_id: str, order: str = "1-1") -> str:
    """A call with its record; returns its announcement."""
    world.change(conversation_id, t_order=order, listed_at="2026-11-22T10:00:00Z")
    return announce(world.aws, small_call(conversation_id=conversation_id))


def calls_to_index(world: World) -> None:
    first = indexed(world, "conv_1")
    world.watch.conflicts = 1
    world.work(first, indexed(world, "conv_2"))
    world.work(first)
    body = envelope(small_call(conversation_id="conv_2"))
    key = staged_key(stage(world.aws, body))
    world.work(announce(world.aws, body["data"], source_key=key, json_key=None))


def files_to_merge(world: World) -> None:
    world.run({})


def an_hour_in_which_webhooks_failed(world: World) -> None:
    """One call was staged and not queued, one was never sent, and one lacks its recording."""
    now = datetime.now(timezone.utc)
    stage(world.aws, transcript("conv_1"), now=now - timedelta(hours=3))
    world.elevenlabs.add(conversation("conv_2", ended=NOW - now + timedelta(hours=3)))
    awaited = {"audio": "pending", "open_audio": "pending", "t_order": "1", "archived_at": "2026-01-01T10:00:00Z"}
    world.change("conv_3", **awaited)
    world.watch.conflicts = 1
    world.run({})


def a_recording_to_fetch(world: World) -> None:
    world.change("conv_1", audio="pending", open_audio="pending", t_order="1")
    world.elevenlabs.audio["conv_1"] = b"ID3 sound"
    world.watch.conflicts = 1
    world.work(announce(world.aws, small_call()))


def a_recording_that_is_not_there(world: World) -> None:
    world.change("conv_2", audio="pending", open_audio="pending", t_order="1")
    world.work(announce(world.aws, small_call(conversation_id="conv_2")))


def a_recording_to_transcribe(world: World) -> None:
    """It is asked for twice at the same moment, and fails once."""
    key, order = "12025550123/conv_1", {"order": "1-1772550281000-a"}
    facts = {"folder": "12025550123", "t_order": "1", "json_key": f"{key}.json", "audio": "archived"}
    world.change("conv_1", **facts)
    announcement = announce(world.aws, small_call() | {"transcript": []}, event="audio_archived")
    world.aws.s3.put_object(Bucket=BUCKET, Key=f"{key}.mp3", Body=b"ID3 sound", Metadata=order)
    world.aws.s3.put_object(Bucket=BUCKET, Key=f"{key}.json", Body=b'{"transcript": []}')
    with amazon_transcribe(world.aws) as amazon:
        world.work(announcement)
        world.work(amazon.fail(*amazon.jobs, "No audio."))
        world.work(announcement)
        world.watch.conflicts = 1
        world.work(amazon.complete(*amazon.jobs))


def a_recording_of_an_erased_call(world: World) -> None:
    world.change("conv_1", erased_at="2026-11-22T10:00:00Z")
    world.work(announce(world.aws, small_call(), event="audio_archived"))


def nonsense(world: World) -> None:
    world.work("nonsense")


def a_test_call(world: World) -> None:
    """The rest of the stack works while the canary polls: what it did not find is there the next time."""
    conversation_id = ""
    staged = f"staging/2026/11/22/10/{'0' * 64}.json"

    def record_as_archived(webhook: Any) -> None:
        nonlocal conversation_id
        conversation_id = webhook["data"]["conversation_id"]
        objects = {f"{kind}_key": f"no-phone/{conversation_id}.{kind}" for kind in ("json", "mp3")}
        world.change(conversation_id, **objects)
        world.aws.dynamodb.update_item(
            TableName="ConversationTable", Key={"conversation_id": {"S": conversation_id}, "item": {"S": "call"}},
            UpdateExpression="ADD staged_keys :staged", ExpressionAttributeValues={":staged": {"SS": [staged]}},
        )  # fmt: skip

    def archive(**_: Any) -> None:
        for key in (staged, f"no-phone/{conversation_id}.json", f"no-phone/{conversation_id}.mp3"):
            world.aws.s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        for item in MEMORIES:
            world.change(conversation_id, item, state="done")

    def forget_memories(**_: Any) -> None:
        for item in MEMORIES:
            key = {"conversation_id": {"S": conversation_id}, "item": {"S": item}}
            world.aws.dynamodb.delete_item(TableName="ConversationTable", Key=key)

    world.watch.session.events.register("after-call.s3.HeadObject", archive, unique_id="archive")
    world.watch.session.events.register("after-call.sqs.SendMessage", forget_memories, unique_id="forget")
    with endpoint(record_as_archived) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("POST_CALL_URL", url)
        patch.setattr("canary.canary.POLL", 0.01)
        assert "deleted" in world.run({})


def readers_requests(world: World) -> None:
    """Each route, for a call that is there, and for one whose objects are gone."""
    facts = {"agent_id": "agent_1", "external_number": "+12025550123", "t_order": "1", "audio": "archived"}
    for conversation_id in ("conv_1", "conv_2"):
        keys = {f"{kind}_key": f"12025550123/{conversation_id}.{kind}" for kind in ("json", "mp3")}
        listed = listing(conversation_id, "agent_1", "2026-11-22T10:00:00Z")
        world.change(conversation_id, **facts, **keys, **listed, caller="12025550123", text_order="1")
    day = {"conversation_id": {"S": DAYS}, "item": {"S": "2026-11-22"}}
    world.aws.dynamodb.put_item(TableName="ConversationTable", Item=day)
    body = json.dumps({"transcript": [{"role": "user", "message": "Hello."}], "metadata": {}}).encode()
    for name in ("conv_1.json", "conv_1.mp3"):
        world.aws.s3.put_object(Bucket=BUCKET, Key=f"12025550123/{name}", Body=body)
    rows = Athena(
        api.handler.athena().client, boto3.Session().client("s3"), BUCKET, "TextDatabase", "TextTable"
    )  # fmt: skip
    at = int(datetime(2026, 11, 22, 10, tzinfo=timezone.utc).timestamp())
    said = {"conversation_id": "conv_1", "agent_id": "agent_1", "caller": None, "started": at, "version": "1"}
    rows.put("2026-11-22", Row(**said, turn=0, role="user", words=" hello "))
    month = {"agent": "agent_1", "from": "2026-11-01", "to": "2026-11-30"}
    for path, query in {
        "/calls": {}, "/calls/conv_1": {}, "/calls/conv_2": {}, "/calls/conv_1/transcript": {},
        "/calls/conv_1/audio": {}, "/calls/conv_1/json": {}, "/callers/+12025550123": {}, "/stats": month,
        "/search": month | {"q": "hello"},
    }.items():  # fmt: skip
        answer = world.run(request(path, query))
        assert answer["statusCode"] == 200, answer
    assert world.run(request("/calls", month))["statusCode"] == 200


@contextmanager
def endpoint(record_as_archived: Callable[[Any], None]) -> Iterator[str]:
    """Where webhooks are posted to."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            record_as_archived(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/post-call"
        server.shutdown()
        thread.join(LONGEST)


# A new function is a line here, and each new thing that it does is a scene.
SCENES: dict[str, list[Callable[[World], None]]] = {
    "IngestFunction": [a_webhook],
    "ArchiverFunction": [
        a_call_in_two_versions, audio_before_its_call, a_recording_that_was_fetched, another_event,
        a_call_of_two_numbers, an_event_about_no_call, an_array,
        a_late_body_of_an_erased_call, a_call_of_an_erased_caller, a_claim_check_without_its_body,
    ],
    "MemoryWriterFunction": [
        a_call_to_remember_and_to_forget, a_call_to_remember_from_its_staged_body, an_announced_call_that_is_gone,
    ],
    "ReconcilerFunction": [an_hour_in_which_webhooks_failed],
    "AudioFunction": [a_recording_to_fetch, a_recording_that_is_not_there, nonsense],
    "TranscriberFunction": [a_recording_to_transcribe, a_recording_of_an_erased_call],
    "IndexerFunction": [calls_to_index, files_to_merge, an_announced_call_that_is_gone],
    "CanaryFunction": [a_test_call],
    "ReadFunction": [readers_requests],
}  # fmt: skip


# Parameters of stacks whose roles are compared. A new option is a line here.
STACKS: dict[str, dict[str, str]] = {
    "by default": {},
    "with a canary alone": {"CanaryMinutes": "60"},
    "with everything": ALL_OPTIONS
    | {"ElevenLabsApiKey": KEY, "Mem0ApiKey": "m0-test", "CanaryMinutes": "60", "SourceAddresses": "metric"},
}


OTHER_ROLES = {"ReplicationRole", "DeploymentRole"}  # that services of AWS take, not functions


NO_GAP = Gap(set(), set())


EVERYTHING = Deployed(**STACKS["with everything"])


@cache
def first_alike(name: str, function: str) -> str:
    """The first stack in which the function has the same environment."""
    stacks = {each: Deployed(**parameters) for each, parameters in STACKS.items()}
    wanted = environment(stacks[name], function)
    return next(
        each for each, stack in stacks.items() if is_invoked(stack, function) and environment(stack, function) == wanted
    )


@contextmanager
def world_of(parameters: dict[str, str], function: str, watch: Watch, elevenlabs: Any = None) -> Iterator[World]:
    """A function of a new stack, in the environment that the template gives it."""
    stack = Deployed(**PHYSICAL, WebhookSecretValue=SECRET, **parameters)
    properties = stack.of("AWS::Lambda::Function")[function]
    module, _, handler = properties["Handler"].rpartition(".")
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for variable, value in environment(stack, function).items():
            patch.setenv(variable, value)
        patch.setattr(boto3, "DEFAULT_SESSION", watch.session)
        patch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
        patch.setattr("memory_writer.remember.POLL", 0.01)
        forget()
        yield World(create(stack), watch, getattr(import_module(module), handler), elevenlabs)
        close_clients()
    forget()


def create(stack: Deployed) -> Stack:
    """The resources of the template, under the names that it gives them."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    boto3.client("sns").create_topic(Name=TOPIC.rsplit(":", maxsplit=1)[-1])
    for queue in stack.of("AWS::SQS::Queue"):
        boto3.client("sqs").create_queue(QueueName=queue)
    for table in stack.of("AWS::DynamoDB::Table"):
        create_table(table)
    for secret, properties in stack.of("AWS::SecretsManager::Secret").items():
        value = properties.get("SecretString", SECRET)  # or a random one
        boto3.client("secretsmanager").create_secret(Name=f"{secret}.Id", SecretString=value)
    outputs = {"BucketName": BUCKET, "ConversationTableName": "ConversationTable"}
    return Stack(boto3.Session().client, outputs)  # not watched
