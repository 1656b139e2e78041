"""Least privilege: each function's role allows what the function calls on AWS, and nothing else.

What is called is heard while the functions work in moto, with the environment that the template gives them. That the
scenes below leave nothing out is told by the code itself: each place in it that calls AWS must have been at work.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import datetime, timedelta, timezone
from functools import cache
from importlib import import_module
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from scripts.deployment import TEMPLATE
from scripts.elevenlabs_stand_in import ElevenLabs
from shared.messages import ClaimCheck
from tests.alarms import Deployed
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.archiver.test_handler import audio, envelope, transcript
from tests.conftest import SECRET, Stack, close_clients, create_table, forget, lambda_context, sqs_event
from tests.ingest.test_handler import signed
from tests.mem0_stand_in import HostedMem0
from tests.memory_writer.test_handler import announce, small_call
from tests.policies import (
    BUCKET,
    PHYSICAL,
    TOPIC,
    Gap,
    Right,
    Site,
    Watch,
    call_sites,
    compare,
    handler_of,
    is_invoked,
    listed,
    present,
    product_code,
    rights,
    role_of,
)
from tests.reconciler.conftest import KEY, NOW, conversation


class World:
    """One function of a stack in moto, with ElevenLabs and Mem0 beside it."""

    def __init__(self, aws: Stack, watch: Watch, function: str, handler: Any, elevenlabs: ElevenLabs) -> None:
        self.aws, self.watch, self.elevenlabs = aws, watch, elevenlabs
        self._function, self._handler = function, handler

    def run(self, event: Any) -> Any:
        context = lambda_context()
        context.get_remaining_time_in_millis = lambda: 900_000
        with self.watch.hearing(self._function):
            return self._handler(event, context)

    def work(self, *bodies: str) -> None:
        """Handle messages; none of them fails."""
        assert self.run(sqs_event(*bodies)) == {"batchItemFailures": []}

    def change(self, conversation_id: str, **fields: str) -> None:
        """Write into a call's record."""
        self.aws.dynamodb.update_item(
            TableName="ConversationTable", Key={"conversation_id": {"S": conversation_id}, "item": {"S": "call"}},
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


def a_late_body_of_an_erased_call(world: World) -> None:
    world.change("conv_3", erased_at="2026-11-22T10:00:00Z")
    world.work(stage(world.aws, transcript("conv_3")))


def a_claim_check_without_its_body(world: World) -> None:
    delivery_id = "0" * 64
    world.work(ClaimCheck(delivery_id, f"staging/2026/11/22/10/{delivery_id}.json", "", "webhook").to_json())


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


# A new function is a line here, and whatever it comes to do a scene.
SCENES: dict[str, list[Callable[[World], None]]] = {
    "IngestFunction": [a_webhook],
    "ArchiverFunction": [
        a_call_in_two_versions, audio_before_its_call, a_recording_that_was_fetched, another_event,
        a_late_body_of_an_erased_call, a_claim_check_without_its_body,
    ],
    "MemoryWriterFunction": [
        a_call_to_remember_and_to_forget, a_call_to_remember_from_its_staged_body, an_announced_call_that_is_gone,
    ],
    "ReconcilerFunction": [an_hour_in_which_webhooks_failed],
    "AudioFunction": [a_recording_to_fetch, a_recording_that_is_not_there, nonsense],
}  # fmt: skip
# What a stack is deployed with, and what each of its roles is then to have. A new option is a line here.
STACKS: dict[str, dict[str, str]] = {
    "without keys": {},
    "with all keys": {"ElevenLabsApiKey": KEY, "Mem0ApiKey": "m0-test"},
}
OTHER_ROLES: list[str] = []  # that services of AWS take, not functions
ABOUT_NO_RESOURCE: set[str] = set()  # actions that AWS allows on everything or not at all
NO_GAP = Gap(set(), set())
EVERYTHING = Deployed(**STACKS["with all keys"])
FUNCTIONS = [
    pytest.param(name, function, id=f"{function} {name}")
    for name, parameters in STACKS.items() for function in Deployed(**parameters).of("AWS::Lambda::Function")
]  # fmt: skip
HANDLERS = sorted({handler_of(EVERYTHING, function) for function in SCENES})
# Reached by a name only that something else has too: bookmarks are read, ElevenLabs' recordings downloaded, and all of
# a user's memories got from mem0.
SAME_NAME = {
    "memory_writer/handler.py": {("shared/record.py", "Records.get_all", "BatchGetItem")},
    "reconciler/handler.py": {
        ("shared/bucket.py", "Bucket.read", "GetObject"), ("shared/bucket.py", "Bucket.download", "GetObject"),
    },
}  # fmt: skip


@cache
def watched(name: str) -> Watch:
    """What the functions of a stack of STACKS called."""
    watch = Watch()
    with ElevenLabs(KEY) as elevenlabs, HostedMem0() as mem0:
        hosts = {"ElevenLabsApiHost": elevenlabs.url, "Mem0Host": mem0.url}
        for function in SCENES:
            if is_invoked(Deployed(**STACKS[name]), function):
                with world_of(STACKS[name] | hosts, function, watch, elevenlabs) as world:
                    for play in SCENES[function]:
                        play(world)
    return watch


@contextmanager
def world_of(parameters: dict[str, str], function: str, watch: Watch, elevenlabs: Any = None) -> Iterator[World]:
    """A function of a new stack, in the environment that the template gives it."""
    stack = Deployed(**PHYSICAL, WebhookSecretValue=SECRET, **parameters)
    properties = stack.of("AWS::Lambda::Function")[function]
    module, _, handler = properties["Handler"].rpartition(".")
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for variable, value in properties["Environment"]["Variables"].items():
            patch.setenv(variable, str(value))
        patch.setattr(boto3, "DEFAULT_SESSION", watch.session)
        patch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
        forget()
        yield World(create(stack), watch, function, getattr(import_module(module), handler), elevenlabs)
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
        boto3.client("secretsmanager").create_secret(Name=f"{secret}.Id", SecretString=properties["SecretString"])
    return Stack(boto3.client, {"BucketName": BUCKET, "ConversationTableName": "ConversationTable"})


# ---------------------------------------------------------------- what each role allows


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_a_role_allows_what_its_function_calls_and_nothing_else(name, function):
    gap = compare(Deployed(**STACKS[name]), function, watched(name).called.get(function, ()))

    assert gap == NO_GAP


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_call_of_aws_in_the_code_was_at_work(handler):
    functions = [function for function in SCENES if handler_of(EVERYTHING, function) == handler]
    at_work = set().union(*(watched("with all keys").sites[function] for function in functions))

    assert call_sites(handler, product_code()) - at_work == SAME_NAME.get(handler, set())


# ---------------------------------------------------------------- that the comparison can fail


RIGHTS = [
    pytest.param(function, right, id=f"{function} {' '.join(right)}")
    for function in SCENES for right in sorted(rights(EVERYTHING, role_of(EVERYTHING, function)))
]  # fmt: skip
TOO_MUCH = [("s3:PutObjectAcl", "Bucket.Arn/*"), ("dynamodb:Scan", "ConversationTable.Arn"), ("sqs:*", "*")]


def with_rights(function: str, changed: set[Right]) -> Deployed:
    """The stack with all keys, in which the function's role has these rights."""
    stack, role = copy(EVERYTHING), role_of(EVERYTHING, function)
    allowed = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in changed]
    changed_role = {"Policies": [{"PolicyName": "changed", "PolicyDocument": {"Statement": allowed}}]}
    stack.resources = EVERYTHING.resources | {role: {"Type": "AWS::IAM::Role", "Properties": changed_role}}
    return stack


