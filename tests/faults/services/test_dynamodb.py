"""The in-memory DynamoDB behaves as moto's."""

from random import Random
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Key

import shared.record
from shared.record import Records, query_pages
from tests.conftest import Stack
from tests.faults.services.comparison import answer_of, assert_same
from tests.faults.services.dynamodb import DynamoDb
from tests.faults.services.expression_steps import ExpressionSteps
from tests.faults.services.table_steps import RECORD_STEPS, Side, Steps


@pytest.fixture
def theirs(aws: Stack) -> Side:
    return Side(boto3.resource("dynamodb").Table("conversations"))


def test_each_method_of_the_records_is_compared() -> None:
    public = {name for name in vars(Records) if not name.startswith("_")}

    assert RECORD_STEPS.keys() == public


@pytest.mark.parametrize("seed", range(5))
def test_all_code_that_uses_the_table_works_the_same(
    ours: Side, theirs: Side, database: DynamoDb, aws: Stack, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.record, "MOST_STAGED", 3)
    monkeypatch.setattr("scripts.operations.erasure.journal.uuid4", lambda: "a random id")  # differs between the two
    steps = Steps(seed).make(200)

    for start in range(0, len(steps), 20):
        assert_same(ours, theirs, steps[start : start + 20])
        assert database.items("conversations") == aws.items()


@pytest.mark.parametrize("seed", range(3))
def test_random_expressions_mean_the_same(ours: Side, theirs: Side, database: DynamoDb, aws: Stack, seed: int) -> None:
    assert_same(ours.table, theirs.table, ExpressionSteps(seed).make(300))

    assert database.items("conversations") == aws.items()


def test_queries_find_the_same_items_page_by_page(ours: Side, theirs: Side) -> None:
    random, audios, times = Random(1), ("none", "pending"), [f"2026-03-0{day}" for day in range(1, 10)]
    for number in range(40):
        item = {"conversation_id": f"conv_{number % 5}", "item": f"item_{number}", "open_audio": random.choice(audios)}
        item |= {"archived_at": random.choice(times)} if random.random() < 0.8 else {}
        for side in (ours, theirs):
            side.table.put_item(Item=item)
    for number in range(0, 40, 3):
        for side in (ours, theirs):
            side.table.delete_item(Key={"conversation_id": f"conv_{number % 5}", "item": f"item_{number}"})

    for _ in range(60):
        query = _query(random, audios, times)
        found, expected = (_found(side.table, query) for side in (ours, theirs))
        assert found == expected, query


def _query(random: Random, audios: tuple[str, ...], times: list[str]) -> dict[str, Any]:
    """Of the table, whose keys are unique, or of an index, whose range keys are not."""
    low, high = sorted(random.choices(times, k=2))
    values = {":value": random.choice(audios), ":low": low, ":high": high}
    options = {"Limit": random.choice((1, 2, 3, 100)), "ScanIndexForward": random.random() < 0.5}
    return options | random.choice((
        {"KeyConditionExpression": Key("conversation_id").eq(f"conv_{random.randint(0, 5)}"), "ConsistentRead": True},
        {"KeyConditionExpression": Key("open_audio").eq(random.choice(audios)), "IndexName": "by-audio"},
        {"KeyConditionExpression": BETWEEN, "ExpressionAttributeValues": values, "IndexName": "by-audio"},
    ))  # fmt: skip


def _found(table: Any, query: dict[str, Any]) -> Any:
    """All items with their order; the order of items with the same range key is not defined in an index."""
    items = [item for page in query_pages(table, query) for item in page]
    order = [item["archived_at" if "IndexName" in query else "item"] for item in items]
    return order, sorted(sorted(item.items()) for item in items)


BETWEEN = "open_audio = :value AND archived_at BETWEEN :low AND :high"
ONE = {"conversation_id": "conv_1", "item": "call"}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "a key without its range": ("get_item", {"Key": {"conversation_id": "conv_1"}, "ConsistentRead": True}),
    "an empty key": ("get_item", {"Key": ONE | {"item": ""}, "ConsistentRead": True}),
    "an item without its range": ("put_item", {"Item": {"conversation_id": "conv_1"}}),
    "an index key that is empty": ("put_item", {"Item": ONE | {"open_audio": ""}}),
    "an index key that becomes empty": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET open_audio = :a", "ExpressionAttributeValues": {":a": ""}},
    ),
    "an item of 400 KB": ("put_item", {"Item": ONE | {"text": "x" * 400 * 1024}}),
    "a changed key": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET #i = :a", "ExpressionAttributeNames": {"#i": "item"},
         "ExpressionAttributeValues": {":a": "other"}},
    ),
    "a value that is not used": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET open_audio = :a", "ExpressionAttributeValues": {":a": "x", ":b": "y"}},
    ),
    "a value that is not given": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET open_audio = :a", "ExpressionAttributeValues": {":b": "x"}},
    ),
    "a name that is not used": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET open_audio = :a", "ExpressionAttributeValues": {":a": "x"},
         "ExpressionAttributeNames": {"#x": "x"}},
    ),
    "an attribute twice": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "SET caller = :a REMOVE caller", "ExpressionAttributeValues": {":a": "x"}},
    ),
    "an absent attribute as a source": ("update_item", {"Key": ONE, "UpdateExpression": "SET open_audio = caller"}),
    "an addition to a text": (
        "update_item",
        {"Key": ONE, "UpdateExpression": "ADD started :a", "ExpressionAttributeValues": {":a": {"x"}}},
    ),
    "twice the same parentheses": (
        "delete_item", {"Key": ONE, "ConditionExpression": "((attribute_exists(audio) OR attribute_exists(started)))"},
    ),
    "a query by another attribute": (
        "query", {"KeyConditionExpression": Key("open_audio").eq("none"), "ConsistentRead": True},
    ),
    "a consistent read of an index": (
        "query",
        {"IndexName": "by-audio", "KeyConditionExpression": Key("open_audio").eq("none"), "ConsistentRead": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "parameters"), WRONG.values(), ids=WRONG)
def test_wrong_requests_are_refused_with_the_same_error(
    ours: Side, theirs: Side, operation: str, parameters: dict[str, Any]
) -> None:
    for side in (ours, theirs):
        side.table.put_item(Item=ONE | {"started": "x"})

    found, expected = (answer_of(lambda t=side.table: getattr(t, operation)(**parameters)) for side in (ours, theirs))

    assert found == expected
    assert found == ("error", "ValidationException")


@pytest.mark.parametrize("keys", [[ONE, ONE], [ONE | {"item": str(number)} for number in range(101)]], ids=len)
def test_wrong_batches_are_refused_with_the_same_error(ours: Side, theirs: Side, keys: list[Any]) -> None:
    request = {"conversations": {"Keys": keys, "ConsistentRead": True}}

    for side in (ours, theirs):
        answer = answer_of(lambda c=side.table.meta.client: c.batch_get_item(RequestItems=request))
        assert answer == ("error", "ValidationException")
