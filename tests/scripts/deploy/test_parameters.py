"""What an operator may set of a stack on AWS, and what the template fixes."""

from pathlib import Path

import pytest

from scripts.aws_session import OpsError
from scripts.deploy.parameters import chosen_before, read_constants, read_given, read_template
from scripts.embedded.deployment import TEMPLATE

DECLARED, CONSTANTS = read_template(TEMPLATE), read_constants(TEMPLATE)


def never(_: object) -> str:
    raise AssertionError("nothing is asked for")


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_cannot_be_set_on_aws(name: str) -> None:
    with pytest.raises(OpsError, match=f"^{name} is not a parameter: it is fixed in template.yaml, under Mappings"):
        read_given(f"{name}=5", DECLARED, CONSTANTS, never)


def test_an_update_reports_values_of_the_stack_that_the_template_now_fixes() -> None:
    values = {"ArchiveMaxReceives": "5", "MemoryMaxReceives": "3", "LogLevel": "DEBUG"}

    assert chosen_before(CONSTANTS, values) == [
        "MemoryMaxReceives was 3 in this stack. It is not a parameter any more: template.yaml fixes it to 8."
    ]


def test_a_template_without_constants_fixes_nothing(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: {}\n")

    assert read_constants(tmp_path / "template.yaml") == {}