def gap_with(function: str, take: set[Right] = frozenset(), add: set[Right] = frozenset()) -> Gap:
    """What is found when the role has lost some rights and got others."""
    kept = rights(EVERYTHING, role_of(EVERYTHING, function)) - take
    return compare(with_rights(function, kept | add), function, watched("with all keys").called[function])


@pytest.mark.parametrize(("function", "right"), RIGHTS)
def test_a_right_that_is_taken_away_is_found_missing(function, right):
    assert gap_with(function, take={right}) == Gap({right}, set())


@pytest.mark.parametrize("right", TOO_MUCH, ids=" ".join)
@pytest.mark.parametrize("function", SCENES)
def test_a_right_that_is_added_is_found_unused(function, right):
    assert gap_with(function, add={right}) == Gap(set(), {right})


@pytest.mark.parametrize(("function", "right"), RIGHTS)
def test_a_right_to_another_resource_is_missing_and_unused_at_once(function, right):
    moved = (right[0], "AlarmTopic")

    assert gap_with(function, take={right}, add={moved}) == Gap({right}, {moved})


@pytest.mark.parametrize(("function", "right"), [each for each in RIGHTS if "/staging/*" in str(each.values)])
def test_a_right_to_the_whole_bucket_is_too_much_for_who_needs_staging(function, right):
    wider = (right[0], "Bucket.Arn/*")

    assert gap_with(function, take={right}, add={wider}) == Gap({right}, {wider})


