"""Exports, and the calls in moto that they are made of."""

import json
import os
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pytest

from scripts.operations.app import main
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, note

FOLDER = CALLER[1:]


DAY = ("--since", "2026-11-21", "--until", "2026-11-22")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "there"


def files(path: Path) -> dict[str, bytes]:
    """The files of an export, without `.export`."""
    found = {each.relative_to(path).as_posix(): each.read_bytes() for each in path.rglob("*") if each.is_file()}
    return {name: body for name, body in found.items() if not name.startswith(".export/")}


def exported(path: Path) -> set[str]:
    return files(path).keys() - {"manifest.json"}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


def put(stack: Stack, key: str, body: bytes = b"{}", **options: Any) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=body, **options)


def put_call(stack: Stack, conversation_id: str, folder: str = FOLDER, **record: Any) -> str:
    """A very short call; returns the key of its JSON."""
    key = f"{folder}/{conversation_id}.json"
    put(stack, key, conversation_id.encode())
    fields = {"folder": folder, "json_key": key, "audio": "none", "archived_at": "2026-11-21T12:00:00Z"}
    fields |= {} if folder == "no-phone" else {"caller": folder, "numbers": {folder}}
    note(stack, conversation_id, **fields | record)
    return key


def put_recording(stack: Stack, conversation_id: str, body: bytes = b"mp3", **options: Any) -> str:
    key = f"{FOLDER}/{conversation_id}.mp3"
    put(stack, key, body, **options)
    note(stack, conversation_id, mp3_key=key, audio="archived")
    return key


def start(*words: str) -> int:
    """Run a command in a forked process, which has a copy of moto's AWS; returns the process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads of xdist do nothing that the child needs
        process = os.fork()
    if not process:
        os._exit(main(["--stack", "calls", *words]))
    return process


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)
