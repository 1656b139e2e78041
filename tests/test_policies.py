"""Least privilege: each function's role allows what the function calls on AWS, and nothing else.

What is called is heard while the functions work in moto, with the environment that the template gives them. That the
scenes below leave nothing out is told by the code itself: each place in it that calls AWS must have been at work.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from threading import Thread
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from scripts.deployment import TEMPLATE
from scripts.elevenlabs_stand_in import ElevenLabs
from shared.messages import ClaimCheck
from shared.record import MEMORIES
from shared.tombstones import Tombstones
from tests.alarms import Deployed
from tests.archiver.conftest import audio, envelope, stage, stage_recording, staged_key, transcript
from tests.conftest import SECRET, Stack, close_clients, create_table, forget, lambda_context, sqs_event
from tests.ingest.conftest import signed
from tests.mem0_stand_in import HostedMem0
from tests.memory_writer.conftest import announce, small_call
from tests.options import EVERYTHING as ALL_OPTIONS
from tests.policies import (
    BUCKET,
    INTERFACES,
    PHYSICAL,
    TOPIC,
    Gap,
    Right,
    Site,
    Watch,
    call_sites,
    compare,
    environment,
    handler_of,
    is_invoked,
    listed,
    present,
    product_code,
    rights,
    role_of,
)
from tests.processes import LONGEST
from tests.reconciler.conftest import KEY, NOW, conversation


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


# ---------------------------------------------------------------- the functions, and all that they do


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


def an_hour_in_which_webhooks_failed(world: World) -> None:
    """One call was staged and not handed on, one was never sent, and one lacks its recording."""
    now = datetime.now(timezone.utc)
    stage(world.aws, transcript("conv_1"), now=now - timedelta(hours=3))
    world.elevenlabs.add(conversation("conv_2", ended=NOW - now + timedelta(hours=3)))
    awaited = {"audio": "pending", "t_order": "1", "archived_at": "2026-01-01T10:00:00Z"}
    world.change("conv_3", **awaited)
    world.watch.conflicts = 1
    world.run({})


def a_recording_to_fetch(world: World) -> None:
    world.change("conv_1", audio="pending", t_order="1")
    world.elevenlabs.audio["conv_1"] = b"ID3 sound"
    world.watch.conflicts = 1
    world.work(announce(world.aws, small_call()))


def a_recording_that_is_not_there(world: World) -> None:
    world.change("conv_2", audio="pending", t_order="1")
    world.work(announce(world.aws, small_call(conversation_id="conv_2")))


def nonsense(world: World) -> None:
    world.work("nonsense")


def a_flight(world: World) -> None:
    """The rest of the stack does its part as the canary looks on: what it did not find is there the next time."""
    conversation_id = ""
    staged = f"staging/2026/11/22/10/{'0' * 64}.json"

    def take_in(webhook: Any) -> None:
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
    with endpoint(take_in) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("POST_CALL_URL", url)
        patch.setattr("canary.canary.POLL", 0.01)
        assert "deleted" in world.run({})


@contextmanager
def endpoint(take_in: Callable[[Any], None]) -> Iterator[str]:
    """Where webhooks are posted to."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            take_in(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
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


