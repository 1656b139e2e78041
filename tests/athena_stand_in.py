"""Athena for tests in moto, which runs no SQL: DuckDB over the files in the bucket, behind botocore's own client."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import duckdb
import msgspec

from shared.texts import PREFIX, Row, file_key, write_rows

COLUMNS = {
    "conversation_id": "VARCHAR", "agent_id": "VARCHAR", "caller": "VARCHAR", "started": "BIGINT", "turn": "INTEGER",
    "secs": "DOUBLE", "role": "VARCHAR", "message": "VARCHAR", "words": "VARCHAR", "version": "VARCHAR",
    "seconds": "BIGINT", "outcome": "VARCHAR", "audio": "VARCHAR", "cost": "BIGINT",
}  # fmt: skip
TABLE, DATABASE, WORKGROUP = "turns", "texts", "searches"
PAGE = 3  # rows in a page of results: few, so that there are many pages
# What Athena says when it cancels a query that reads too much, and when a file was deleted meanwhile.
TOO_MUCH = "Query cancelled! : Bytes scanned limit was exceeded"
VANISHED = "HIVE_CANNOT_OPEN_SPLIT: Error opening Hive split s3://bucket/text/x (offset=0, length=9): Not Found (404)"
assert set(COLUMNS) == {each.name for each in msgspec.structs.fields(Row)}


class Athena:
    """`queries` are those that were started. `ends` are how the next ones end, instead of with an answer.

    `late`: queries run on until it is false. `busy`: no query can be started.
    """

    def __init__(self, client: Any, s3: Any, bucket: str, database: str = DATABASE, table: str = TABLE) -> None:
        self._s3, self._bucket, self._database, self._table = s3, bucket, database, table
        self.queries: dict[str, dict[str, Any]] = {}
        self.results: dict[str, list[list[str | None]]] = {}
        self.ends: list[tuple[str, str]] = []
        self.late = self.busy = False
        client.meta.events.register_first("before-call.athena", self._answer)

    def put(self, day: str, *rows: Row, name: str | None = None) -> str:
        """Write a file of rows; returns its key."""
        key = file_key(day, {(name or str(uuid4()), "")})
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=write_rows(rows))
        return key

    @property
    def sql(self) -> list[str]:
        return [each["Query"] for each in self.queries.values()]

    def _answer(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        act: Callable[[dict[str, Any]], dict[str, Any]] = {
            "StartQueryExecution": self._start, "GetQueryExecution": self._look, "GetQueryResults": self._read,
        }[model.name]  # fmt: skip
        answer = act(json.loads(params["body"]))
        return SimpleNamespace(status_code=400 if "Error" in answer else 200), answer

    def _start(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.busy:
            return {"Error": {"Code": "TooManyRequestsException", "Message": "You have reached the limit"}}
        assert asked["QueryExecutionContext"] == {"Database": self._database}
        id = str(uuid4())
        state, reason = self.ends.pop(0) if self.ends else ("SUCCEEDED", "")
        self.results[id] = self._run(asked["QueryString"]) if state == "SUCCEEDED" else []
        self.queries[id] = {
            "Query": asked["QueryString"], "WorkGroup": asked["WorkGroup"], "Statistics": {"DataScannedInBytes": 1000},
            "Status": {"State": state, "StateChangeReason": reason},
        }  # fmt: skip
        return {"QueryExecutionId": id}

    def _look(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self.queries.get(asked["QueryExecutionId"])
        if found is None:
            return {"Error": {"Code": "InvalidRequestException", "Message": "QueryExecution was not found"}}
        return {"QueryExecution": found | ({"Status": {"State": "RUNNING"}} if self.late else {})}

    def _read(self, asked: dict[str, Any]) -> dict[str, Any]:
        rows, start = self.results[asked["QueryExecutionId"]], int(asked.get("NextToken", 0))
        page = [[{"VarCharValue": each} if each is not None else {} for each in row] for row in rows[start:][:PAGE]]
        following = {"NextToken": str(start + PAGE)} if start + PAGE < len(rows) else {}
        return {"ResultSet": {"Rows": [{"Data": row} for row in page]}} | following

    def _run(self, sql: str) -> list[list[str | None]]:
        with tempfile.TemporaryDirectory() as folder:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=PREFIX)
            for key in [each["Key"] for page in pages for each in page.get("Contents", [])]:
                path = Path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
            return run(sql, Path(folder, PREFIX), self._table)


def run(sql: str, folder: Path, table: str = TABLE) -> list[list[str | None]]:
    """What a statement finds in the files of a folder, below the names of its columns."""
    with duckdb.connect() as connection:
        connection.execute(
            f'CREATE VIEW "{table}" AS SELECT * FROM read_json(?, columns = {COLUMNS}, hive_partitioning = true,'
            " hive_types = {'day': VARCHAR}, format = 'newline_delimited')".replace("?", f"'{folder}/*/*.jsonl.gz'")
        )
        found = connection.execute(sql)
        names = [each[0] for each in found.description or []]
        return [names, *([None if each is None else str(each) for each in row] for row in found.fetchall())]
