"""Reads calls from the archive into rows: a day at a time, several calls at once."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from scripts.operations.stack import AT_ONCE, Stack
from scripts.operations.tables.recorded import read_rows
from scripts.operations.tables.rows import CallRows, record_only
from shared.call import Call
from shared.conversation import Turn
from shared.errors import ColdStorageError
from shared.record import MEMORIES
from shared.transcription import result_key, turns_of

TOGETHER = 50  # calls whose records and ledgers DynamoDB reads in one request each: a request takes 100 keys


@dataclass(frozen=True)
class Known:
    """A call's record, and the states of its memories in the ledger."""

    call: Call
    memories: dict[str, str]


@dataclass(frozen=True)
class Read:
    """The rows of a call; `problem` says why they come from its record alone. No rows: the call is erased."""

    known: Known
    rows: CallRows | None
    problem: str = ""


class Archive:
    def __init__(self, stack: Stack) -> None:
        self._records, self._bucket = stack.records, stack.bucket

    def known(self, conversation_ids: Iterable[str]) -> Iterator[Known]:
        """Those of the calls that are archived and not erased, in the same order."""
        ids = list(conversation_ids)
        for start in range(0, len(ids), TOGETHER):
            yield from self._known(ids[start : start + TOGETHER])

    def read(self, calls: Iterable[Known]) -> Generator[Read, None, None]:
        """The calls with their rows, in the same order; at most AT_ONCE of them are in memory."""
        waiting: list[Future[Read]] = []
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for known in calls:
                waiting.append(pool.submit(self._read, known))
                if len(waiting) > 2 * AT_ONCE:
                    yield waiting.pop(0).result()
            yield from (each.result() for each in waiting)
        finally:
            pool.shutdown(cancel_futures=True)

    def _known(self, conversation_ids: list[str]) -> Iterator[Known]:
        calls = self._records.get_all(conversation_ids)
        keys = [{"conversation_id": each, "item": item} for each in calls for item in MEMORIES]
        states: dict[str, dict[str, str]] = {}
        for line in self._records.read_items(keys):
            states.setdefault(line["conversation_id"], {})[line["item"]] = str(line.get("state", ""))
        for each in conversation_ids:
            if (call := calls.get(each)) and call.json_key and not call.erased_at:
                yield Known(call, states.get(each, {}))

    def _read(self, known: Known) -> Read:
        rows, problem = self._rows(known)
        if problem and self._is_erased(known.call.conversation_id):  # since its record was read
            return Read(known, None)
        return Read(known, rows, problem)

    def _rows(self, known: Known) -> tuple[CallRows, str]:
        key = str(known.call.json_key)
        try:
            found = self._bucket.read(key)
            if found is not None:
                return read_rows(known.call, known.memories, found[0], partial(self._hear, known.call)), ""
            problem = "missing"
        except ValueError:
            problem = "not JSON"
        except ColdStorageError:
            problem = "in an archive class of S3"
        return CallRows([record_only(known.call, known.memories)]), problem

    def _hear(self, call: Call) -> list[Turn]:
        key = result_key(call)
        found = self._bucket.read(key) if key else None
        return turns_of(found[0]) if found else []

    def _is_erased(self, conversation_id: str) -> bool:
        call = self._records.get(conversation_id)
        return call is None or call.erased_at is not None
