"""DynamoDB in memory, with the Python values of boto3's resource layer. Numbers are int, and sets are frozensets."""

from collections.abc import Callable, Mapping
from inspect import signature
from types import SimpleNamespace
from typing import Any

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from botocore.exceptions import ClientError

from tests.faults.services.expressions import compile_keys, compile_update
from tests.faults.services.programs import Item, invalid
from tests.faults.services.tables import Key, StoredTable
from tests.faults.services.values import copied, is_too_large, stored

Call = Callable[[str, dict[str, Any]], dict[str, Any]]


class ConditionalCheckFailedException(ClientError):
    def __init__(self) -> None:
        code, message = "ConditionalCheckFailedException", "The conditional request failed"
        ClientError.__init__(self, {"Error": {"Code": code, "Message": message}}, "DynamoDB")


class DynamoDb:
    """`index_lag`: an index sees only writes that are older than this many seconds. It never goes back.

    `most_per_page` items are one page of a query (1 MB on AWS), and `most_per_batch` keys are read by one
    batch_get_item: the others are its UnprocessedKeys.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._tables = clock, dict[str, StoredTable]()
        self.index_lag, self.most_per_page, self.most_per_batch = 0.0, 5000, 100
        methods = {name: getattr(self, f"_{name}") for name in OPERATIONS}
        self._operations = {name: (method, signature(method).parameters.keys()) for name, method in methods.items()}

    def create_table(self, name: str, key: tuple[str, str], indexes: dict[str, tuple[str, str]]) -> None:
        """The indexes have the projections of the template."""
        self._tables[name] = StoredTable(key, indexes)

    def items(self, name: str) -> dict[Key, Item]:
        """A copy of the whole table."""
        return {key: copied(item) for key, item in self._table(name).items.items()}

    def expire(self) -> None:
        """Delete the items whose time to live is over. AWS does this within days."""
        now = self._clock()
        for table in self._tables.values():
            for key in [key for key, item in table.items.items() if _is_expired(item, now)]:
                self._store(table, key, None)

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if operation not in self._operations:
            raise NotImplementedError(f"dynamodb.{operation}")
        method, known = self._operations[operation]
        if unknown := parameters.keys() - known:
            raise NotImplementedError(f"dynamodb.{operation}: {', '.join(sorted(unknown))}")
        answer: dict[str, Any] = method(**parameters)
        return answer

    def _get_item(self, TableName: str, Key: Item, ConsistentRead: bool = False) -> dict[str, Any]:
        _require_consistent(ConsistentRead)
        table = self._table(TableName)
        item = table.items.get(table.key_of(Key))
        return {} if item is None else {"Item": copied(item)}

    def _batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        ((name, asked),) = RequestItems.items()
        if asked.keys() - {"Keys", "ConsistentRead"}:
            raise NotImplementedError(f"dynamodb.batch_get_item: {sorted(asked)}")
        _require_consistent(asked.get("ConsistentRead", False))
        table, keys = self._table(name), asked["Keys"]
        if not 1 <= len(keys) <= 100:
            raise invalid("Too many items requested for the BatchGetItem call")
        wanted = [table.key_of(key) for key in keys]
        if len(set(wanted)) < len(wanted):
            raise invalid("Provided list of item keys contains duplicates")
        found = [copied(table.items[key]) for key in wanted[: self.most_per_batch] if key in table.items]
        left = keys[self.most_per_batch :]
        return {"Responses": {name: found}, "UnprocessedKeys": {name: asked | {"Keys": left}} if left else {}}

    def _put_item(
        self, TableName: str, Item: Item, ConditionExpression: str | ConditionBase = "",
        ExpressionAttributeNames: Mapping[str, str] | None = None, ExpressionAttributeValues: Item | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        table = self._table(TableName)
        item = {name: stored(value) for name, value in Item.items()}
        key = table.key_of({name: item.get(name) for name in table.key})
        self._check(table.items.get(key, {}), ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        if is_too_large(item):
            raise invalid("Item size has exceeded the maximum allowed size")
        self._store(table, key, item)
        return {}

    def _delete_item(
        self, TableName: str, Key: Item, ConditionExpression: str | ConditionBase = "",
        ExpressionAttributeNames: Mapping[str, str] | None = None, ExpressionAttributeValues: Item | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        table = self._table(TableName)
        key = table.key_of(Key)
        self._check(table.items.get(key, {}), ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        self._store(table, key, None)
        return {}

    def _check(
        self, item: Item, condition: str | ConditionBase, names: Mapping[str, str] | None, values: Item | None
    ) -> None:
        if not isinstance(condition, str):
            condition, names, values = _built(condition)
        names, values = names or {}, _given(values)
        program = compile_update("", condition, tuple(names.items()))
        _require_same(program.values, values)
        if program.test and not program.test(item, values):
            raise ConditionalCheckFailedException

    def _update_item(
        self, TableName: str, Key: Item, UpdateExpression: str, ConditionExpression: str = "",
        ExpressionAttributeNames: Mapping[str, str] | None = None, ExpressionAttributeValues: Item | None = None,
        ReturnValues: str = "NONE",
    ) -> dict[str, Any]:  # fmt: skip
        if ReturnValues not in ("NONE", "ALL_NEW", "ALL_OLD"):
            raise NotImplementedError(f"dynamodb.update_item: ReturnValues={ReturnValues}")
        table, values = self._table(TableName), _given(ExpressionAttributeValues)
        names = tuple((ExpressionAttributeNames or {}).items())
        program = compile_update(UpdateExpression, ConditionExpression, names)
        _require_same(program.values, values)
        key = table.key_of(Key)
        before = table.items.get(key)
        if program.test and not program.test(before or {}, values):
            raise ConditionalCheckFailedException
        if before is None and program.only_removes:
            return {}
        after = program.apply(before or dict(Key), values)
        if (after[table.key[0]], after[table.key[1]]) != key:
            raise invalid("One or more parameter values were invalid: Cannot update attribute of the key")
        if is_too_large(after):
            raise invalid("Item size to update has exceeded the maximum allowed size")
        self._store(table, key, after)
        answered = {"ALL_NEW": after, "ALL_OLD": before}.get(ReturnValues)
        return {"Attributes": copied(answered)} if answered else {}

    def _query(
        self, TableName: str, KeyConditionExpression: str | ConditionBase, IndexName: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None, ExpressionAttributeValues: Item | None = None,
        Limit: int | None = None, ScanIndexForward: bool = True, ExclusiveStartKey: Item | None = None,
        ConsistentRead: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        table, names, values = self._table(TableName), ExpressionAttributeNames, ExpressionAttributeValues
        condition = KeyConditionExpression
        if not isinstance(condition, str):
            condition, names, values = _built(condition, keys=True)
        keys, values = compile_keys(condition, tuple((names or {}).items())), _given(values)
        _require_same(keys.values, values)
        self._require_consistency_of(IndexName, ConsistentRead)
        table.settle(self._clock() - self.index_lag)
        index = table.index(IndexName)
        entries = index.between(keys, values)
        if ExclusiveStartKey:
            entries = table.after(entries, index, ExclusiveStartKey, ScanIndexForward)
        most = min(Limit or self.most_per_page, self.most_per_page)
        page = entries[:most] if ScanIndexForward else entries[::-1][:most]
        projections = [table.projection(index, values[keys.hash_value], entry) for entry in page]
        found = projections if IndexName else [copied(table.items[key]) for _, key in page]
        last = {"LastEvaluatedKey": projections[-1].copy()} if len(page) == most else {}
        return {"Items": found, "Count": len(found)} | last

    def _describe_continuous_backups(self, TableName: str) -> dict[str, Any]:
        self._table(TableName)
        return {"ContinuousBackupsDescription": {"PointInTimeRecoveryDescription": {"RecoveryPeriodInDays": 35}}}

    def _require_consistency_of(self, index: str | None, consistent: bool) -> None:
        if index is None:
            _require_consistent(consistent)
        elif consistent:
            raise invalid("Consistent reads are not supported on global secondary indexes")

    def _table(self, name: str) -> StoredTable:
        if name not in self._tables:
            code, message = "ResourceNotFoundException", "Requested resource not found"
            raise ClientError({"Error": {"Code": code, "Message": message}}, "DynamoDB")
        return self._tables[name]

    def _store(self, table: StoredTable, key: Key, item: Item | None) -> None:
        now = self._clock()
        table.store(key, item, now)
        table.settle(now - self.index_lag)


OPERATIONS = (
    "get_item",
    "batch_get_item",
    "put_item",
    "update_item",
    "delete_item",
    "query",
    "describe_continuous_backups",
)


class Table:
    """What boto3's resource layer calls a table, as far as the code uses it."""

    def __init__(self, name: str, call: Call) -> None:
        self.name, self._call = name, call
        self.meta = SimpleNamespace(client=Client(call))

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        return lambda **parameters: self._call(operation, {"TableName": self.name, **parameters})


class Client:
    exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionalCheckFailedException)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        return lambda **parameters: self._call(operation, parameters)


def _built(condition: ConditionBase, keys: bool = False) -> tuple[str, Mapping[str, str], Item]:
    """The text, names and values of a condition that was made with Attr or Key."""
    built = ConditionExpressionBuilder().build_expression(condition, is_key_condition=keys)
    return built.condition_expression, built.attribute_name_placeholders, built.attribute_value_placeholders


def _given(values: Item | None) -> Item:
    return {name: stored(value) for name, value in values.items()} if values else {}


def _require_same(used: frozenset[str], given: Item) -> None:
    if used != given.keys():
        raise invalid(f"Values in ExpressionAttributeValues that are unused or not defined: {used ^ given.keys()}")


def _require_consistent(consistent: bool) -> None:
    if not consistent:
        raise NotImplementedError("a read without ConsistentRead")


def _is_expired(item: Item, now: float) -> bool:
    expires = item.get("expires")
    return expires.__class__ is int and expires < now
