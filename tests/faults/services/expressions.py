"""DynamoDB's expressions, compiled once per text into closures over an item and the expression's values."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from operator import ge, gt, le, lt
from typing import Any, TypeVar

from botocore.exceptions import ClientError

Names = tuple[tuple[str, str], ...]
Item = dict[str, Any]
Operand = Callable[[Item, Item], Any]
T = TypeVar("T")
Test = Callable[[Item, Item], bool]

ABSENT = object()  # what an operand has if the item lacks the attribute
_TOKENS = re.compile(r"<=|>=|<>|[=<>(),.]|[#:]?\w+|\S")
_ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


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


@cache
def compile_update(update: str, condition: str, names: Names) -> Program:
    """An update, a condition, or both; either may be empty."""
    program, updates, conditions = Program(), Parser(update, names), Parser(condition, names)
    if update:
        updates.read_update(program)
    if condition:
        program.test = conditions.read_all(conditions.read_condition)
    if len(set(program.targets)) < len(program.targets):
        raise invalid("Two document paths overlap with each other; must remove or rewrite one of these paths")
    program.values = _used(names, updates, conditions)
    return program


@cache
def compile_keys(text: str, names: Names) -> KeyCondition:
    parser = Parser(text, names)
    hash_name, hash_value, range_name, low, high = parser.read_all(parser.read_keys)
    return KeyCondition(hash_name, hash_value, range_name, low, high, _used(names, parser))


def _used(names: Names, *parsers: "Parser") -> frozenset[str]:
    used = {each for parser in parsers for each in parser.used}
    if unused := {name for name, _ in names} - used:
        raise invalid(f"Value provided in ExpressionAttributeNames unused in expressions: keys: {sorted(unused)}")
    return frozenset(each for each in used if each.startswith(":"))


class Parser:
    def __init__(self, text: str, names: Names) -> None:
        self._text, self._at = text, 0
        self._tokens: list[str] = [*_TOKENS.findall(text), ""]
        self._names, self.used = dict(names), set[str]()

    def read_all(self, read: Callable[[], T]) -> T:
        found = read()
        self._expect("")
        return found

    def read_keys(self) -> tuple[str, str, str | None, str, str]:
        hash_name = self._name()
        self._expect("=")
        hash_value = self._placeholder()
        if not self._take("AND"):
            return hash_name, hash_value, None, "", ""
        range_name = self._name()
        self._expect("BETWEEN")
        low = self._placeholder()
        self._expect("AND")
        return hash_name, hash_value, range_name, low, self._placeholder()

    def read_update(self, program: Program) -> None:
        seen: set[str] = set()
        while clause := self._take(*_CLAUSES):
            if clause in seen:
                raise invalid(f'The "{clause}" section can only be used once in an update expression')
            seen.add(clause)
            for name in self._list(self._name):
                if clause == "SET":
                    self._expect("=")
                    program.sets.append((name, self._assigned()))
                elif clause == "REMOVE":
                    program.removes.append(name)
                else:
                    (program.adds if clause == "ADD" else program.deletes).append((name, self._placeholder()))
        self._expect("")

    def read_condition(self) -> Test:
        tests = [self._all()]
        while self._take("OR"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda item, values: any(test(item, values) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._take("AND"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda item, values: all(test(item, values) for test in tests)

    def _one(self) -> Test:
        if self._take("NOT"):
            test = self._one()
            return lambda item, values: not test(item, values)
        if self._take("("):
            test = self.read_condition()
            self._expect(")")
            return test
        if function := self._take("attribute_exists", "attribute_not_exists"):
            (path,) = self._arguments(self._path)
            wanted = function == "attribute_exists"
            return lambda item, values: (path(item, values) is not ABSENT) is wanted
        if self._take("contains"):
            path, part = self._arguments(self._operand)
            return lambda item, values: _contains(path(item, values), part(item, values))
        return self._comparison(self._operand())

    def _comparison(self, left: Operand) -> Test:
        if self._take("BETWEEN"):
            low = self._operand()
            self._expect("AND")
            high = self._operand()
            return lambda item, values: (
                _ordered(ge, left(item, values), low(item, values))
                and _ordered(le, left(item, values), high(item, values))
            )
        if self._take("IN"):
            choices = self._arguments(self._operand)
            return lambda item, values: any(_equal(left(item, values), each(item, values)) for each in choices)
        sign = self._take("=", "<>", *_ORDERS)
        right = self._operand()
        if sign == "=":
            return lambda item, values: _equal(left(item, values), right(item, values))
        if sign == "<>":
            return lambda item, values: not _equal(left(item, values), right(item, values))
        if sign not in _ORDERS:
            raise self._unsupported()
        compare = _ORDERS[sign]
        return lambda item, values: _ordered(compare, left(item, values), right(item, values))

    def _assigned(self) -> Operand:
        if not self._take("if_not_exists"):
            return self._operand()
        path, default = self._arguments(self._operand)

        def value(item: Item, values: Item) -> Any:
            found = path(item, values)
            return default(item, values) if found is ABSENT else found

        return value

    def _operand(self) -> Operand:
        if self._take("size"):
            (path,) = self._arguments(self._path)
            return lambda item, values: _size(path(item, values))
        if self._tokens[self._at].startswith(":"):
            placeholder = self._placeholder()
            return lambda item, values: values[placeholder]
        return self._path()

    def _path(self) -> Operand:
        names = [self._name(nested=True)]
        while self._take("."):
            names.append(self._name(nested=True))
        if len(names) == 1:
            name = names[0]
            return lambda item, values: item.get(name, ABSENT)
        return lambda item, values: _follow(item, names)

    def _name(self, nested: bool = False) -> str:
        token = self._next()
        if not nested and self._tokens[self._at] == ".":
            raise self._unsupported()
        if token.startswith("#"):
            self.used.add(token)
            if token not in self._names:
                raise invalid(f"An expression attribute name used in the document path is not defined: {token}")
            return self._names[token]
        if not re.fullmatch(r"[A-Za-z_]\w*", token) or self._tokens[self._at] == "(":
            raise self._unsupported()
        return token

    def _placeholder(self) -> str:
        token = self._next()
        if not token.startswith(":"):
            raise self._unsupported()
        self.used.add(token)
        return token

    def _arguments(self, read: Callable[[], Operand]) -> list[Operand]:
        self._expect("(")
        found = list(self._list(read))
        self._expect(")")
        return found

    def _list(self, read: Callable[[], T]) -> Iterator[T]:
        yield read()
        while self._take(","):
            yield read()

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *choices: str) -> str:
        token = self._tokens[self._at]
        if token not in choices:
            return ""
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise self._unsupported()

    def _unsupported(self) -> NotImplementedError:
        return NotImplementedError(f"expression {self._text!r}, at word {self._at}")


def _follow(item: Any, names: list[str]) -> Any:
    for name in names:
        item = item.get(name, ABSENT) if item.__class__ is dict else ABSENT
    return item


def _size(value: Any) -> Any:
    return len(value) if value.__class__ in (str, frozenset, dict, list) else ABSENT


def _contains(value: Any, part: Any) -> bool:
    if value.__class__ is str:
        return part.__class__ is str and part in value
    return value.__class__ in (frozenset, list) and part in value


def _is_number(value: Any) -> bool:
    return value.__class__ in (int, Decimal)


def _equal(left: Any, right: Any) -> bool:
    if left is ABSENT or right is ABSENT:
        return False
    return left == right and (left.__class__ is right.__class__ or (_is_number(left) and _is_number(right)))


def _ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """False if one is absent, or both are not of the same kind."""
    alike = left.__class__ is right.__class__ is str or (_is_number(left) and _is_number(right))
    return alike and compare(left, right)
