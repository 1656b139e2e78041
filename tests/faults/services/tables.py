"""A table in memory: its items, and its sorted indexes, which may lag."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict, deque
from typing import Any

from shared.indexes import LISTED, LISTS
from tests.faults.services.programs import Item, KeyCondition, invalid

Key = tuple[str, str]
Entry = tuple[str, Key]  # of an index: the range attribute's value, and the item's key

_LAST = ("\U0010ffff", "")  # after every key


class Index:
    """Sorted entries per value of the hash attribute. An item that lacks one of the attributes has no entry."""

    def __init__(self, names: tuple[str, str], lists: bool = False) -> None:
        self.names, self.lists = names, lists
        self._entries: defaultdict[str, list[Entry]] = defaultdict(list)

    def place(self, item: Item | None) -> tuple[str, str] | None:
        if item is None or self.names[0] not in item or self.names[1] not in item:
            return None
        return item[self.names[0]], item[self.names[1]]

    def move(self, key: Key, before: tuple[str, str] | None, after: tuple[str, str] | None) -> None:
        if before == after:
            return
        if before:
            entries = self._entries[before[0]]
            del entries[bisect_left(entries, (before[1], key))]
        if after:
            insort(self._entries[after[0]], (after[1], key))

    def between(self, keys: KeyCondition, values: Item) -> list[Entry]:
        if keys.hash_name != self.names[0] or keys.range_name not in (None, self.names[1]):
            raise invalid("Query condition missed key schema element")
        entries = self._entries.get(values[keys.hash_value], [])
        if keys.range_name is None:
            return entries
        low, high = values[keys.low], values[keys.high]
        if low > high:
            raise invalid("The BETWEEN operator requires upper bound to be greater than or equal to lower bound")
        return entries[bisect_left(entries, (low,)) : bisect_right(entries, (high, _LAST))]


class StoredTable:
    """The items, which are replaced and never changed, and the indexes with their changes that are not visible yet."""

    def __init__(self, key: tuple[str, str], indexes: dict[str, tuple[str, str]]) -> None:
        self.key, self.items = key, dict[Key, Item]()
        self._primary = Index(key)
        self._indexes = {name: Index(names, name in LISTS) for name, names in indexes.items()}
        self._indexed = {name for names in indexes.values() for name in names}
        self._changes: deque[tuple[float, Index, Key, Any, Any]] = deque()

    def index(self, name: str | None) -> Index:
        if name is None:
            return self._primary
        if name not in self._indexes:
            raise invalid(f"The table does not have the specified index: {name}")
        return self._indexes[name]

    def key_of(self, given: Item) -> Key:
        hash_name, range_name = self.key
        if len(given) != 2 or not all(given.get(name).__class__ is str and given[name] for name in self.key):
            raise invalid("The provided key element does not match the schema")
        return given[hash_name], given[range_name]

    def store(self, key: Key, item: Item | None, now: float) -> None:
        """Write an item, or delete it if `item` is None."""
        self._require_texts(item or {})
        before = self.items.get(key)
        for index in self._indexes.values():
            old, new = index.place(before), index.place(item)
            if old != new:
                self._changes.append((now, index, key, old, new))
        if item is None:
            self.items.pop(key, None)
        else:
            self.items[key] = item
        self._primary.move(key, self._primary.place(before), self._primary.place(item))

    def settle(self, until: float) -> None:
        """Show the indexes' changes up to this time."""
        changes = self._changes
        while changes and changes[0][0] <= until:
            _, index, key, before, after = changes.popleft()
            index.move(key, before, after)

    def after(self, entries: list[Entry], index: Index, start: Item, forward: bool) -> list[Entry]:
        entry = start[index.names[1]], self.key_of({name: start[name] for name in self.key})
        return entries[bisect_right(entries, entry) :] if forward else entries[: bisect_left(entries, entry)]

    def projection(self, index: Index, value: str, entry: Entry) -> Item:
        """The attributes of the index's and the table's keys, and what else the index has of the item as it is now."""
        keys = dict(zip((*index.names, *self.key), (value, entry[0], *entry[1]), strict=True))
        item = self.items.get(entry[1], {}) if index.lists else {}
        return {name: item[name] for name in LISTED if name in item} | keys

    def _require_texts(self, item: Item) -> None:
        for name in self._indexed & item.keys():
            if item[name].__class__ is not str or not item[name]:
                raise invalid(f"One or more parameter values were invalid: Type mismatch for Index Key {name}")
