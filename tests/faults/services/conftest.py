"""A table in memory, for the tests of the in-memory DynamoDB."""

import pytest

from shared.indexes import INDEXES
from tests.faults.services.dynamodb import DynamoDb, Table
from tests.faults.services.table_steps import Side


@pytest.fixture
def database() -> DynamoDb:
    database = DynamoDb(lambda: 0.0)
    database.create_table("conversations", ("conversation_id", "item"), INDEXES)
    return database


@pytest.fixture
def ours(database: DynamoDb) -> Side:
    return Side(Table("conversations", database.call))
