"""Random updates, conditions and queries of DynamoDB on few items, in all forms that the in-memory service reads."""

from functools import partial
from random import Random
from typing import Any

from tests.faults.services.comparison import Step

ITEMS = ("1", "2", "3")
VALUES: dict[str, tuple[Any, ...]] = {
    "text": ("a", "ab", "b"), "number": (0, 1, 2, 10), "set": ({"a"}, {"a", "b"}, {"b", "c"}),
    "label": ("a", "ab", "c"), "total": (1, 2, 3), "map": ({"x": "a", "y": 1}, {"x": "b"}), "flag": (True, False),
}  # fmt: skip
# Attributes of the same type: moto raises TypeError if it compares different ones. In AWS such a test is false.
LIKE = {"text": "label", "label": "text", "number": "total", "total": "number"}


class ExpressionSteps:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._values: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def make(self, count: int) -> list[tuple[str, Step]]:
        return [self._random.choices((self._update, self._put, self._delete, self._get), (6, 2, 1, 1))[0]()
                for _ in range(count)]  # fmt: skip

    def _step(self, operation: str, **parameters: Any) -> tuple[str, Step]:
        parameters |= {"ExpressionAttributeNames": self._names} if self._names else {}
        parameters |= {"ExpressionAttributeValues": self._values} if self._values else {}
        self._names, self._values = {}, {}
        return f"{operation} {parameters}", partial(_call, operation, parameters)

    def _update(self) -> tuple[str, Step]:
        """An update that only removes needs the item: AWS does not create an item for it, but moto does.

        https://github.com/scylladb/scylladb/issues/5862 compared this with AWS.
        """
        update = self._clauses()
        if "SET" not in update and "ADD" not in update:
            condition = {"ConditionExpression": f"attribute_exists({self._name('item')}) AND {self._test()}"}
        else:
            condition = {"ConditionExpression": self._condition(2)} if self._random.random() < 0.5 else {}
        return self._step("update_item", Key=self._key(), UpdateExpression=update, ReturnValues="ALL_NEW", **condition)

    def _put(self) -> tuple[str, Step]:
        some = [kind for kind in VALUES if self._random.random() < 0.7]
        item = {kind: self._random.choice(VALUES[kind]) for kind in some}
        condition = {"ConditionExpression": self._condition(1)} if self._random.random() < 0.3 else {}
        return self._step("put_item", Item=self._key() | item, **condition)

    def _delete(self) -> tuple[str, Step]:
        return self._step("delete_item", Key=self._key(), ConditionExpression=self._condition(1))

    def _get(self) -> tuple[str, Step]:
        return self._step("get_item", Key=self._key(), ConsistentRead=True)

    def _key(self) -> dict[str, str]:
        return {"conversation_id": "one", "item": self._random.choice(ITEMS)}

    def _clauses(self) -> str:
        """Each attribute in at most one clause."""
        clauses: dict[str, list[str]] = {}
        for kind in self._random.sample(list(VALUES), self._random.choice((1, 1, 2, 3))):
            verb = self._random.choice(("SET", "SET", "REMOVE", *(("ADD", "DELETE") if kind == "set" else ())))
            clauses.setdefault(verb, []).append(self._clause(verb, kind))
        return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items())

    def _clause(self, verb: str, kind: str) -> str:
        name = self._name(kind)
        if verb == "REMOVE":
            return name
        if verb != "SET":
            return f"{name} {self._value(kind)}"
        if self._random.random() < 0.5:
            return f"{name} = {self._value(kind)}"
        source = self._random.choice((kind, LIKE.get(kind, kind)))
        return f"{name} = if_not_exists({self._name(source)}, {self._value(kind)})"

    def _condition(self, depth: int) -> str:
        if depth == 0:
            return self._test()
        form = self._random.choice(
            ("{}", "{} AND {}", "{} OR {}", "NOT ({} AND {})", "({} OR {}) AND {}", "{} OR NOT ({} OR {})")
        )
        return form.format(*(self._condition(depth - 1) for _ in range(form.count("{}"))))

    def _test(self) -> str:
        kind = self._random.choice(list(VALUES))
        path = self._name(kind)
        if kind == "map" and self._random.random() < 0.7:
            kind, path = "text", path + ".x"
        form = self._random.choice(FORMS["any"] + FORMS.get(kind, ()))
        return form.format(path=path, **self._filled(form, kind))

    def _filled(self, form: str, kind: str) -> dict[str, str]:
        """The placeholders of a form, with values of this kind."""
        filled = {name: self._value(kind) for name in ("a", "b") if f"{{{name}}}" in form}
        if "{low}" in form:
            low, high = sorted(self._random.choices(VALUES[kind], k=2))
            filled |= {"low": self._add(low), "high": self._add(high)}
        if "{part}" in form:
            filled["part"] = self._add(self._random.choice(("a", "b", "c")))
        if "{length}" in form:
            filled["length"] = self._add(self._random.choice((0, 1, 2)))
        return filled

    def _name(self, kind: str) -> str:
        self._names[f"#{kind}"] = kind
        return f"#{kind}"

    def _value(self, kind: str) -> str:
        return self._add(self._random.choice(VALUES[kind]))

    def _add(self, value: Any) -> str:
        name = f":v{len(self._values)}"
        self._values[name] = value
        return name


ORDERS = ("{path} < {a}", "{path} <= {a}", "{path} > {a}", "{path} >= {a}", "{path} BETWEEN {low} AND {high}")
LISTS = ("{path} IN ({a}, {b})", "{path} IN ({a})")
# With its own check, because moto raises ValueError for the size of an absent attribute; in AWS the test is false.
PARTS = (
    "contains({path}, {part})", "attribute_exists({path}) AND size({path}) < {length}",
    "(attribute_not_exists({path}) OR size({path}) >= {length})",
)  # fmt: skip
FORMS = {
    "any": ("attribute_exists({path})", "attribute_not_exists({path})", "{path} = {a}", "{path} <> {a}"),
    "text": ORDERS + LISTS + PARTS, "label": ORDERS, "number": ORDERS + LISTS, "total": ORDERS, "set": PARTS,
}  # fmt: skip


def _call(operation: str, parameters: dict[str, Any], table: Any) -> Any:
    answer = getattr(table, operation)(**parameters)
    return {name: answer[name] for name in ("Item", "Attributes") if name in answer}
