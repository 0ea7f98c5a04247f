"""Readers of rows in files that are no text and no Parquet: `scan_csv`, `scan_ndjson`, `scan_ipc`, `scan_records`.

Types are fixed when a file is scanned, from its first rows or its schema; what comes later changes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.errors import Code, error
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.io.arrow_files import arrow_schema
from kernelmill.engine.io.decompress import codec_of, refuse_unreadable_format
from kernelmill.engine.io.encodings import codec_name
from kernelmill.engine.io.inference import csv_columns, json_columns
from kernelmill.engine.io.source import Source, describe, items_of, list_files
from kernelmill.engine.io.widening import unify_schemas
from kernelmill.engine.options import column_name, flag, no_options, one_of, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plaintypes import plain_schema
from kernelmill.engine.plan.fileformats import CsvFormat, Format, IpcFormat, JsonFormat, RecordFormat, TextOptions
from kernelmill.engine.plan.logical import ScanFiles
from kernelmill.engine.scan import path_columns, with_path_fields
from kernelmill.engine.schema import columns_given
from kernelmill.engine.splits import FileStamp

_INFER_ROWS = 10_000
_PACKED = ("", ".gz", ".zst", ".bz2", ".lz4")
_CSV_OPTIONS = (
    "has_header",
    "separator",
    "quote_char",
    "comment_prefix",
    "null_values",
    "infer_rows",
    "skip_rows",
    "encoding",
    "invalid",
    "newlines_in_values",
    "schema",
    "schema_overrides",
    "include_file_paths",
    "hive_partitioning",
)
_PATH_OPTIONS = ("include_file_paths", "hive_partitioning")
_JSON_OPTIONS = ("infer_rows", "encoding", "invalid", "schema", "schema_overrides", *_PATH_OPTIONS)
_RECORD_OPTIONS = ("width", "fields", *_PATH_OPTIONS)
_FOREIGN = {
    "sep": "it is called separator=",
    "delimiter": "it is called separator=",
    "header": "it is called has_header=",
    "quotechar": "it is called quote_char=",
    "comment": "it is called comment_prefix=",
    "na_values": "it is called null_values=",
    "skiprows": "it is called skip_rows=",
    "infer_schema_length": "it is called infer_rows=",
    "dtypes": "it is called schema_overrides=",
    "dtype": "it is called schema_overrides=",
    "ignore_errors": 'it is called on_bad="reject", an option of collect and sink_parquet: no row goes unseen',
    "names": "it is called schema=: names and types",
    "new_columns": "add .rename({...})",
    "columns": "add .select(...): only the columns that are used are read",
    "use_columns": "add .select(...): only the columns that are used are read",
    "usecols": "add .select(...): only the columns that are used are read",
    "n_rows": "add .head(n)",
    "nrows": "add .head(n)",
}


def scan_csv(
    source: Source,
    *,
    has_header: bool = True,
    separator: str = ",",
    quote_char: str | None = '"',
    comment_prefix: str | None = None,
    null_values: str | list[str] | tuple[str, ...] = (),
    infer_rows: int = _INFER_ROWS,
    skip_rows: int = 0,
    encoding: str = "utf-8",
    invalid: str = "error",
    newlines_in_values: bool | None = None,
    schema: Any = None,
    schema_overrides: Any = None,
    include_file_paths: str | None = None,
    hive_partitioning: bool | str = "auto",
    **unknown: Any,
) -> LazyFrame:
    r"""Scan CSV files, `.gz .zst .bz2 .lz4` among them; names and types are those of the header and the first rows.

    source: a path, glob, directory (its `.csv` and `.tsv` files) or list. has_header: else columns are column_1,
    column_2... separator, quote_char: one byte each; None: quotes mean nothing. comment_prefix: lines that begin so are
    none. null_values: texts that are null beside the empty one; "" in quotes is an empty text. infer_rows: how many
    rows types are told by. skip_rows: lines above the header. encoding, invalid: as in `scan_text`, but binary.
    newlines_in_values: True reads each file whole, in one task; None does so if the first rows ask for it; where they
    do not and a later one does, it is KM0202. schema: all columns, as names and types; schema_overrides: types of some.
    include_file_paths: a further column's name. hive_partitioning: as in `scan_parquet`. Blank lines are no rows where
    there are several columns. A row of another width is KM0202, a value that is not of its type KM0207; with
    on_bad="reject" they are set aside.
    """
    origin = users_line()
    no_options("scan_csv", unknown, _CSV_OPTIONS, _FOREIGN)
    with located(origin):
        form = CsvFormat(
            pa.schema([]),
            _text_options(encoding, invalid),
            _byte("separator", separator),
            -1 if quote_char is None else _byte("quote_char", quote_char),
            flag("has_header", has_header),
            _text("comment_prefix", comment_prefix).encode(),
            _texts(null_values),
            whole_number("skip_rows", skip_rows, 0),
        )
        if newlines_in_values is not None:
            flag("newlines_in_values", newlines_in_values)
        if form.separator == form.quote:
            what = f"separator and quote_char are both {separator!r}"
            raise error(Code.BAD_SETTING, what, hint="give two that differ, or quote_char=None")
        items, files = _files(source, (".csv", ".tsv"))
        rows = whole_number("infer_rows", infer_rows, 1)
        given = None if schema is None else columns_given(schema, pa.schema([]))
        columns, has_newlines = csv_columns(files, form, rows, given, _overrides(schema_overrides))
        is_cut = not has_newlines if newlines_in_values is None else not newlines_in_values
        form = replace(form, columns=columns, is_cut=is_cut)
        return _scan(files, form, columns, (include_file_paths, hive_partitioning), items, origin)


def read_csv(source: Source, **options: Any) -> DataFrame:
    """Read CSV files into memory: `scan_csv` and `collect`, with the options of the first."""
    return scan_csv(source, **options).collect()


def scan_ndjson(
    source: Source,
    *,
    infer_rows: int = _INFER_ROWS,
    encoding: str = "utf-8",
    invalid: str = "error",
    schema: Any = None,
    schema_overrides: Any = None,
    include_file_paths: str | None = None,
    hive_partitioning: bool | str = "auto",
    **unknown: Any,
) -> LazyFrame:
    """Scan files with a JSON object a line, `.gz .zst .bz2 .lz4` among them; objects in them become structs.

    source: a path, glob, directory (its `.ndjson`, `.jsonl` and `.json` files) or list. infer_rows: how many lines
    columns and types are told by; a key that comes first in a later line is not read. encoding, invalid: as in
    `scan_text`, but binary. schema: the columns to read, as names and types; schema_overrides: types of some, or
    further columns. include_file_paths: a further column's name. hive_partitioning: as in `scan_parquet`. A key that an
    object lacks is null. A line that is no object is KM0202, a value that is not of its type KM0207; with
    on_bad="reject" they are set aside.
    """
    origin = users_line()
    no_options("scan_ndjson", unknown, _JSON_OPTIONS, _FOREIGN)
    with located(origin):
        form = JsonFormat(_text_options(encoding, invalid))
        items, files = _files(source, (".ndjson", ".jsonl", ".json"))
        rows = whole_number("infer_rows", infer_rows, 1)
        overrides = _overrides(schema_overrides)
        if schema is None:
            columns = json_columns(files, form, rows, overrides)
        else:
            given = columns_given(schema, pa.schema([]))
            columns = pa.schema([pa.field(field.name, field.type) for field in given])
        return _scan(files, form, columns, (include_file_paths, hive_partitioning), items, origin)


def read_ndjson(source: Source, **options: Any) -> DataFrame:
    """Read JSON lines into memory: `scan_ndjson` and `collect`, with the options of the first."""
    return scan_ndjson(source, **options).collect()


def scan_ipc(
    source: Source, *, include_file_paths: str | None = None, hive_partitioning: bool | str = "auto", **unknown: Any
) -> LazyFrame:
    """Scan Arrow IPC files and streams; their schemas are read now, and types widened across files as in Parquet.

    source: a path, glob, directory (its `.arrow`, `.ipc` and `.feather` files) or list. include_file_paths: a further
    column's name. KM0206 names two files that disagree, KM0202 one that is not Arrow.
    """
    origin = users_line()
    no_options("scan_ipc", unknown, _PATH_OPTIONS, _FOREIGN)
    with located(origin):
        items, files = _files(source, (".arrow", ".arrows", ".ipc", ".feather"), packed=False)
        schema = unify_schemas([(file.path, arrow_schema(file)) for file in files])
        return _scan(files, IpcFormat(), plain_schema(schema), (include_file_paths, hive_partitioning), items, origin)


def read_ipc(source: Source, **options: Any) -> DataFrame:
    """Read Arrow files into memory: `scan_ipc` and `collect`, with the options of the first."""
    return scan_ipc(source, **options).collect()


def scan_records(
    source: Source,
    *,
    width: int,
    fields: Any,
    include_file_paths: str | None = None,
    hive_partitioning: bool | str = "auto",
    **unknown: Any,
) -> LazyFrame:
    """Scan files of records of `width` bytes each; `fields` cuts them into binary columns: {"key": 10, "value": 90}.

    source: a path, glob, directory or list. Bytes behind the last field are not read. include_file_paths: a further
    column's name. KM0205 for a file that ends within a record, KM0107 for fields longer than a record.
    """
    origin = users_line()
    no_options("scan_records", unknown, _RECORD_OPTIONS, _FOREIGN)
    with located(origin):
        size = whole_number("width", width, 1, 1 << 24)
        if not isinstance(fields, Mapping) or not fields:
            what = f"fields cannot be {fields!r}"
            raise error(Code.BAD_SETTING, what, hint='name them with their bytes: {"key": 10, "value": 90}')
        cut = tuple((column_name(name), whole_number(f"fields[{name!r}]", n, 1)) for name, n in fields.items())
        total = sum(n for _, n in cut)
        if total > size:
            what = f"fields have {total} bytes, a record has {size}"
            raise error(Code.BAD_SETTING, what, hint=f"width={total}, or shorter fields")
        items, files = _files(source, None, packed=False)
        for file in files:
            if file.size_bytes % size:
                what = f"the last record has {file.size_bytes % size} of {size} bytes"
                raise error(Code.TRUNCATED, what, where=file.path, hint="copy it again, or give the width that it has")
        columns = pa.schema([pa.field(name, pa.binary(), nullable=False) for name, _ in cut])
        return _scan(files, RecordFormat(size, cut), columns, (include_file_paths, hive_partitioning), items, origin)


def read_records(source: Source, **options: Any) -> DataFrame:
    """Read fixed-width records into memory: `scan_records` and `collect`, with the options of the first."""
    return scan_records(source, **options).collect()


def _text_options(encoding: str, invalid: str) -> TextOptions:
    return TextOptions(invalid=one_of("invalid", invalid, ("error", "replace", "skip")), encoding=codec_name(encoding))


def _scan(
    files: tuple[FileStamp, ...],
    form: Format,
    columns: pa.Schema,
    paths: tuple[str | None, object],
    items: list[str],
    origin: str,
) -> LazyFrame:
    """The frame; `paths` are include_file_paths and hive_partitioning."""
    path, hive = paths
    elsewhere = path_columns(files, items, columns, hive, path if path is None else column_name(path))
    columns = with_path_fields(columns, elsewhere)
    return LazyFrame(ScanFiles(files, form, columns, elsewhere, describe(items), origin=origin))


def _files(
    source: Source, suffixes: tuple[str, ...] | None, *, packed: bool = True
) -> tuple[list[str], tuple[FileStamp, ...]]:
    """The items that a source lists, and their files; those of directories end in `suffixes`, maybe compressed."""
    items = items_of(source)
    ends = None if suffixes is None else tuple(s + p for s in suffixes for p in (_PACKED if packed else ("",)))
    files = list_files(items, suffixes=ends)
    for file in files:
        refuse_unreadable_format(file.path)
        if not packed and codec_of(file.path) is not None:
            raise error(
                Code.FORMAT, "compressed files of this kind cannot be read", where=file.path, hint="decompress it"
            )
    return items, files


def _overrides(given: Any) -> pa.Schema:
    schema = columns_given(given, pa.schema([]))
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def _byte(option: str, value: object) -> int:
    if isinstance(value, str) and len(value) == 1 and value.isascii() and value not in "\r\n\0":
        return ord(value)
    raise error(Code.BAD_SETTING, f"{option} cannot be {value!r}", hint="give one ASCII character")


def _text(option: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value and not set(value) & set("\r\n"):
        return value
    raise error(Code.BAD_SETTING, f"{option} cannot be {value!r}", hint='give how such lines begin: "#"')


def _texts(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
        return tuple(texts)
    raise error(Code.BAD_SETTING, f"null_values cannot be {value!r}", hint='list texts: ["NA", "-"]')
