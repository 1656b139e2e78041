"""Staged bodies that no record of a call names, so that an erasure must look at each of them.

Those of events without a conversation, and those that were not finished in their hours: failed, or such that nobody can
read them. A line stays until an erasure comes by and finds its body gone, or named by a record after all.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from boto3.dynamodb.conditions import Attr, Key

from shared.record import query_pages
from shared.times import utc

_KEY = "#unnamed"  # no id of a conversation: those hold no #


class Unnamed:
    def __init__(self, table: Any) -> None:
        self._table = table

    def note(self, staged_key: str, until: datetime | None = None) -> None:
        """`until` is when the body has expired; one that nobody finished does not."""
        expires = {"expires": int(until.timestamp())} if until else {}
        self._table.put_item(Item={"conversation_id": _KEY, "item": staged_key} | expires)

    def note_unless_dropped(self, staged_key: str) -> bool:
        """Note an unfinished body; False if an operator dropped its message, so that nobody sends it again."""
        try:
            self._table.put_item(
                Item={"conversation_id": _KEY, "item": staged_key},
                ConditionExpression=Attr("dropped_at").not_exists(),
            )
        except self._table.meta.client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def note_dropped(self, staged_key: str, now: datetime) -> None:
        """Note that an operator drops the message of an unfinished body. The body stays."""
        self._table.put_item(Item={"conversation_id": _KEY, "item": staged_key, "dropped_at": utc(now)})

    def dropped(self) -> set[str]:
        """The keys of the bodies whose messages an operator dropped. Some may be archived by now."""
        return {item["item"] for item in self._items() if "dropped_at" in item}

    def keys(self) -> Iterator[str]:
        return (item["item"] for item in self._items())

    def remove(self, staged_key: str) -> None:
        self._table.delete_item(Key={"conversation_id": _KEY, "item": staged_key})

    def _items(self) -> Iterator[dict[str, Any]]:
        query = {"KeyConditionExpression": Key("conversation_id").eq(_KEY), "ConsistentRead": True}
        return (item for page in query_pages(self._table, query) for item in page)
