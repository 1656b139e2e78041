"""A wildcard in a policy has its reason beside it."""

from collections.abc import Iterator

import pytest
import yaml

from scripts.embedded.deployment import TEMPLATE
from tests.options import EVERYTHING, WITH_ALL_FUNCTIONS
from tests.policies import (
    INTERFACES,
)
from tests.template import stacks

WITHOUT_RESOURCE = ["transcribe:StartTranscriptionJob"]  # AWS knows none for it; a condition names our bucket


def wildcards(text: str) -> list[str]:
    """The faults of wildcards in the statements of roles, as they are written in the template."""
    lines = text.splitlines()
    found = []
    for actions, resources in written_statements(yaml.compose(text)):
        found += [f"action {action.value}" for action in actions if "*" in action.value]
        for each in resources:
            line, above = lines[each.start_mark.line], lines[each.start_mark.line - 1]
            has_reason = "#" in line[each.end_mark.column :] or above.lstrip().startswith("#")
            if each.value == "*" and not {action.value for action in actions} <= {*INTERFACES, *WITHOUT_RESOURCE}:
                found.append("resource *")
            elif "*" in each.value and not has_reason:
                found.append(f"no reason for {each.value}")
    return list(dict.fromkeys(found))  # what is written once may be used in many places


def written_statements(node: yaml.Node) -> Iterator[tuple[list[yaml.Node], list[yaml.Node]]]:
    """Actions and resources of all statements that allow something and name nobody: those of roles."""
    if isinstance(node, yaml.MappingNode):
        entries = {key.value: value for key, value in node.value}
        if "Action" in entries and "Principal" not in entries and entries["Effect"].value == "Allow":
            yield scalars(entries["Action"]), scalars(entries["Resource"])
    if not isinstance(node, yaml.ScalarNode):
        for each in node.value:
            for child in each if isinstance(each, tuple) else (each,):
                yield from written_statements(child)


def scalars(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def test_wildcards_have_a_reason_beside_them():
    text = TEMPLATE.read_text()

    assert len(list(written_statements(yaml.compose(text)))) > 20
    assert wildcards(text) == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ('{Effect: Allow, Action: "s3:*", Resource: !Ref It}', "action s3:*"),
        ('{Effect: Allow, Action: ["s3:GetObject", "s3:Put*"], Resource: !Ref It}', "action s3:Put*"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: "*"}  # all', "resource *"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${It}/*"}', "no reason for ${It}/*"),
        ('{Effect: Allow, Action: "s3:GetObject", Resource: [!Ref It, !Sub "${It}/*"]}', "no reason for ${It}/*"),
    ],
)
def test_a_wildcard_without_a_reason_is_found(statement, fault):
    text = f"Statement:\n  - {statement}\n"

    assert wildcards(text) == [fault]
    assert wildcards(f"Statement:\n  - !If\n    - Condition\n    - {statement}\n") == [fault]


@pytest.mark.parametrize("parameters", [WITH_ALL_FUNCTIONS, EVERYTHING], ids=["default", "everything"])
def test_no_role_has_a_right_to_everything(parameters):
    for role, statements in stacks.rights(**parameters).items():
        for statement in statements:
            assert not any("*" in action for action in statement["Action"]), role
            if statement["Action"] == WITHOUT_RESOURCE:
                assert statement["Condition"] == {"StringEquals": {"transcribe:OutputBucketName": "Bucket"}}
            elif statement["Action"] != stacks.INTERFACES:
                assert "*" not in statement["Resource"], role
