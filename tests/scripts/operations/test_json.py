"""What `--json` prints is typed: numbers are numbers, and each time is ISO 8601 in UTC."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import SECRET
from tests.scripts.operations.conftest import deploy_outputs, write_log
from tests.scripts.operations.signs import count, deploy_alarms, failure, receive, send

NUMBER = re.compile(r"-?\d+(\.\d+)?( (s|seconds|bytes|MB)( at least)?)?")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
RIGHT_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
COMMANDS = [
    "status", "dlq list", "dlq show archive", "verify --since 2026-11-01", "replay --since 2026-11-01",
    "rotate-secret --status", "rotate-secret --generate", "export folder --since 2026-11-01", "erase +12025550123",
]  # fmt: skip


@pytest.fixture
def more_outputs() -> dict[str, str]:
    timeouts = {f"{name}TimeoutSeconds": "120" for name in ("Archive", "Memory", "Text")}
    return timeouts | {"MemoryUnknownSeconds": "3600"}


@pytest.fixture
def busy(stack, archive, tmp_path, monkeypatch) -> None:
    """A stack with a call, dead letters and failures."""
    monkeypatch.chdir(tmp_path)
    archive("conv_1")
    deploy_alarms(stack)
    send(stack, "ArchiveDlqUrl")
    send(stack, "MemoryQueueUrl")
    receive(stack, "MemoryQueueUrl")
    write_log(
        "memory", failure("shared.errors.NotSentError: Mem0 at https://api.mem0.ai could not be reached (ConnectError)")
    )
    count("SignatureRejected", reason="mismatch")
    deploy_outputs(stack.outputs | {"SecretCacheSeconds": "1", "SecretOverlapSeconds": "86400"})


def texts(found: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with the way to it."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from texts(value, f"{path}/{name}")
    elif isinstance(found, list):
        for value in found:
            yield from texts(value, path)
    elif isinstance(found, str):
        yield path, found


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_number_is_a_text_and_each_time_is_iso_8601_in_utc(run_ops_json, command):
    _, found = run_ops_json(*command.split())

    assert "error" not in found
    wrong = [(path, text) for path, text in texts(found) if NUMBER.fullmatch(text)]
    wrong += [(path, text) for path, text in texts(found) if TIME.fullmatch(text) and not RIGHT_TIME.fullmatch(text)]
    assert wrong == []
    assert SECRET not in str(found)
