"""Staged bodies that were not finished in their hours: parked, failed, or such that nobody can read them.

They may be about somebody whom no record names, so that an erasure looks at each. A line is left when its body is
finished or gone; an erasure that comes by removes it.
"""

from collections.abc import Iterator
from typing import Any

from boto3.dynamodb.conditions import Key

_KEY = "#unfinished"  # no id of a conversation: those hold no #


class Unfinished:
    def __init__(self, table: Any) -> None:
        self._table = table

    def note(self, staged_key: str) -> None:
        self._table.put_item(Item={"conversation_id": _KEY, "item": staged_key})

    def keys(self) -> Iterator[str]:
        query: dict[str, Any] = {"KeyConditionExpression": Key("conversation_id").eq(_KEY), "ConsistentRead": True}
        while True:
            answer = self._table.query(**query)
            yield from (item["item"] for item in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def remove(self, staged_key: str) -> None:
        self._table.delete_item(Key={"conversation_id": _KEY, "item": staged_key})