# A new function is a line here, and whatever it comes to do a scene.
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
    "CanaryFunction": [a_flight],
}  # fmt: skip
# What a stack is deployed with, and what each of its roles is then to have. A new option is a line here.
STACKS: dict[str, dict[str, str]] = {
    "by default": {},
    "with a canary alone": {"CanaryMinutes": "60"},
    "with everything": ALL_OPTIONS
    | {"ElevenLabsApiKey": KEY, "Mem0ApiKey": "m0-test", "CanaryMinutes": "60", "SourceAddresses": "metric"},
}
OTHER_ROLES = {"ReplicationRole", "DeploymentRole"}  # that services of AWS take, not functions
NO_GAP = Gap(set(), set())
EVERYTHING = Deployed(**STACKS["with everything"])
FUNCTIONS = [
    pytest.param(name, function, id=f"{function} {name}")
    for name, parameters in STACKS.items() for function in Deployed(**parameters).of("AWS::Lambda::Function")
]  # fmt: skip
HANDLERS = sorted({handler_of(EVERYTHING, function) for function in SCENES})
# These are found only because something else has the same name: bookmarks are also read, ElevenLabs' recordings also
# downloaded, and mem0 also has a `get_all`.
SAME_NAME = {
    "memory_writer/handler.py": {("shared/record.py", "Records.read_items", "BatchGetItem")},
    "reconciler/handler.py": {
        ("shared/bucket.py", "Bucket.read", "GetObject"), ("shared/bucket.py", "Bucket.download", "GetObject"),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def watch() -> Iterator[Callable[..., Watch]]:
    """What a function of a stack of STACKS called. In the same environment it calls the same."""
    with ElevenLabs(KEY) as elevenlabs, HostedMem0() as mem0:
        hosts = {"ElevenLabsApiHost": elevenlabs.url, "Mem0Host": mem0.url}

        @cache
        def heard(name: str, function: str) -> Watch:
            watch = Watch()
            with world_of(STACKS[name] | hosts, function, watch, elevenlabs) as world:
                for play in SCENES[function]:
                    play(world)
            return watch

        yield lambda function, name="with everything": heard(first_alike(name, function), function)


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


# ---------------------------------------------------------------- what each role allows


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_a_role_allows_what_its_function_calls_and_nothing_else(watch, name, function):
    stack = Deployed(**STACKS[name])
    called = watch(function, name).called if is_invoked(stack, function) else set()

    assert compare(stack, function, called) == NO_GAP


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_call_of_aws_in_the_code_was_at_work(watch, handler):
    functions = [function for function in SCENES if handler_of(EVERYTHING, function) == handler]
    at_work = set().union(*(watch(function).sites for function in functions))

    assert call_sites(handler, product_code()) - at_work == SAME_NAME.get(handler, set())


def may(function: str, action: str, conversation_id: str) -> bool:
    """Whether a function may do this to an item of the table: its key fits one of the condition's patterns."""
    allowed = {each for name, each in rights(EVERYTHING, role_of(EVERYTHING, function)) if name == f"dynamodb:{action}"}
    patterns = [each.removeprefix("ConversationTable.Arn").strip("[]") or "*" for each in allowed]
    return any(fnmatchcase(conversation_id, pattern) for pattern in patterns)


@pytest.mark.parametrize("action", ["PutItem", "UpdateItem", "DeleteItem"])
def test_the_canary_writes_its_own_items_and_marks_of_what_it_took_away_alone(action):
    assert may("CanaryFunction", action, "canary_20261122T100000Z_0123abcd")
    assert may("CanaryFunction", action, "#discarded") == (action == "UpdateItem")
    assert not may("CanaryFunction", action, "conv_1")
    assert not may("CanaryFunction", action, "#reconciler")


def test_the_reconciler_overwrites_its_bookmarks_alone():
    assert may("ReconcilerFunction", "PutItem", "#reconciler")
    assert may("ReconcilerFunction", "PutItem", "#unnamed")  # where nothing is that it could destroy
    assert not may("ReconcilerFunction", "PutItem", "conv_1")
    assert may("ReconcilerFunction", "UpdateItem", "conv_1")  # notes what it fetched


# ---------------------------------------------------------------- that the comparison can fail


RIGHTS = [
    pytest.param(function, right, id=f"{function} {' '.join(right)}")
    for function in SCENES for right in sorted(rights(EVERYTHING, role_of(EVERYTHING, function)))
]  # fmt: skip
TOO_MUCH = [("s3:PutObjectAcl", "Bucket.Arn/*"), ("dynamodb:Scan", "ConversationTable.Arn"), ("sqs:*", "*")]


def with_rights(function: str, changed: set[Right]) -> Deployed:
    """The whole stack, in which the function's role has these rights."""
    stack, role = copy(EVERYTHING), role_of(EVERYTHING, function)
    allowed = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in changed]
    changed_role = {"Policies": [{"PolicyName": "changed", "PolicyDocument": {"Statement": allowed}}]}
    stack.resources = EVERYTHING.resources | {role: {"Type": "AWS::IAM::Role", "Properties": changed_role}}
    return stack


@pytest.fixture
def gap_with(watch: Callable[..., Watch]) -> Callable[..., Gap]:
    """What is found when a function's role has lost some rights and got others."""

    def find(function: str, take: set[Right] = frozenset(), add: set[Right] = frozenset()) -> Gap:
        kept = rights(EVERYTHING, role_of(EVERYTHING, function)) - take
        return compare(with_rights(function, kept | add), function, watch(function).called)

    return find


@pytest.mark.parametrize(("function", "right"), RIGHTS)
def test_a_right_that_is_taken_away_is_found_missing(gap_with, function, right):
    assert gap_with(function, take={right}) == Gap({right}, set())


@pytest.mark.parametrize("right", TOO_MUCH, ids=" ".join)
@pytest.mark.parametrize("function", SCENES)
def test_a_right_that_is_added_is_found_unused(gap_with, function, right):
    assert gap_with(function, add={right}) == Gap(set(), {right})


@pytest.mark.parametrize(("function", "right"), RIGHTS)
def test_a_right_to_another_resource_is_missing_and_unused_at_once(gap_with, function, right):
    moved = (right[0], "AlarmTopic")

    assert gap_with(function, take={right}, add={moved}) == Gap({right}, {moved})


@pytest.mark.parametrize(("function", "right"), [each for each in RIGHTS if "/staging/*" in str(each.values)])
def test_a_right_to_the_whole_bucket_is_too_much_for_who_needs_staging(gap_with, function, right):
    wider = (right[0], "Bucket.Arn/*")

    assert gap_with(function, take={right}, add={wider}) == Gap({right}, {wider})


@pytest.mark.parametrize(("function", "right"), [each for each in RIGHTS if "Arn[" in str(each.values)])
def test_a_right_to_all_items_is_too_much_for_who_needs_some(gap_with, function, right):
    wider = (right[0], right[1].partition("[")[0])

    assert gap_with(function, take={right}, add={wider}) == Gap({right}, {wider})


def test_a_new_call_is_found_missing_when_it_is_at_work(watch):
    new = Watch()
    with world_of({}, "ArchiverFunction", new), new.hearing():
        boto3.client("s3").delete_object(Bucket=BUCKET, Key="12025550123/conv_1.json")

    called = watch("ArchiverFunction").called | new.called
    assert compare(EVERYTHING, "ArchiverFunction", called) == Gap({("s3:DeleteObject", "Bucket.Arn/*")}, set())


def new_sites(handler: str, call: str) -> set[Site]:
    """What the code is found to call besides, once the handler comes to a function that makes this call."""
    before = product_code()
    more = f"\n\ndef _new(x):\n    {call}\n\n\ndef lambda_handler(event, context):\n    return _new(event)\n"
    return call_sites(handler, before | {handler: before[handler] + more}) - call_sites(handler, before)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    ("call", "operation"),
    [
        pytest.param("x.delete_object(Bucket=b, Key=k)", "DeleteObject", id="of a client"),
        pytest.param("x.get_paginator('scan').paginate(TableName=t)", "Scan", id="of a paginator"),
        pytest.param("x.batch_writer()", "BatchWriteItem", id="of a table"),
    ],
)
def test_a_new_call_in_the_code_is_found_though_no_scene_comes_by(handler, call, operation):
    assert new_sites(handler, call) == {(handler, "_new", operation)}


def test_a_call_in_shared_code_is_found_once_a_handler_makes_use_of_it():
    assert new_sites("archiver/handler.py", "x.ledger()") == {("shared/record.py", "Records.ledger", "GetItem")}


def test_code_that_no_handler_comes_to_asks_for_no_right():
    assert new_sites("archiver/handler.py", "pass\n\n\ndef _unused(x):\n    x.scan()") == set()


# ---------------------------------------------------------------- roles, and who may send where


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_every_function_has_a_role_of_its_own_that_lambda_alone_may_take(stack):
    functions = list(stack.of("AWS::Lambda::Function"))
    roles = stack.of("AWS::IAM::Role")

    assert set(functions) <= set(SCENES)
    assert sorted(set(roles) - OTHER_ROLES) == sorted(role_of(stack, function) for function in functions)
    for role in (roles[role_of(stack, function)] for function in functions):
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_only_the_memory_writer_may_be_given_a_policy_from_elsewhere():
    def managed(stack: Deployed) -> dict[str, Any]:
        roles = stack.of("AWS::IAM::Role").items()
        return {name: arns for name, role in roles if (arns := present(listed(role.get("ManagedPolicyArns", []))))}

    of_aws = "arn:AWS::Partition:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited"
    assert managed(EVERYTHING) == {"DeploymentRole": [of_aws]}  # which CodeDeploy takes
    arn = "arn:aws:iam::000000000000:policy/bedrock"
    assert managed(Deployed(MemoryPolicyArn=arn)) == {"MemoryWriterRole": [arn]}


def resource_policies(stack: Deployed) -> list[tuple[str, dict[str, Any]]]:
    """The statements of all policies that say who may use a resource, by the resource that has them."""
    kinds = {each["Type"] for each in stack.resources.values() if not each["Type"].startswith("AWS::IAM::")}
    return [
        (name, statement)
        for kind in kinds for name, properties in stack.of(kind).items() for document in properties.values()
        if isinstance(document, dict) for statement in present(listed(document.get("Statement", [])))
    ]  # fmt: skip


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_nobody_unnamed_is_let_in_and_services_of_aws_only_for_what_is_ours(stack):
    found = resource_policies(stack)

    assert {"BucketPolicy", "MemoryQueuePolicy"} <= {name for name, _ in found}
    for name, statement in found:
        principal = statement["Principal"]
        if statement["Effect"] != "Deny":
            assert "*" not in [each for kind in dict(principal).values() for each in listed(kind)], name
            assert "Service" not in principal or re.search(
                "aws:SourceArn|:logs:arn", str(statement.get("Condition"))
            ), name


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_sns_may_send_what_our_topic_announces_to_its_subscribers_and_their_dead_letter_queues(stack):
    delivered = {
        (queue, subscription["TopicArn"])
        for subscription in stack.of("AWS::SNS::Subscription").values() if subscription["Protocol"] == "sqs"
        for queue in (subscription["Endpoint"], subscription["RedrivePolicy"]["deadLetterTargetArn"])
    }  # fmt: skip

    allowed = set()
    for policy in stack.of("AWS::SQS::QueuePolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Principal"], statement["Action"]) == ({"Service": "sns.amazonaws.com"}, "sqs:SendMessage")
        assert set(statement["Resource"]) == {f"{queue}.Arn" for queue in policy["Queues"]}
        assert list(statement["Condition"]) == ["ArnEquals"]
        allowed |= {(queue, statement["Condition"]["ArnEquals"]["aws:SourceArn"]) for queue in statement["Resource"]}
    assert allowed == delivered


