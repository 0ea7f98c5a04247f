"""Columns that are not in files but in their paths: the path itself, and values of folders called `name=value`.

As Hive names them: values are percent-encoded text, `__HIVE_DEFAULT_PARTITION__` is null. A text of that name, and
"NULL", which others take for it, are written with their first letter encoded; an empty text is an empty value.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from kernelmill.engine.commit import MANIFEST_NAME, read_manifest
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.pruning import ColumnStats
from kernelmill.engine.io.source import arrow_path, root_of
from kernelmill.engine.plan.fileformats import PathColumns
from kernelmill.engine.schema import parse_dtype
from kernelmill.engine.splits import FileStamp

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
NAME_BYTES_MAX = 255
_NULL_WORDS = {NULL_FOLDER, "NULL"}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def folder_columns(files: Sequence[FileStamp], items: Sequence[str], *, auto: bool) -> pa.Schema:
    """The columns of folders `name=value`: int64 or date32 where all values are, else string.

    `auto`: only folders below what the user named count, and none do where files differ in them. What the manifests of
    outputs among `items` say of a column's type is taken. Raises KM0206 for files that lack a column of others, where
    not auto.
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
    if not values:
        return pa.schema([])
    known = _types_of_outputs(items)
    types = {name: _type_of(texts, known.get(name)) for name, texts in values.items()}
    return pa.schema([pa.field(name, kind, None in values[name]) for name, kind in types.items()])


def folder_of(fields: pa.Schema, values: Sequence[pa.Scalar[Any]]) -> str:
    """Name the folder of rows that have these values in the columns `fields`: "year=2020/city=Oslo".

    Raises KM0207 for a value whose folder would have a longer name than file systems take, or that has no exact text.
    """
    return os.path.join(*(_folder(field, value) for field, value in zip(fields, values, strict=True)))


def _folder(field: pa.Field[Any], value: pa.Scalar[Any]) -> str:
    name = f"{_quoted(field.name)}={_text_of(value, field)}"
    if len(name.encode()) > NAME_BYTES_MAX:
        what = (
            f"partition_by={field.name!r}: {name[:40]}... has more than the {NAME_BYTES_MAX} bytes of a folder's name"
        )
        raise error(Code.CAST, what, hint=f'shorten the values: km.col("{field.name}").str.head(40)')
    return name


def _text_of(value: pa.Scalar[Any], field: pa.Field[Any]) -> str:
    if not value.is_valid:
        return NULL_FOLDER
    text: str = value.cast(pa.string()).as_py()
    if pa.types.is_string(field.type):
        return f"%{ord(text[0]):02X}{_quoted(text[1:])}" if text.upper() in _NULL_WORDS else _quoted(text)
    if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type):
        return text
    if not _are_of([text], field.type) or not pa.scalar(text, pa.string()).cast(field.type).equals(value):
        what = f"partition_by={field.name!r}: {text} would not be read back from a folder's name as it is"
        raise error(Code.CAST, what, hint="filter such values out, or set them to null")
    return _quoted(text)


def _quoted(text: str) -> str:
    """Percent-encoded, but for letters of all scripts, which take three times the bytes so."""
    return "".join(char if char > "\x7f" and char.isprintable() else quote(char, safe="") for char in text)


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
        if pa.types.is_timestamp(field.type):
            value = value.cast(pa.int64())
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
        if sign and name:
            found[unquote(name)] = None if value == NULL_FOLDER else unquote(value)
    return found


def _types_of_outputs(items: Sequence[str]) -> dict[str, pa.DataType]:
    """What the manifests of outputs say of types of columns, but for names of which they say several things."""
    found: dict[str, set[str]] = {}
    for item in items:
        if os.path.isfile(os.path.join(item, MANIFEST_NAME)):
            for field in read_manifest(item).schema:
                found.setdefault(field.name, set()).add(field.type)
    types = {}
    for name, texts in found.items():
        if len(texts) == 1:
            with contextlib.suppress(KernelmillError):  # a type that is in no folder's name
                types[name] = parse_dtype(*texts)
    return types


def _type_of(texts: Sequence[str | None], known: pa.DataType | None) -> pa.DataType:
    values = [text for text in texts if text is not None]
    if known is not None and _are_of(values, known):
        return known
    if values and all(_INTEGER.fullmatch(text) for text in values):
        return pa.int64()
    if values and all(_is_date(text) for text in values):
        return pa.date32()
    return pa.string()


def _are_of(texts: Sequence[str], kind: pa.DataType) -> bool:
    try:
        pa.array(sorted(set(texts)), pa.string()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        pa.scalar(text).cast(pa.date32())
    except pa.ArrowInvalid:
        return False
    return True
