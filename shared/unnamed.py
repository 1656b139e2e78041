"""A list of the staged bodies that no call's record names. An erasure must read each of them.

It has the bodies of events without a conversation, and bodies not finished within their hour (failed or unreadable). An
erasure removes a line if its body is gone, or if a record names it by then.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from boto3.dynamodb.conditions import Attr, Key

from shared.record import query_pages
from shared.times import utc

_KEY = "#unnamed"  # not a conversation's id: those contain no #


class Unnamed:
    def __init__(self, table: Any) -> None:
        self._table = table

    def note(self, staged_key: str, until: datetime | None = None) -> None:
        """List a body; `until` is when it expires. A body that was not finished never expires."""
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