@pytest.mark.parametrize(
    ("stack", "ingest"),
    [(Deployed(CanaryMinutes="15"), {"IngestFunction"}), (EVERYTHING, {"IngestFunction", "IngestAlias"})],
    ids=["at once", "gradually"],
)
def test_aws_runs_a_function_only_for_apis_of_the_account_and_our_schedules(stack, ingest):
    permissions = stack.of("AWS::Lambda::Permission").values()
    schedules = {f"{rule}.Arn" for rule in stack.of("AWS::Events::Rule")}

    assert {(each["Principal"], each["FunctionName"]) for each in permissions} == {
        *(("apigateway.amazonaws.com", each) for each in ingest),
        ("events.amazonaws.com", "ReconcilerFunction"), ("events.amazonaws.com", "CanaryFunction"),
    }  # fmt: skip
    ours = "arn:AWS::Partition:execute-api:AWS::Region:AWS::AccountId:*/*/POST/post-call"
    assert all(each["SourceArn"] in schedules | {ours} for each in permissions)


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_no_role_may_set_acls_and_the_template_says_why(stack):
    roles = stack.of("AWS::IAM::Role")

    assert not any(re.fullmatch("s3:Put.*Acl", action) for role in roles for action, _ in rights(stack, role))
    (ownership,) = stack.of("AWS::S3::Bucket")["Bucket"]["OwnershipControls"]["Rules"]
    assert ownership == {"ObjectOwnership": "BucketOwnerEnforced"}
    archiver = TEMPLATE.read_text().partition("ArchiverRole:\n")[2].partition("ArchiverLogGroup:\n")[0]
    assert re.search(r"# No s3:PutObjectAcl: .*BucketOwnerEnforced", archiver)


# ---------------------------------------------------------------- wildcards


def wildcards(text: str) -> list[str]:
    """What is wrong with the wildcards in the statements of roles, as they are written in the template."""
    lines = text.splitlines()
    found = []
    for actions, resources in written_statements(yaml.compose(text)):
        found += [f"action {action.value}" for action in actions if "*" in action.value]
        for each in resources:
            line, above = lines[each.start_mark.line], lines[each.start_mark.line - 1]
            has_reason = "#" in line[each.end_mark.column :] or above.lstrip().startswith("#")
            if each.value == "*" and not {action.value for action in actions} <= INTERFACES:
                found.append("resource *")
            elif "*" in each.value and not has_reason:
                found.append(f"no reason for {each.value}")
    return list(dict.fromkeys(found))  # what is written once may be used in many places


def written_statements(node: yaml.Node) -> Iterator[tuple[list[yaml.Node], list[yaml.Node]]]:
    """Actions and resources of all statements that allow something and name nobody: those of roles."""
    if isinstance(node, yaml.MappingNode):
        entries = {key.value: value for key, value in node.value}
        if "Action" in entries and "Principal" not in entries and entries["Effect"].value == "Allow":
            yield scalars(entries["Action"]), scalars(entries["Resource"])
    if not isinstance(node, yaml.ScalarNode):
        for each in node.value:
            for child in each if isinstance(each, tuple) else (each,):
                yield from written_statements(child)


def scalars(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def test_wildcards_have_a_reason_beside_them():
    text = TEMPLATE.read_text()

    assert len(list(written_statements(yaml.compose(text)))) > 20
    assert wildcards(text) == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ('{Effect: Allow, Action: "s3:*", Resource: !Ref It}', "action s3:*"),
        ('{Effect: Allow, Action: ["s3:GetObject", "s3:Put*"], Resource: !Ref It}', "action s3:Put*"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: "*"}  # all', "resource *"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${It}/*"}', "no reason for ${It}/*"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: [!Ref It, !Sub "${It}/*"]}', "no reason for ${It}/*"),
    ],
)
def test_a_wildcard_without_a_reason_is_found(statement, fault):
    text = f"Statement:\n  - {statement}\n"

    assert wildcards(text) == [fault]
    assert wildcards(f"Statement:\n  - !If\n    - Condition\n    - {statement}\n") == [fault]
