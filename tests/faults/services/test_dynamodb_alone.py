"""What the in-memory DynamoDB does as AWS describes it, where moto differs."""

from typing import Any

import pytest
from boto3.dynamodb.conditions import Key

from shared.indexes import INDEXES
from tests.faults.services.comparison import answer_of
from tests.faults.services.dynamodb import DynamoDb, Table
from tests.faults.services.table_steps import Side
from tests.faults.services.test_dynamodb import BETWEEN, ONE

# AWS refuses these; moto takes some, raises KeyError for one, and has another code for the unknown index.
UNKNOWN_TO_MOTO: dict[str, tuple[str, dict[str, Any]]] = {
    "a key with more": ("delete_item", {"Key": ONE | {"audio": "none"}}),
    "an interval that is reversed": (
        "query",
        {"IndexName": "by-audio", "KeyConditionExpression": BETWEEN,
         "ExpressionAttributeValues": {":value": "none", ":low": "2", ":high": "1"}},
    ),
    "an index key that is a number": ("put_item", {"Item": ONE | {"open_audio": 1}}),
    "a name that is not given": (
        "update_item", {"Key": ONE, "UpdateExpression": "SET #x = :a", "ExpressionAttributeValues": {":a": "x"}},
    ),
    "an unknown index": (
        "query", {"IndexName": "by-name", "KeyConditionExpression": Key("open_audio").eq("none")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "parameters"), UNKNOWN_TO_MOTO.values(), ids=UNKNOWN_TO_MOTO)
def test_wrong_requests_that_moto_does_not_know_are_refused(
    ours: Side, operation: str, parameters: dict[str, Any]
) -> None:
    assert answer_of(lambda: getattr(ours.table, operation)(**parameters)) == ("error", "ValidationException")


def test_an_update_that_only_removes_makes_no_item(ours: Side, database: DynamoDb) -> None:
    """moto makes one. AWS does not: https://github.com/scylladb/scylladb/issues/5862 compared them."""
    for update, values in (("REMOVE #a", {}), ("DELETE #a :a", {"ExpressionAttributeValues": {":a": {"x"}}})):
        ours.table.update_item(
            Key=ONE, UpdateExpression=update, ExpressionAttributeNames={"#a": "audio"}, **values
        )  # fmt: skip

    assert database.items("conversations") == {}


def test_items_expire_after_their_time(ours: Side, database: DynamoDb) -> None:
    """moto has no time to live. Only a number is a time, and it must be over."""
    for item, expires in (("past", -1), ("now", 0), ("future", 1), ("text", "-1")):
        ours.table.put_item(Item=ONE | {"item": item, "expires": expires})
    ours.table.put_item(Item=ONE | {"item": "for ever"})

    database.expire()

    assert {item for _, item in database.items("conversations")} == {"now", "future", "text", "for ever"}


def test_keys_of_a_batch_that_were_not_read_are_read_by_the_next_call(ours: Side, database: DynamoDb) -> None:
    """As AWS does under load or for 16 MB. moto reads all of them."""
    database.most_per_batch = 2
    calls = [f"conv_{number}" for number in range(7)]
    for call in calls:
        ours.records.add_staged(call, "staging/a", "2026-03-03")

    assert list(ours.records.get_all(calls)) == calls


def test_an_index_lags_behind_its_table_and_never_goes_back() -> None:
    """moto's index is never late. "Reads are eventually consistent" in AWS: a query may not see the last writes."""
    now = 100.0
    database = DynamoDb(lambda: now)
    database.create_table("conversations", ("conversation_id", "item"), INDEXES)
    side = Side(Table("conversations", database.call))
    database.index_lag = 5
    seen = []

    side.table.put_item(Item=ONE | {"open_audio": "none", "archived_at": "1"})
    for at in (100.0, 104.9, 105.0):
        now = at
        seen.append(side.records.count("by-audio", "none"))
    side.table.delete_item(Key=ONE)
    for at in (105.0, 110.0):
        now = at
        seen.append(side.records.count("by-audio", "none"))

    assert seen == [0, 0, 1, 1, 0]


def test_an_update_beyond_400_kb_is_refused_and_changes_nothing(ours: Side, database: DynamoDb) -> None:
    """moto looks at the size of the item before the update."""
    ours.table.put_item(Item=ONE | {"text": "x" * (390 << 10)})
    before = database.items("conversations")

    assert ours.records.add_staged("conv_1", "k" * (20 << 10), "2026-03-03") is None

    assert database.items("conversations") == before
    assert ours.records.erase("conv_1", "2026-03-03", ["u" * (20 << 10)]).users == frozenset()


@pytest.mark.parametrize("size", [409_600, 409_601])
def test_an_item_has_at_most_400_kb(ours: Side, size: int) -> None:
    """moto takes 405,000 bytes. Names and values count: 29 bytes of the key, and those of `text`."""
    put = answer_of(lambda: ours.table.put_item(Item=ONE | {"text": "x" * (size - 29 - 4)}))

    assert (put == ("error", "ValidationException")) is (size > 400 << 10)
