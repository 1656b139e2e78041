"""The table of parameters in docs/deploy.md is the template's."""

from pathlib import Path

import pytest

from scripts.deploy.parameters import read_template
from scripts.deploy.table import BEGIN, END, PAGE, main, table, with_table
from scripts.embedded.deployment import TEMPLATE

SMALL = """
Metadata:
  AWS::CloudFormation::Interface:
    ParameterGroups:
      - {Label: {default: Memory}, Parameters: [Key]}
      - {Label: {default: Archive}, Parameters: [Days, Name]}
Parameters:
  Days: {Type: Number, Default: 30, Description: Days that logs are kept.}
  Name: {Type: String, Default: "", Description: "a|b: a or b."}
  Key: {Type: String, Default: none, NoEcho: true, Description: The key.}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(SMALL)
    return path


def test_the_table_in_the_documentation_is_what_make_parameters_writes() -> None:
    assert with_table(PAGE.read_text(), table(TEMPLATE)) == PAGE.read_text(), "run: make parameters"


def test_the_table_has_every_parameter_once() -> None:
    lines = table(TEMPLATE).splitlines()

    named = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert sorted(named) == sorted(read_template(TEMPLATE))


def test_parameters_are_shown_by_group_with_their_defaults_and_descriptions(small: Path) -> None:
    assert table(small).splitlines() == [
        "| parameter | default | what it does |",
        "|---|---|---|",
        "| **Memory** | | |",
        "| `Key` | `none` | The key. |",
        "| **Archive** | | |",
        "| `Days` | `30` | Days that logs are kept. |",
        "| `Name` | (empty) | a\\|b: a or b. |",
    ]


def test_the_table_replaces_what_is_between_the_marks_and_nothing_else(small: Path) -> None:
    page = f"# Deploy\n\n{BEGIN}\nold\n{END}\n\nMore.\n"

    written = with_table(page, table(small))

    assert written == f"# Deploy\n\n{BEGIN}\n{table(small)}\n{END}\n\nMore.\n"
    assert with_table(written, table(small)) == written


def test_the_command_writes_the_page(small: Path, tmp_path: Path) -> None:
    page = tmp_path / "deploy.md"
    page.write_text(f"{BEGIN}\n{END}\n")

    assert main(small, page) == 0
    assert "| `Days` | `30` | Days that logs are kept. |" in page.read_text()


def test_a_page_without_the_marks_is_refused_with_a_sentence(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "deploy.md"
    page.write_text("# Deploy\n")

    assert main(small, page) == 1
    assert capsys.readouterr().err == f"deploy.md needs the lines {BEGIN} and {END}, for the table between them.\n"
    assert page.read_text() == "# Deploy\n"
