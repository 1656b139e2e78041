"""What DynamoDB's expressions are compiled to, and how values are compared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]
Operand = Callable[[Item, Item], Any]
Test = Callable[[Item, Item], bool]

ABSENT = object()  # what an operand has if the item lacks the attribute
ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}


def invalid(message: str) -> ClientError:
    return ClientError({"Error": {"Code": "ValidationException", "Message": message}}, "DynamoDB")


@dataclass
class Program:
    """An update and its condition. `values` are the placeholders that both use."""

    test: Test | None = None
    sets: list[tuple[str, Operand]] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    adds: list[tuple[str, str]] = field(default_factory=list)
    deletes: list[tuple[str, str]] = field(default_factory=list)
    values: frozenset[str] = frozenset()

    @property
    def targets(self) -> list[str]:
        return [*self.removes, *(name for name, _ in (*self.sets, *self.adds, *self.deletes))]

    @property
    def only_removes(self) -> bool:
        return not (self.sets or self.adds)

    def apply(self, before: Item, values: Item) -> Item:
        """The item after the update. All right-hand sides see the item before it."""
        after = before.copy()
        for name, operand in self.sets:
            after[name] = value = operand(before, values)
            if value is ABSENT:
                raise invalid("The provided expression refers to an attribute that does not exist in the item")
        for name in self.removes:
            after.pop(name, None)
        for name, placeholder in self.adds:
            after[name] = _set_of(before, name, values[placeholder]) | values[placeholder]
        for name, placeholder in self.deletes:
            if left := _set_of(before, name, values[placeholder]) - values[placeholder]:
                after[name] = left
            else:
                after.pop(name, None)
        return after


def _set_of(item: Item, name: str, operand: Any) -> frozenset[str]:
    found = item.get(name, frozenset())
    if found.__class__ is not frozenset or operand.__class__ is not frozenset:
        raise invalid("An operand in the update expression has an incorrect data type")
    return found


@dataclass(frozen=True)
class KeyCondition:
    """Which partition a query reads, and the placeholders of the range's bounds, if it has any."""

    hash_name: str
    hash_value: str
    range_name: str | None
    low: str
    high: str
    values: frozenset[str]


def follow(item: Any, names: list[str]) -> Any:
    for name in names:
        item = item.get(name, ABSENT) if item.__class__ is dict else ABSENT
    return item


def size(value: Any) -> Any:
    return len(value) if value.__class__ in (str, frozenset, dict, list) else ABSENT


def contains(value: Any, part: Any) -> bool:
    if value.__class__ is str:
        return part.__class__ is str and part in value
    return value.__class__ in (frozenset, list) and part in value


def _is_number(value: Any) -> bool:
    return value.__class__ in (int, Decimal)


def equal(left: Any, right: Any) -> bool:
    if left is ABSENT or right is ABSENT:
        return False
    return left == right and (left.__class__ is right.__class__ or (_is_number(left) and _is_number(right)))


def ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """False if one is absent, or both are not of the same kind."""
    alike = left.__class__ is right.__class__ is str or (_is_number(left) and _is_number(right))
    return alike and compare(left, right)
