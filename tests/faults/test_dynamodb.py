"""The in-memory DynamoDB behaves as moto's."""

from typing import Any

import boto3
import pytest

import shared.record
from shared.record import Records
from tests.conftest import Stack
from tests.faults.comparison import assert_same
from tests.faults.expression_steps import ExpressionSteps
from tests.faults.services.dynamodb import DynamoDb, Table
from tests.faults.table_steps import RECORD_STEPS, Side, Steps

INDEXES = {
    "by-audio": ("audio", "archived_at"), "by-state": ("state", "started"), "by-caller": ("caller", "archived_at"),
}  # fmt: skip


@pytest.fixture
def database() -> DynamoDb:
    database = DynamoDb(lambda: 0.0)
    database.create_table("conversations", ("conversation_id", "item"), INDEXES)
    return database


@pytest.fixture
def ours(database: DynamoDb) -> Side:
    return Side(Table("conversations", database.call))


@pytest.fixture
def theirs(aws: Stack) -> Side:
    return Side(boto3.resource("dynamodb").Table("conversations"))


def test_each_method_of_the_records_is_compared() -> None:
    public = {name for name in vars(Records) if not name.startswith("_")}

    assert RECORD_STEPS.keys() == public


@pytest.mark.parametrize("seed", range(8))
def test_all_code_that_uses_the_table_works_the_same(
    ours: Side, theirs: Side, database: DynamoDb, aws: Stack, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.record, "MOST_STAGED", 3)
    steps = Steps(seed).make(200)

    for start in range(0, len(steps), 20):
        assert_same(ours, theirs, steps[start : start + 20])
        assert database.items("conversations") == aws.items()


@pytest.mark.parametrize("seed", range(4))
def test_random_expressions_mean_the_same(ours: Side, theirs: Side, database: DynamoDb, aws: Stack, seed: int) -> None:
    assert_same(ours.table, theirs.table, ExpressionSteps(seed).make(300))

    assert database.items("conversations") == aws.items()
