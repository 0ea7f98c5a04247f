"""Columns that are not in files but in their paths: the path itself, and values of folders called `name=value`.

As Hive names them: values are percent-encoded text, `__HIVE_DEFAULT_PARTITION__` is null.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.pruning import ColumnStats
from kernelmill.engine.io.source import arrow_path, root_of
from kernelmill.engine.plan.fileformats import PathColumns
from kernelmill.engine.splits import FileStamp

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def folder_columns(files: Sequence[FileStamp], items: Sequence[str], *, auto: bool) -> pa.Schema:
    """The columns of folders `name=value`: int64 or date32 where all values are, else string.

    `auto`: only folders below what the user named count, and none do where files differ in them. Raises KM0206 for
    files that lack a column of others, where not auto.
    """
    roots = [root_of(item) for item in items] if auto else []
    values: dict[str, list[str | None]] = {}
    names: list[str] | None = None
    for file in files:
        found = _values_of(_below(file.path, roots))
        if names is None:
            names = list(found)
            values = {name: [] for name in names}
        elif list(found) != names:
            if auto:
                return pa.schema([])
            lacking = [*sorted({*names} ^ {*found}), *names][0]
            what = f"folders differ: {lacking!r} is not in the path of every file, or in another place"
            raise error(Code.SCHEMA_CONFLICT, what, where=file.path, hint="hive_partitioning=False reads no folders")
        for name, value in found.items():
            values[name].append(value)
    return pa.schema([pa.field(name, _type_of(texts), None in texts) for name, texts in values.items()])


def value_of(file: FileStamp, field: pa.Field[Any], columns: PathColumns) -> pa.Scalar[Any]:
    """The value of column `field` in all rows of a file."""
    text = arrow_path(file.path) if field.name == columns.path else _values_of(file.path).get(field.name)
    value: pa.Scalar[Any] = pa.scalar(text, pa.string()).cast(field.type)
    return value


def stats_of(file: FileStamp, columns: PathColumns, rows: int) -> dict[str, ColumnStats]:
    """What is known of the columns of folders in `rows` rows of a file, as statistics of a row group."""
    found = {}
    for field in columns.folders:
        value = value_of(file, field, columns)
        if not value.is_valid:
            found[field.name] = ColumnStats(field.type, rows, rows)
            continue
        if pa.types.is_date32(field.type):
            value = value.cast(pa.int32())
        bound = value.as_py().encode() if pa.types.is_string(field.type) else value.as_py()
        found[field.name] = ColumnStats(field.type, rows, 0, bound, bound)
    return found


def with_path_columns(
    batch: pa.RecordBatch, file: FileStamp, schema: pa.Schema, columns: PathColumns
) -> pa.RecordBatch:
    """The rows of a file as rows of `schema`: columns that its path has beside its own."""
    own = {field.name for field in schema} - columns.names
    if len(own) == len(schema):
        return batch
    arrays: list[Any] = [
        batch.column(field.name) if field.name in own else repeated(value_of(file, field, columns), batch.num_rows)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def repeated(value: pa.Scalar[Any], rows: int) -> pa.Array[Any]:
    """`value` in as many rows."""
    array: pa.Array[Any] = pa.repeat(value, rows)  # type: ignore[call-overload]
    return array


def _below(path: str, roots: Sequence[str]) -> str:
    """The part of a path below the longest root that it has."""
    fitting = [root for root in roots if path.startswith(root)]
    return path[len(max(fitting, key=len)) :] if fitting else path


def _values_of(path: str) -> dict[str, str | None]:
    """The values of the folders of a path, by name; of two of one name the inner one's."""
    found: dict[str, str | None] = {}
    for part in os.path.dirname(path).split(os.sep):
        name, sign, value = part.partition("=")
        if sign and name and value:
            found[unquote(name)] = None if value == NULL_FOLDER else unquote(value)
    return found


def _type_of(texts: Sequence[str | None]) -> pa.DataType:
    values = [text for text in texts if text is not None]
    if values and all(_INTEGER.fullmatch(text) for text in values):
        return pa.int64()
    if values and all(_is_date(text) for text in values):
        return pa.date32()
    return pa.string()


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        pa.scalar(text).cast(pa.date32())
    except pa.ArrowInvalid:
        return False
    return True
