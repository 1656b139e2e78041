"""Archived calls, and how they can be damaged."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.archiver.conftest import stage_recording, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, NOON, archive_checks, note, table

FOLDER = CALLER[1:]


@pytest.fixture
def whole(stack: Stack, context: Any, archive: Callable[..., str]) -> Callable[[str], list[str]]:
    """Archive a call with its recording and mark it as remembered; returns the keys of its staged bodies."""

    def run(conversation_id: str) -> list[str]:
        key = archive(conversation_id, has_audio=True)
        recording = stage_recording(stack, conversation_id, b"mp3", now=NOON)
        archive_checks(context, recording)
        for kind in ("factual", "semantic"):
            note(stack, conversation_id, f"memory#{kind}", state="done", memories=1)
        return [key, staged_key(recording)]

    return run


def replace(stack: Stack, key: str, body: bytes | None = None, metadata: dict[str, str] | None = None) -> None:
    before = stack.body(key), stack.head(key)["Metadata"]
    stack.s3.put_object(
        Bucket=stack.bucket, Key=key, Body=body or before[0], Metadata=before[1] if metadata is None else metadata
    )


def delete(stack: Stack, key: str) -> None:
    stack.s3.delete_object(Bucket=stack.bucket, Key=key)


def drop(stack: Stack, conversation_id: str, *names: str) -> None:
    """Remove attributes from the record."""
    table(stack).update_item(
        Key={"conversation_id": conversation_id, "item": "call"},
        UpdateExpression=f"REMOVE {', '.join(f'#{name}' for name in names)}",
        ExpressionAttributeNames={f"#{name}": name for name in names},
    )


def json_key(conversation_id: str) -> str:
    return f"{FOLDER}/{conversation_id}.json"
