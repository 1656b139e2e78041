"""How the tests start other processes, and that no wait for one is without end."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import started

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])
RUNS = {"run", "call", "check_call", "check_output"}


def endless(source: str) -> Iterator[int]:
    """The lines that wait for a process or a thread for as long as that lasts."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and waits_for_ever(node, node.func):
            yield node.lineno
        if isinstance(node, ast.withitem) and "subprocess.Popen" in ast.unparse(node.context_expr):
            yield node.context_expr.lineno  # the block's end waits


def waits_for_ever(call: ast.Call, function: ast.Attribute) -> bool:
    has_timeout = any(keyword.arg in ("timeout", "WaiterConfig") for keyword in call.keywords)
    if function.attr == "communicate" or (function.attr in RUNS and ast.unparse(function.value) == "subprocess"):
        return not has_timeout
    return function.attr in ("wait", "join") and not call.args and not has_timeout


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("process.wait()\nthread.join()\nprocess.communicate(b'')", [1, 2, 3]),
        ("subprocess.run(command, check=True)\nsubprocess.check_output(command)", [1, 2]),
        ("with subprocess.Popen(command) as process:\n    process.wait(timeout=1)", [1]),
        ("process.wait(1)\nprocess.communicate(timeout=1)\nsubprocess.run(command, timeout=1)\n', '.join(words)", []),
        ("waiter.wait(StackName=name)\nwaiter.wait(StackName=name, WaiterConfig=config)", [1]),
    ],
    ids=["waits", "runs", "block", "none of them", "waiters of boto3"],
)
def test_a_wait_without_end_is_found(source: str, lines: list[int]) -> None:
    assert list(endless(source)) == lines


def test_no_wait_for_a_process_or_a_thread_is_without_end() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in SOURCES for line in endless(path.read_text())]

    assert found == []


def test_a_process_that_says_nothing_and_never_ends_is_killed() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]

    with started(sleeper, seconds=0.5, stdout=subprocess.PIPE) as process:
        said = process.stdout.readline()

    assert (said, process.returncode) == (b"", -9)


def test_a_process_ends_with_its_block() -> None:
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.poll() is None

    assert process.returncode == -9


def test_ctrl_c_works_in_tests_that_a_shell_started_in_the_background() -> None:
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]  # as a shell without job control does for `command &`
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/scripts/operations/test_app.py",
        "-k",
        "ctrl_c",
    ]

    done = subprocess.run([*ignoring, *tests], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout
