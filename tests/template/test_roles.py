"""Least privilege: each function's role allows what the function calls on AWS, and nothing else.

The calls are recorded while the functions work in moto, with the environment that the template gives them. That the
scenes leave nothing out is checked with the code itself: each place in it that calls AWS must have run.
"""

from collections.abc import Callable, Iterator
from copy import copy
from fnmatch import fnmatchcase
from functools import cache

import boto3
import pytest

from scripts.embedded.elevenlabs import ElevenLabs
from tests.alarms import Deployed
from tests.mem0_stand_in import HostedMem0
from tests.policies import (
    BUCKET,
    Gap,
    Right,
    Site,
    Watch,
    call_sites,
    compare,
    handler_of,
    is_invoked,
    product_code,
    rights,
    role_of,
)
from tests.reconciler.conftest import KEY
from tests.template.scenes import EVERYTHING, NO_GAP, SCENES, STACKS, first_alike, world_of

FUNCTIONS = [
    pytest.param(name, function, id=f"{function} {name}")
    for name, parameters in STACKS.items() for function in Deployed(**parameters).of("AWS::Lambda::Function")
]  # fmt: skip


HANDLERS = sorted({handler_of(EVERYTHING, function) for function in SCENES})


# These are found only because something else has the same name: bookmarks are also read, ElevenLabs' recordings also
# downloaded, and mem0 also has a `get_all`.
SAME_NAME = {
    "memory_writer/handler.py": {("shared/record.py", "Records._read_batch", "BatchGetItem")},
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
        def recorded_calls(name: str, function: str) -> Watch:
            watch = Watch()
            with world_of(STACKS[name] | hosts, function, watch, elevenlabs) as world:
                for play in SCENES[function]:
                    play(world)
            return watch

        yield lambda function, name="with everything": recorded_calls(first_alike(name, function), function)


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_a_role_allows_what_its_function_calls_and_nothing_else(watch, name, function):
    stack = Deployed(**STACKS[name])
    called = watch(function, name).called if is_invoked(stack, function) else set()

    assert compare(stack, function, called) == NO_GAP


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_scenes_run_every_call_of_aws_in_the_code(watch, handler):
    functions = [function for function in SCENES if handler_of(EVERYTHING, function) == handler]
    at_work = set().union(*(watch(function).sites for function in functions))

    assert call_sites(handler, product_code()) - at_work == SAME_NAME.get(handler, set())


def is_allowed(function: str, action: str, conversation_id: str) -> bool:
    """Whether a function may do this to an item of the table: its key fits one of the condition's patterns."""
    allowed = {each for name, each in rights(EVERYTHING, role_of(EVERYTHING, function)) if name == f"dynamodb:{action}"}
    patterns = [each.removeprefix("ConversationTable.Arn").strip("[]") or "*" for each in allowed]
    return any(fnmatchcase(conversation_id, pattern) for pattern in patterns)


@pytest.mark.parametrize("action", ["PutItem", "UpdateItem", "DeleteItem"])
def test_the_canary_may_write_only_its_own_items_and_marks_of_what_it_deleted(action):
    assert is_allowed("CanaryFunction", action, "canary_20261122T100000Z_0123abcd")
    assert is_allowed("CanaryFunction", action, "#discarded") == (action == "UpdateItem")
    assert not is_allowed("CanaryFunction", action, "conv_1")
    assert not is_allowed("CanaryFunction", action, "#reconciler")


def test_the_reconciler_may_overwrite_only_its_bookmarks():
    assert is_allowed("ReconcilerFunction", "PutItem", "#reconciler")
    assert is_allowed("ReconcilerFunction", "PutItem", "#unnamed")  # there is nothing that it could overwrite
    assert not is_allowed("ReconcilerFunction", "PutItem", "conv_1")
    assert is_allowed("ReconcilerFunction", "UpdateItem", "conv_1")  # notes what it fetched


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
    """The gap when a function's role loses some rights and gets others."""

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
def test_a_right_to_the_whole_bucket_is_too_much_for_a_function_that_needs_staging(gap_with, function, right):
    wider = (right[0], "Bucket.Arn/*")

    assert gap_with(function, take={right}, add={wider}) == Gap({right}, {wider})


@pytest.mark.parametrize(("function", "right"), [each for each in RIGHTS if "Arn[" in str(each.values)])
def test_a_right_to_all_items_is_too_much_for_a_function_that_needs_some(gap_with, function, right):
    wider = (right[0], right[1].partition("[")[0])

    assert gap_with(function, take={right}, add={wider}) == Gap({right}, {wider})


def test_a_new_call_that_runs_is_found_missing_in_the_role(watch):
    new = Watch()
    with world_of({}, "ArchiverFunction", new), new.hearing():
        boto3.client("s3").delete_object(Bucket=BUCKET, Key="12025550123/conv_1.json")

    called = watch("ArchiverFunction").called | new.called
    assert compare(EVERYTHING, "ArchiverFunction", called) == Gap({("s3:DeleteObject", "Bucket.Arn/*")}, set())


def new_sites(handler: str, call: str) -> set[Site]:
    """The new places that are found when the handler uses a function with this call."""
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
def test_a_new_call_in_the_code_is_found_even_if_no_scene_runs_it(handler, call, operation):
    assert new_sites(handler, call) == {(handler, "_new", operation)}


def test_a_call_in_shared_code_is_found_when_a_handler_uses_it():
    assert new_sites("archiver/handler.py", "x.ledger()") == {("shared/record.py", "Records.ledger", "GetItem")}


def test_code_that_no_handler_uses_needs_no_right():
    assert new_sites("archiver/handler.py", "pass\n\n\ndef _unused(x):\n    x.scan()") == set()
