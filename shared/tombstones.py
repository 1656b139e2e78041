"""Tombstones of erased callers: calls from before the erasure are not archived, however late they arrive.

A tombstone holds a keyed hash of the number and the time of the erasure, but not the number. The key is a secret of the
stack. It must never change, because the tombstones could not be found with another key.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from shared.times import utc

KEPT = timedelta(days=730)  # ElevenLabs keeps a call for two years by default; a pass may fetch it until then
_ITEM = "tombstone"


class Tombstones:
    """The callers' tombstones in the ConversationTable. `read_key` returns the key and is called once."""

    def __init__(self, table: Any, read_key: Callable[[], str]) -> None:
        self._table, self._read_key = table, read_key

    def record_erasure(self, digits: str, at: datetime) -> None:
        """Write that the caller with this number was erased `at` this time; the last erasure counts."""
        expires = int((at + KEPT).timestamp())
        self._table.put_item(Item=self._item(digits) | {"erased_at": utc(at), "expires": expires})

    def erased_at(self, digits: str) -> datetime | None:
        """When the caller with this number was last erased; None if never."""
        answer = self._table.get_item(Key=self._item(digits), ConsistentRead=True)
        return datetime.fromisoformat(answer["Item"]["erased_at"]) if "Item" in answer else None

    def hash_of(self, digits: str) -> str:
        """The keyed hash of a number."""
        return hmac.new(self._key, digits.encode(), hashlib.sha256).hexdigest()

    def _item(self, digits: str) -> dict[str, str]:
        return {"conversation_id": f"#caller/{self.hash_of(digits)}", "item": _ITEM}  # the ids of calls contain no #

    @cached_property
    def _key(self) -> bytes:
        return self._read_key().encode()
