"""The template's alarms and dashboard with their references resolved."""

import json
import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from scripts.embedded.deployment import TEMPLATE
from scripts.embedded.translation import translate
from scripts.operations.rules import Json, Metric, counted

STACK = "stack"
STACK_ID = f"arn:aws:cloudformation:us-east-1:111122223333:stack/{STACK}/0123abcd-0123-abcd"
NO_VALUE = "AWS::NoValue"  # what resolves to this is left out


@cache
def translated() -> Json:
    return translate(TEMPLATE)


class Deployed:
    """What the template makes with these parameters. A `Ref` is the logical name, a `GetAtt` is `name.attribute`."""

    def __init__(self, **parameters: str) -> None:
        template = translated()
        defaults = {name: declared.get("Default") for name, declared in template["Parameters"].items()}
        self.conditions, self.values = (
            template["Conditions"],
            defaults | parameters | {"AWS::StackName": STACK, "AWS::StackId": STACK_ID},
        )
        self.resources = {name: each for name, each in template["Resources"].items() if self.makes(each)}

    def makes(self, resource: Json) -> bool:
        return "Condition" not in resource or bool(self.resolve({"Condition": resource["Condition"]}))

    def of(self, kind: str) -> dict[str, Json]:
        """The properties of all resources of a type, by logical name."""
        found = {name: each for name, each in self.resources.items() if each["Type"] == kind}
        return {name: self.resolve(each.get("Properties", {})) for name, each in found.items()}

    @property
    def alarms(self) -> dict[str, Json]:
        return self.of("AWS::CloudWatch::Alarm")

    @property
    def dashboard(self) -> Json:
        (dashboard,) = self.of("AWS::CloudWatch::Dashboard").values()
        return dict(json.loads(dashboard["DashboardBody"]))

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [each for each in map(self.resolve, node) if each != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name in FUNCTIONS:
                return FUNCTIONS[name](self, argument)
        resolved = {name: self.resolve(value) for name, value in node.items()}
        return {name: value for name, value in resolved.items() if value != NO_VALUE}

    def look_up(self, name: str, key: str, second_key: str) -> Any:
        return translated()["Mappings"][name][key][second_key]

    def choose(self, condition: str, then: Any, otherwise: Any) -> Any:
        return self.resolve(then if self.resolve({"Condition": condition}) else otherwise)

    def substitute(self, text: str, names: Json | None = None) -> str:
        known = self.values | self.resolve(names or {})
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(known.get(match[1], match[1])), text)


FUNCTIONS = {
    "Ref": lambda stack, name: stack.values.get(name, name),
    "Fn::GetAtt": lambda stack, names: ".".join(names),
    "Fn::Sub": lambda stack, given: stack.substitute(*([given] if isinstance(given, str) else given)),
    "Fn::Split": lambda stack, given: stack.resolve(given[1]).split(given[0]),
    "Fn::Select": lambda stack, given: stack.resolve(given[1])[int(given[0])],
    "Fn::Join": lambda stack, given: given[0].join(stack.resolve(given[1])),
    "Fn::FindInMap": lambda stack, path: stack.look_up(*stack.resolve(path)),
    "Fn::If": lambda stack, given: stack.choose(*given),
    "Fn::Equals": lambda stack, both: operator.eq(*(str(stack.resolve(each)) for each in both)),
    "Fn::Not": lambda stack, one: not stack.resolve(one[0]),
    "Fn::And": lambda stack, all_: all(stack.resolve(all_)),
    "Fn::Or": lambda stack, any_: any(stack.resolve(any_)),
    "Condition": lambda stack, name: stack.resolve(stack.conditions[name]),
}


def emitted(output: str) -> dict[Metric, list[float]]:
    """What CloudWatch makes of lines in the embedded metric format."""
    found: dict[Metric, list[float]] = defaultdict(list)
    for line in output.splitlines():
        for metric, values in counted(line):
            found[metric] += values
    return dict(found)


def drawn(dashboard: Json) -> Iterator[tuple[Metric, Json]]:
    """Every metric of a dashboard with its options; expressions aside."""
    for widget in dashboard["widgets"]:
        yield from unfolded(widget["properties"].get("metrics", []))


def unfolded(lines: Iterable[list[Any]]) -> Iterator[tuple[Metric, Json]]:
    """The lines with what "." and "..." repeat of the line before."""
    before: list[str] = []
    for line in lines:
        words = [word for word in line if isinstance(word, str)]
        if not words:
            continue
        if words[0] == "...":
            words = before[: 1 - len(words)] + words[1:]
        before = [before[place] if word == "." else word for place, word in enumerate(words)]
        namespace, name, *dimensions = before
        options = line[-1] if isinstance(line[-1], dict) else {}
        yield (namespace, name, frozenset(zip(dimensions[::2], dimensions[1::2], strict=True))), options


def expressions(dashboard: Json) -> dict[str, str]:
    """The metric math of a dashboard, by id."""
    lines = [line for widget in dashboard["widgets"] for line in widget["properties"].get("metrics", [])]
    return {line[0]["id"]: line[0]["expression"] for line in lines if isinstance(line[0], dict)}
