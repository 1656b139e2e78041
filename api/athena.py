"""Athena, which runs SQL over the files under `text/`."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from shared.aws_errors import error_code
from shared.errors import AgenticMemoryError, ProblemError
from shared.observability import count, logger
from shared.texts import PREFIX

_PAUSES = (0.02, 0.1, 0.2, 0.4, 0.7)  # seconds before the first looks at a query; then 1
# The hourly merge deletes files that a running query may be about to read.
_VANISHED = re.compile(r"NoSuchKey|HIVE_CANNOT_OPEN_SPLIT|HIVE_FILESYSTEM_ERROR|FileNotFound|No such file|Not Found")
_CODE = re.compile(r"[A-Z_]{4,60}")
_BUSY = {"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"}
_DAY_FOLDER = re.compile(rf"{PREFIX}day=(\d{{4}}-\d\d-\d\d)/", re.ASCII)
Row = list[str | None]


class RunningError(AgenticMemoryError):
    """The query still runs at the deadline. It is not stopped: its cost is limited, and its `id` asks for it again."""

    def __init__(self, id: str) -> None:
        super().__init__("The query still runs")
        self.id = id


@dataclass(frozen=True)
class Found:
    """The rows that a query found, and the bytes that it read for them."""

    rows: list[Row]
    bytes: int


@dataclass(frozen=True)
class Athena:
    """Queries in one workgroup, which limits the bytes of each, over one database. `s3` lists the days with files."""

    client: Any
    s3: Any
    bucket: str
    database: str
    workgroup: str

    def first_day(self) -> str | None:
        """The first day that has files, such as 2026-11-22."""
        answer = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{PREFIX}day=", Delimiter="/", MaxKeys=1)
        days = (_DAY_FOLDER.fullmatch(each["Prefix"]) for each in answer.get("CommonPrefixes", []))
        return next((day[1] for day in days if day), None)

    def run(self, sql: str, deadline: float, id: str | None = None) -> Found:
        """What a query finds. `id` is an earlier run of it; a run of other SQL is ignored, so that a made-up id is
        of no use. Raises RunningError at the deadline, a time of `time.monotonic`, and ProblemError.
        """
        id = id if id and self._is_of(id, sql) else self._start(sql)
        execution = self._wait(id, deadline)
        if _has_vanished(execution):
            logger.info("A file was merged during a query: it is run again")
            id = self._start(sql)
            execution = self._wait(id, deadline)
        _check(execution)
        return Found(list(self._rows(id)), int(execution.get("Statistics", {}).get("DataScannedInBytes") or 0))

    def _is_of(self, id: str, sql: str) -> bool:
        try:
            execution = self._look(id)
        except ClientError as error:
            if error_code(error) == "InvalidRequestException":
                return False
            raise
        return (execution["Query"], execution["WorkGroup"]) == (sql, self.workgroup)

    def _start(self, sql: str) -> str:
        try:
            answer = self.client.start_query_execution(
                QueryString=sql, QueryExecutionContext={"Database": self.database}, WorkGroup=self.workgroup
            )
        except ClientError as error:
            if error_code(error) in _BUSY:
                count("SearchRefused", reason="busy")
                raise ProblemError(503, "Too many searches run at the moment. Try again in some seconds.") from None
            raise
        return str(answer["QueryExecutionId"])

    def _wait(self, id: str, deadline: float) -> dict[str, Any]:
        """The query when it has ended."""
        pauses = iter(_PAUSES)
        while True:
            pause = next(pauses, 1.0)
            if time.monotonic() + pause > deadline:
                raise RunningError(id)
            time.sleep(pause)
            execution = self._look(id)
            if execution["Status"]["State"] not in ("QUEUED", "RUNNING"):
                return execution

    def _look(self, id: str) -> dict[str, Any]:
        return dict(self.client.get_query_execution(QueryExecutionId=id)["QueryExecution"])

    def _rows(self, id: str) -> Iterator[Row]:
        """The first row of the first page is the names of the columns."""
        pages = self.client.get_paginator("get_query_results").paginate(QueryExecutionId=id)
        rows = (row["Data"] for page in pages for row in page["ResultSet"]["Rows"])
        next(rows, None)
        yield from ([each.get("VarCharValue") for each in row] for row in rows)


def _has_vanished(execution: dict[str, Any]) -> bool:
    status = execution["Status"]
    return status["State"] == "FAILED" and _VANISHED.search(status.get("StateChangeReason") or "") is not None


def _check(execution: dict[str, Any]) -> None:
    """Raises ProblemError unless the query has found what it looked for. Athena's own text may quote the query."""
    status, reason = execution["Status"], execution["Status"].get("StateChangeReason") or ""
    if status["State"] == "SUCCEEDED":
        return
    if "limit" in reason.lower() and "scanned" in reason.lower():
        count("SearchRefused", reason="limit")
        raise ProblemError(
            400, "This would read more than the stack allows at once (SearchLimitBytes). Ask for fewer days.", "from"
        )
    code = _CODE.match(reason)
    logger.error("A query failed", state=status["State"], error=code[0] if code else "")
    count("SearchFailed")
    raise ProblemError(503, "The search failed. Try again in some seconds.")
