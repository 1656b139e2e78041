"""What says that a caller was erased: nothing of before comes back, however late it comes.

A tombstone holds no number but a keyed hash of it, and the time of the erasure. The key is a secret of the stack; it
never changes, for with another one the tombstones would say nothing.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from shared.times import utc

KEPT = timedelta(days=730)  # ElevenLabs keeps a call for two years by default, and may be asked for it until then
_ITEM = "tombstone"


class Tombstones:
    """Those of callers, in the ConversationTable. `read_key` gives the key; it is asked once."""

    def __init__(self, table: Any, read_key: Callable[[], str]) -> None:
        self._table, self._read_key = table, read_key

    def erase(self, digits: str, at: datetime) -> None:
        """The caller with that number was erased at that time; of several erasures the last one counts."""
        expires = int((at + KEPT).timestamp())
        self._table.put_item(Item=self._item(digits) | {"erased_at": utc(at), "expires": expires})

    def erased_at(self, digits: str) -> datetime | None:
        """When the caller with that number was erased last; None if that never was."""
        answer = self._table.get_item(Key=self._item(digits), ConsistentRead=True)
        return datetime.fromisoformat(answer["Item"]["erased_at"]) if "Item" in answer else None

    def _item(self, digits: str) -> dict[str, str]:
        hashed = hmac.new(self._key, digits.encode(), hashlib.sha256).hexdigest()
        return {"conversation_id": f"#caller/{hashed}", "item": _ITEM}  # no id of a conversation: those hold no #

    @cached_property
    def _key(self) -> bytes:
        return self._read_key().encode()
