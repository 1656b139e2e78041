"""Files of rows: Parquet, and CSV that Excel opens as it is."""

import re
from collections.abc import Iterable
from dataclasses import astuple
from datetime import datetime
from io import BytesIO
from typing import Any, Protocol

from scripts.operations.tables.rows import Column

# What a spreadsheet takes for a formula, also after blanks. An apostrophe is among them, so that a reader who takes one
# away from each text that begins with one has every text as it was.
_FORMULA = re.compile(r"\s*[=+\-@'\uff0b\uff0d\uff1d\uff20]|[\t\r\n]")
_FIGURES = re.compile(r"(?=.*\d)[\d\s.,:;/()%$€£eE+\-]+|true|false", re.IGNORECASE)  # a number, a date, a time, a flag
_BOM = "\ufeff"


class TableFile(Protocol):
    """A file of one table, made in memory a few rows at a time."""

    def add(self, rows: Iterable[Any]) -> None: ...

    def close(self) -> bytes: ...


class ParquetFile:
    """Each column has its meaning in its metadata, under `comment`."""

    def __init__(self, columns: list[Column]) -> None:
        import pyarrow  # which takes a moment, and most commands do not need it
        import pyarrow.parquet

        types = {
            "text": pyarrow.string(), "integer": pyarrow.int64(), "number": pyarrow.float64(),
            "decimal": pyarrow.decimal128(18, 6), "boolean": pyarrow.bool_(),
            "timestamp": pyarrow.timestamp("us", tz="UTC"),
        }  # fmt: skip
        fields = [pyarrow.field(each.name, types[each.kind], metadata={"comment": each.meaning}) for each in columns]
        self._table, self._schema, self._body = pyarrow.table, pyarrow.schema(fields), BytesIO()
        self._writer = pyarrow.parquet.ParquetWriter(self._body, self._schema, compression="zstd")

    def add(self, rows: Iterable[Any]) -> None:
        by_column = list(zip(*map(astuple, rows), strict=True))
        if by_column:
            named = dict(zip(self._schema.names, by_column, strict=True))
            self._writer.write_table(self._table(named, schema=self._schema))

    def close(self) -> bytes:
        self._writer.close()
        return self._body.getvalue()


class CsvFile:
    """UTF-8 with a byte order mark, CRLF between rows; texts in quotes, nothing for null."""

    def __init__(self, columns: list[Column]) -> None:
        self._lines = [_BOM + ",".join(each.name for each in columns)]

    def add(self, rows: Iterable[Any]) -> None:
        self._lines += [",".join(map(_cell, astuple(row))) for row in rows]

    def close(self) -> bytes:
        return "".join(f"{line}\r\n" for line in self._lines).encode()


FORMATS: dict[str, type[ParquetFile] | type[CsvFile]] = {"parquet": ParquetFile, "csv": CsvFile}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, str):
        return '"{}"'.format(harmless(value).replace('"', '""'))
    return str(value)


def harmless(text: str) -> str:
    """The text with an apostrophe before it if a spreadsheet would not show it as it is: as a formula or a number."""
    text = text.replace("\0", "\ufffd")  # at which programs in C end
    return f"'{text}" if _FORMULA.match(text) or _FIGURES.fullmatch(text) else text
