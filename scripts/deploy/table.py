"""`make parameters`: write the table of the template's parameters into docs/deploy.md."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from scripts.deploy.package import ROOT, TEMPLATE

PAGE = ROOT / "docs/deploy.md"
BEGIN, END = "<!-- parameters: made by make parameters -->", "<!-- /parameters -->"
_BETWEEN = re.compile(f"{BEGIN}\n.*?{END}", re.DOTALL)


def main(template: Path = TEMPLATE, page: Path = PAGE) -> int:
    """Exit code: 0 if the page has the table, 1 if it has no place for it."""
    text = page.read_text()
    if not _BETWEEN.search(text):
        print(f"{page.name} needs the lines {BEGIN} and {END}, for the table between them.", file=sys.stderr)
        return 1
    page.write_text(with_table(text, table(template)))
    return 0


def with_table(page: str, rows: str) -> str:
    """The page with these rows between its two marks."""
    return _BETWEEN.sub(lambda _: f"{BEGIN}\n{rows}\n{END}", page)


def table(path: Path) -> str:
    """The parameters of the template at `path` as a Markdown table, by their groups."""
    template = yaml_parse(path.read_text())
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    lines = ["| parameter | default | what it does |", "|---|---|---|"]
    for group in groups:
        lines.append(f"| **{group['Label']['default']}** | | |")
        lines += rows(group["Parameters"], template["Parameters"])
    return "\n".join(lines)


def rows(names: list[str], declared: dict[str, Any]) -> Iterator[str]:
    for name in names:
        default = str(declared[name].get("Default", ""))
        description = " ".join(declared[name]["Description"].split()).replace("|", "\\|")
        yield f"| `{name}` | {f'`{default}`' if default else '(empty)'} | {description} |"


if __name__ == "__main__":
    sys.exit(main())
