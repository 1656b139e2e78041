"""Mem0's open-source library as the backend: in our own account, or embedded, as its configuration says."""

import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from filelock import FileLock, Timeout

from memory_writer.memory import Answer, Memory
from shared.aws_errors import error_code
from shared.errors import AgenticMemoryError, EventUnknownError, NotSentError, RefusedError

if TYPE_CHECKING:
    from mem0.memory.main import Memory as Mem0

PAGE = 1000  # memories listed at once: the most that S3 Vectors allows; mem0 stops at 20 by default
LOCK_SECONDS = 60  # half the function's 120 s, so that whoever got the lock still has time to write


# AWS's answers that no retry changes: the policy, the name of a model or an index, the shape of a request.
_PERMANENT = re.compile("AccessDenied|UnrecognizedClient|ValidationException|ResourceNotFound|NotFoundException")
# What mem0 says, and goes on, when something that it inferred got lost: an answer that it cannot read, for example cut
# off at max_tokens, or a memory that was neither embedded nor stored.
_LOST = re.compile("Error parsing extraction|Failed to embed memory|Failed to insert memory")


class OssBackend:
    """Implements MemoryBackend for any configuration that `mem0.Memory.from_config` takes, and `embedded_config`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def add(self, memory: Memory, *, again: bool) -> Answer:
        """As MemoryBackend says. mem0 writes part by part: what an earlier attempt left goes first.

        When this fails nothing is at work any more, so that the memory may be sent again at once.
        """
        try:
            with open_memory(self._config) as store, _complaints() as lost:
                if again:
                    _forget(store, memory)
                answer = store.add(memory.messages, user_id=memory.user_id, infer=memory.infer, **_tags(memory))
        except Exception as error:
            raise _explained(error) from None
        if lost:
            raise NotSentError("mem0 lost a part of what it inferred; max_tokens of its language model may be too few")
        return Answer("SUCCEEDED", memory_ids=[written["id"] for written in answer["results"]])

    def look(self, event_id: str) -> Answer:  # noqa: ARG002 (the interface's)
        """The library answers at once, so that there are no events to ask for."""
        raise EventUnknownError("this memory was sent to the hosted platform, and the backend is now oss")

    def find(self, memory: Memory) -> list[str]:
        """As MemoryBackend says, oldest first. Without inference there is one memory a message, repeated texts too."""
        with open_memory(self._config) as store:
            ids = _stored(store, memory)
        return ids if memory.infer or len(ids) == len(memory.messages) else []

    def list_user(self, user_id: str) -> list[str]:
        with open_memory(self._config) as store:
            return _listed(store, {"user_id": user_id})

    def delete(self, memory_ids: Sequence[str]) -> None:
        with open_memory(self._config) as store:
            for each in memory_ids:
                with suppress(ValueError):  # mem0's word for one that it does not have
                    store.delete(each)  # type: ignore[no-untyped-call]

    def delete_user(self, user_id: str) -> None:
        while ids := self.list_user(user_id):
            self.delete(ids)


def _tags(memory: Memory) -> dict[str, Any]:
    """Return metadata and agent_id apart: mem0 drops the latter from the metadata and takes it as an argument only.

    It is stored with the metadata all the same, and read back as `agent_id` beside it. Unlike on the hosted platform a
    filter by user_id alone still finds everything; inference compares with what this agent has heard only.
    """
    metadata = {name: value for name, value in memory.metadata.items() if value is not None}
    agent_id = metadata.pop("agent_id", None)
    return {"metadata": metadata, "agent_id": agent_id or None}


def _stored(store: "Mem0", memory: Memory) -> list[str]:
    """Return the ids of what is there of `memory`, oldest first, a PAGE at most."""
    return _listed(
        store, {"user_id": memory.user_id} | {key: memory.metadata[key] for key in ("conversation_id", "type")}
    )


def _listed(store: "Mem0", filters: dict[str, Any]) -> list[str]:
    # Without show_expired mem0 asks for four times as many, which S3 Vectors refuses. Nothing of ours expires.
    found = store.get_all(filters=filters, top_k=PAGE, show_expired=True)["results"]
    return [item["id"] for item in sorted(found, key=lambda item: item["created_at"])]


def _forget(store: "Mem0", memory: Memory) -> None:
    while ids := _stored(store, memory):
        for id_ in ids:
            store.delete(id_)  # type: ignore[no-untyped-call]


def _explained(error: BaseException) -> Exception:
    """An error of ours for one of mem0's, which wraps those of AWS and may quote the memory in its text."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, AgenticMemoryError):
            return cause
        if isinstance(cause, ClientError) and _PERMANENT.search(error_code(cause)):
            said = f"{cause.operation_name} answered {error_code(cause)}"
            return RefusedError("mem0", f"{said}. Look at the stack's parameters MemoryConfig and MemoryPolicyArn.")
        cause = cause.__cause__ or cause.__context__
    return NotSentError(f"mem0 failed: {type(error).__name__}")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What mem0 says of losses in this thread inside the block, without its text."""
    lost: list[str] = []
    mine = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine and _LOST.match(record.getMessage()):
                lost.append(record.levelname)

    log, listener = logging.getLogger("mem0.memory.main"), Listener()
    log.addHandler(listener)
    try:
        yield lost
    finally:
        log.removeHandler(listener)


@contextmanager
def open_memory(config: dict[str, Any]) -> Iterator["Mem0"]:
    """Yield the mem0.Memory of `config`; a Qdrant folder is ours alone until the block ends, among all processes.

    Raises NotSentError when Mem0 cannot be opened, or others hold the folder for LOCK_SECONDS. Never open a folder
    again inside the block.
    """
    path = _folder(config)
    if path is None:
        with _without_history(_kept_open(json.dumps(config))) as memory:
            yield memory
        return
    with (
        _locked(path),
        closing(_open(config)) as opened,
        closing(opened.vector_store.client),  # mem0 closes its history only
        _without_history(opened) as memory,
    ):
        yield memory


@contextmanager
def _without_history(memory: "Mem0") -> Iterator["Mem0"]:
    """Empty mem0's own database before and after the block.

    It keeps each user's last messages, which mem0 shows the language model with the next call, and the text of every
    memory that was added or deleted. No erasure looks there.
    """
    _empty(memory)
    try:
        yield memory
    finally:
        _empty(memory)


def _empty(memory: "Mem0") -> None:
    database = memory.db
    with database._lock:  # mem0's own: its other threads write in transactions
        database.connection.execute("DELETE FROM messages")
        database.connection.execute("DELETE FROM history")
        database.connection.commit()
        database.connection.execute("VACUUM")  # or the file keeps the deleted words


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS).acquire()
    except Timeout:
        raise NotSentError("others write to the embedded Mem0 all the time") from None
    with lock:
        yield


def _folder(config: dict[str, Any]) -> Path | None:
    store = config.get("vector_store", {})
    path = store.get("config", {}).get("path") if store.get("provider") == "qdrant" else None
    return Path(path) if path else None


@cache
def _kept_open(config: str) -> "Mem0":
    return _open(json.loads(config))


def _open(config: dict[str, Any]) -> "Mem0":
    """Import mem0 only here: it takes seconds, and reads its environment while it is imported."""
    os.environ["MEM0_TELEMETRY"] = "False"
    os.environ.setdefault("MEM0_DIR", f"{tempfile.gettempdir()}/mem0")  # not ~/.mem0: Lambda's home is read-only
    from mem0.memory.main import Memory as Mem0

    # Its INFO lines and warnings quote memories, its errors quote the configuration: only `_complaints` listens.
    logging.getLogger("mem0").setLevel(logging.CRITICAL)
    log = logging.getLogger("mem0.memory.main")
    log.setLevel(logging.WARNING)
    log.propagate = False
    if config.get("embedder", {}).get("provider") == "wordllama":
        from memory_writer.embedded import register

        config = register(config)
    try:
        opened: Mem0 = Mem0.from_config({"history_db_path": ":memory:", **config})
    except Exception as error:
        explained = _explained(error)
        if isinstance(error, ValueError) and type(explained) is NotSentError:
            explained = RefusedError(
                "mem0", "mem0 does not take the configuration in the stack's parameter MemoryConfig."
            )
        raise explained from None
    return opened
