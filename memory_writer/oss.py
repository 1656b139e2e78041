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

PAGE = 1000  # memories in one listing: S3 Vectors' maximum; mem0's default is 20
LOCK_SECONDS = 60  # half the function's 120 s, so that there is time to write after the lock is acquired

# AWS's errors that no retry changes: a policy, the name of a model or index, or the form of a request is wrong.
_PERMANENT = re.compile("AccessDenied|UnrecognizedClient|ValidationException|ResourceNotFound|NotFoundException")
# mem0 logs these and continues when it loses an inferred memory: the language model's answer was unreadable (for
# example cut off at max_tokens), or a memory was not embedded or stored.
_LOST = re.compile("Error parsing extraction|Failed to embed memory|Failed to insert memory")


class OssBackend:
    """Implements MemoryBackend for all configurations of `mem0.Memory.from_config`, and for `embedded_config`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def add(self, memory: Memory, *, again: bool) -> Answer:
        """See MemoryBackend. mem0 writes in parts, so the parts of an earlier attempt are deleted first.

        After a failure no write is still running, so the memory may be sent again at once.
        """
        try:
            with open_memory(self._config) as store, _captured_losses() as lost:
                if again:
                    _delete_stored(store, memory)
                answer = store.add(memory.messages, user_id=memory.user_id, infer=memory.infer, **_tags(memory))
        except Exception as error:
            raise _translate_error(error) from None
        if lost:
            raise NotSentError("mem0 lost inferred memories; its language model may need a larger max_tokens")
        return Answer("SUCCEEDED", memory_ids=[written["id"] for written in answer["results"]])

    def check_event(self, event_id: str) -> Answer:  # noqa: ARG002 (the interface's)
        """The library has no events: it answers at once."""
        raise EventUnknownError("this memory was sent to the hosted platform, and the backend is now oss")

    def find(self, memory: Memory) -> list[str]:
        """See MemoryBackend; oldest first. Without inference each message is one memory, also a repeated text."""
        with open_memory(self._config) as store:
            ids = _stored(store, memory)
        return ids if memory.infer or len(ids) == len(memory.messages) else []

    def list_user(self, user_id: str) -> list[str]:
        with open_memory(self._config) as store:
            return _listed(store, {"user_id": user_id})

    def delete(self, memory_ids: Sequence[str]) -> None:
        with open_memory(self._config) as store:
            for each in memory_ids:
                with suppress(ValueError):  # mem0 raises it for an unknown id
                    store.delete(each)  # type: ignore[no-untyped-call]

    def delete_user(self, user_id: str) -> None:
        while ids := self.list_user(user_id):
            self.delete(ids)


def _tags(memory: Memory) -> dict[str, Any]:
    """Metadata and agent_id as separate arguments, because mem0 drops agent_id from the metadata.

    mem0 stores it with the metadata and returns it as `agent_id` next to it. Unlike on the hosted platform, a filter
    by user_id alone still finds everything. Inference compares only with memories of the same agent.
    """
    metadata = {name: value for name, value in memory.metadata.items() if value is not None}
    agent_id = metadata.pop("agent_id", None)
    return {"metadata": metadata, "agent_id": agent_id or None}


def _stored(store: "Mem0", memory: Memory) -> list[str]:
    """The ids of the stored parts of `memory`, oldest first, at most a PAGE."""
    return _listed(
        store, {"user_id": memory.user_id} | {key: memory.metadata[key] for key in ("conversation_id", "type")}
    )


def _listed(store: "Mem0", filters: dict[str, Any]) -> list[str]:
    # Without show_expired mem0 requests four times as many, which S3 Vectors refuses. Our memories never expire.
    found = store.get_all(filters=filters, top_k=PAGE, show_expired=True)["results"]
    return [item["id"] for item in sorted(found, key=lambda item: item["created_at"])]


def _delete_stored(store: "Mem0", memory: Memory) -> None:
    while ids := _stored(store, memory):
        for id_ in ids:
            store.delete(id_)  # type: ignore[no-untyped-call]


def _translate_error(error: BaseException) -> Exception:
    """Our error for an error of mem0, which may wrap one of AWS and may quote the memory in its text."""
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
def _captured_losses() -> Iterator[list[str]]:
    """The log levels of the losses that mem0 logs in this thread inside the block, without their text."""
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
    """Open the mem0.Memory of `config`. A Qdrant folder is locked against other processes until the block ends.

    Raises NotSentError if Mem0 cannot be opened, or the folder stays locked for LOCK_SECONDS. Do not open the same
    folder again inside the block.
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

    It stores each user's last messages, which mem0 shows to the language model with the next call, and the text of
    every added or deleted memory. An erasure does not reach it.
    """
    _empty(memory)
    try:
        yield memory
    finally:
        _empty(memory)


def _empty(memory: "Mem0") -> None:
    database = memory.db
    with database._lock:  # mem0's own lock: its other threads write in transactions
        database.connection.execute("DELETE FROM messages")
        database.connection.execute("DELETE FROM history")
        database.connection.commit()
        database.connection.execute("VACUUM")  # otherwise the file keeps the deleted text


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS).acquire()
    except Timeout:
        raise NotSentError("the embedded Mem0 stayed locked by other processes") from None
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
    """Imports mem0 only here, because that takes seconds and reads the environment."""
    os.environ["MEM0_TELEMETRY"] = "False"
    os.environ.setdefault("MEM0_DIR", f"{tempfile.gettempdir()}/mem0")  # not ~/.mem0: Lambda's home is read-only
    from mem0.memory.main import Memory as Mem0

    # Its log quotes memories and the configuration, so only `_captured_losses` reads it.
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
        translated = _translate_error(error)
        if isinstance(error, ValueError) and type(translated) is NotSentError:
            translated = RefusedError(
                "mem0", "mem0 does not accept the configuration in the stack's parameter MemoryConfig."
            )
        raise translated from None
    return opened
