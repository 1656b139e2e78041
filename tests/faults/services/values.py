"""The values of items: how they are stored, copied and measured."""

from decimal import Decimal
from typing import Any

from tests.faults.services.programs import Item, invalid

_MOST_BYTES = 400 * 1024


def stored(value: Any) -> Any:
    """A copy that nobody else can change."""
    kind = value.__class__
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is set or kind is frozenset:
        if not value:
            raise invalid("One or more parameter values were invalid: An string set  may not be empty")
        return frozenset(value)
    if kind is dict:
        return {name: _flat(each) for name, each in value.items()}
    if kind is list or kind is tuple:
        return [_flat(each) for each in value]
    return _flat(value)


def _flat(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        raise TypeError("Float types are not supported. Use Decimal types instead.")
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Decimal) and value == int(value):
        return int(value)
    raise NotImplementedError(f"a value of {type(value)}")


def copied(item: Item) -> Item:
    """A copy, because callers may change what they get."""
    return {
        name: value.copy() if value.__class__ is dict or value.__class__ is list else value
        for name, value in item.items()
    }


def is_too_large(item: Item) -> bool:
    """A coarse upper bound first, because most items are small: 1 KB for each element of a set."""
    rough = 0
    for value in item.values():
        kind = value.__class__
        if kind is str:
            rough += len(value)
        elif kind is frozenset or kind is dict or kind is list:
            rough += len(value) << 10
    return rough > _MOST_BYTES // 4 and sum(len(name) + _bytes(value) for name, value in item.items()) > _MOST_BYTES


def _bytes(value: Any) -> int:
    """An estimate: numbers and flags count 8 bytes."""
    if value.__class__ is str:
        return len(value) if value.isascii() else len(value.encode())
    if value.__class__ is dict:
        return 3 + sum(1 + len(name) + _bytes(each) for name, each in value.items())
    if value.__class__ is frozenset or value.__class__ is list:
        return sum(map(_bytes, value))
    return 8
