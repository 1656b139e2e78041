"""Who may import whom: the rules about imports in docs/develop.md, compared with every import statement."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FOLDER, LONGEST

ROOT = Path(__file__).parent.parent
FUNCTIONS = sorted(handler.parent.name for handler in ROOT.glob("*/handler.py"))
# A room, and what its modules may import of the project besides themselves.
MAY_IMPORT = {
    **{function: {"shared"} for function in FUNCTIONS},
    "shared": set(),
    "scripts/operations": {"shared", "scripts", *FUNCTIONS},
    "scripts/embedded": {"shared", "scripts", "scripts/deploy", *FUNCTIONS},
    "scripts/demo": {"shared", "scripts", "scripts/embedded", *FUNCTIONS},
    "scripts/deploy": {"shared", "scripts"},
    "scripts": {"shared", "scripts/demo"},  # the small tools beside the rooms; one of them sends the demo's calls
}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert not list(forbidden(ROOT, room, MAY_IMPORT[room] | {room}))


@pytest.mark.parametrize(
    "line",
    ["import archiver.handler", "from archiver import staged", "def late():\n    from archiver.staged import discard"],
)
def test_an_import_of_another_function_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "ingest/handler.py").write_text(line)

    assert list(forbidden(tmp_path, "ingest", {"ingest", "shared"})) == ["ingest/handler.py imports archiver"]


def test_every_folder_of_scripts_is_a_room() -> None:
    sources = [
        *ROOT.glob("scripts/**/*.py"),
        *(file for name in {*FUNCTIONS, "shared"} for file in (ROOT / name).rglob("*.py")),
    ]

    assert {room_of(file.relative_to(ROOT).with_suffix("").parts) for file in sources} == set(MAY_IMPORT)


def test_each_of_the_longest_test_files_exists() -> None:
    assert [name for name in LONGEST if not (FOLDER / name).exists()] == []


def forbidden(root: Path, room: str, allowed: set[str]) -> Iterator[str]:
    for file in sorted((root / room).rglob("*.py")):
        name = file.relative_to(root)
        if room_of(name.with_suffix("").parts) == room:
            yield from (
                f"{name} imports {found}" for found in imported(ast.parse(file.read_text())) if found not in allowed
            )


def imported(tree: ast.Module) -> Iterator[str]:
    """The rooms that a module imports from, also within functions."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        yield from filter(None, (room_of(tuple(name.split("."))) for name in names))


def room_of(parts: tuple[str, ...]) -> str | None:
    if parts[0] == "scripts" and "/".join(parts[:2]) in MAY_IMPORT:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in MAY_IMPORT else None
