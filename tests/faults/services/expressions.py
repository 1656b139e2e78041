"""DynamoDB's expressions, compiled once per text into closures over an item and the expression's values."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from operator import ge, le
from typing import Any, TypeVar

from tests.faults.services.programs import (
    ABSENT,
    ORDERS,
    Item,
    KeyCondition,
    Operand,
    Program,
    Test,
    contains,
    equal,
    follow,
    invalid,
    ordered,
    size,
)  # fmt: skip

Names = tuple[tuple[str, str], ...]
T = TypeVar("T")

_TOKENS = re.compile(r"<=|>=|<>|[=<>(),.]|[#:]?\w+|\S")
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


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
        self._last_group = (0, 0)  # where the last condition in parentheses begins and ends

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
            return self._group()
        if function := self._take("attribute_exists", "attribute_not_exists"):
            (path,) = self._arguments(self._path)
            wanted = function == "attribute_exists"
            return lambda item, values: (path(item, values) is not ABSENT) is wanted
        if self._take("contains"):
            path, part = self._arguments(self._operand)
            return lambda item, values: contains(path(item, values), part(item, values))
        return self._comparison(self._operand())

    def _group(self) -> Test:
        """The rest of a condition in parentheses. They must have more in them than others."""
        begin = self._at
        test = self.read_condition()
        if self._last_group == (begin + 1, self._at):
            raise invalid("The expression has redundant parentheses")
        self._expect(")")
        self._last_group = (begin, self._at)
        return test

    def _comparison(self, left: Operand) -> Test:
        if self._take("BETWEEN"):
            low = self._operand()
            self._expect("AND")
            high = self._operand()
            return lambda item, values: (
                ordered(ge, left(item, values), low(item, values))
                and ordered(le, left(item, values), high(item, values))
            )
        if self._take("IN"):
            choices = self._arguments(self._operand)
            return lambda item, values: any(equal(left(item, values), each(item, values)) for each in choices)
        sign = self._take("=", "<>", *ORDERS)
        right = self._operand()
        if sign == "=":
            return lambda item, values: equal(left(item, values), right(item, values))
        if sign == "<>":
            return lambda item, values: not equal(left(item, values), right(item, values))
        if sign not in ORDERS:
            raise self._unsupported()
        compare = ORDERS[sign]
        return lambda item, values: ordered(compare, left(item, values), right(item, values))

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
            return lambda item, values: size(path(item, values))
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
        return lambda item, values: follow(item, names)

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
