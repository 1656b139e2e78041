"""The progress of the scheduled passes, stored in the ConversationTable so that the next pass continues there."""

from typing import Any

_KEY = "#reconciler"  # not a conversation's id: those contain no #


class Bookmarks:
    def __init__(self, table: Any) -> None:
        self._table = table

    def read(self, name: str) -> str | None:
        item = self._table.get_item(Key={"conversation_id": _KEY, "item": name}, ConsistentRead=True).get("Item", {})
        return str(item["reached"]) if item else None

    def remove(self, name: str) -> None:
        self._table.delete_item(Key={"conversation_id": _KEY, "item": name})

    def write(self, name: str, reached: str) -> None:
        self._table.put_item(Item={"conversation_id": _KEY, "item": name, "reached": reached})