def test_a_new_call_is_found_missing_when_it_is_at_work():
    watch = Watch()
    with world_of({}, "ArchiverFunction", watch), watch.hearing("ArchiverFunction"):
        boto3.client("s3").delete_object(Bucket=BUCKET, Key="12025550123/conv_1.json")

    called = watched("with all keys").called["ArchiverFunction"] | watch.called["ArchiverFunction"]
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
    assert new_sites("archiver/handler.py", "x.all()") == {("shared/record.py", "Records.all", "Scan")}


def test_code_that_no_handler_comes_to_asks_for_no_right():
    assert new_sites("archiver/handler.py", "pass\n\n\ndef _unused(x):\n    x.scan()") == set()


# ---------------------------------------------------------------- roles, and who may send where


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=STACKS)
def test_every_function_has_a_role_of_its_own_that_lambda_alone_may_take(stack):
    functions = list(stack.of("AWS::Lambda::Function"))
    roles = stack.of("AWS::IAM::Role")

    assert set(functions) <= set(SCENES)
    assert sorted(roles) == sorted([role_of(stack, function) for function in functions] + OTHER_ROLES)
    for role in (roles[role_of(stack, function)] for function in functions):
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_only_the_memory_writer_may_be_given_a_policy_from_elsewhere():
    def managed(stack: Deployed) -> dict[str, Any]:
        roles = stack.of("AWS::IAM::Role").items()
        return {name: arns for name, role in roles if (arns := present(listed(role.get("ManagedPolicyArns", []))))}

    assert managed(EVERYTHING) == {}
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


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=STACKS)
def test_nobody_unnamed_is_let_in_and_services_of_aws_only_for_what_is_ours(stack):
    found = resource_policies(stack)

    assert {"BucketPolicy", "MemoryQueuePolicy"} <= {name for name, _ in found}
    for name, statement in found:
        principal = statement["Principal"]
        if statement["Effect"] != "Deny":
            assert "*" not in [each for kind in dict(principal).values() for each in listed(kind)], name
            assert "Service" not in principal or "aws:SourceArn" in str(statement.get("Condition")), name


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=STACKS)
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


def test_aws_runs_a_function_only_for_our_api_and_our_schedule():
    permissions = EVERYTHING.of("AWS::Lambda::Permission").values()

    assert {(each["Principal"], each["FunctionName"]) for each in permissions} == {
        ("apigateway.amazonaws.com", "IngestFunction"), ("events.amazonaws.com", "ReconcilerFunction"),
    }  # fmt: skip
    assert all("Api" in each["SourceArn"] or "Hourly" in each["SourceArn"] for each in permissions)


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=STACKS)
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
            if each.value == "*" and not {action.value for action in actions} <= ABOUT_NO_RESOURCE:
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
