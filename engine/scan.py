"""Readers: `scan_*` looks at names, sizes and footers, and gives a LazyFrame; no row is read before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.errors import Code, article, error
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.io.decompress import refuse_unreadable_format
from kernelmill.engine.io.encodings import codec_name
from kernelmill.engine.io.folders import folder_columns
from kernelmill.engine.io.many_footers import footers_of
from kernelmill.engine.io.source import Source, describe, items_of, list_files
from kernelmill.engine.io.widening import unify_schemas
from kernelmill.engine.options import flag, no_options, one_of, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plaintypes import plain_batch, plain_schema
from kernelmill.engine.plan.fileformats import PathColumns, TextOptions
from kernelmill.engine.plan.logical import ScanParquet, ScanSource, ScanTable, ScanText
from kernelmill.engine.schema import is_unicode
from kernelmill.engine.sizes import parse_bytes
from kernelmill.engine.sources import BATCH_ROWS, DataSource, UserSource, declared_schema
from kernelmill.engine.splits import FileStamp

_TEXT_OPTIONS = (
    "encoding",
    "invalid",
    "separator",
    "max_line",
    "whole_file",
    "include_file_paths",
    "include_offsets",
)
_PARQUET_OPTIONS = ("missing_columns", "hive_partitioning", "include_file_paths")
_FOREIGN_OPTIONS = {
    "errors": "it is called invalid=: error, replace, skip or binary",
    "lineterminator": "it is called separator=",
    "line_separator": "it is called separator=",
    "wholetext": "it is called whole_file=",
    "columns": "add .select(...): only the columns that are used are read",
    "use_columns": "add .select(...): only the columns that are used are read",
    "n_rows": "add .head(n)",
    "allow_missing_columns": 'it is called missing_columns="null"',
    "include_file_names": "it is called include_file_paths=",
}


def scan_text(
    source: Source,
    *,
    encoding: str = "utf-8",
    invalid: str = "error",
    separator: str = "\n",
    max_line: str | int = "64MiB",
    whole_file: bool = False,
    include_file_paths: str | None = None,
    include_offsets: str | None = None,
    **unknown: Any,
) -> LazyFrame:
    r"""Scan text files, `.gz .zst .bz2 .lz4` among them: one column `line`, or `text` where `whole_file` is set.

    source: a path, glob, directory or list; a file named twice is read once, through links too, but hard links are
    files of their own. encoding: of the files, UTF-8 or any text codec of Python. invalid: what is done with bytes that
    are not valid: error (KM0204), replace, skip (into the rejects) or binary. separator: what ends a line; only before
    `\n`, a `\r` goes too. max_line: longest line, as bytes or "64MiB" (KM0209). include_file_paths, include_offsets:
    names of further columns, string and int64: the bytes from the start of the file, or of its text if it is
    compressed; where a character has several bytes and is not UTF-8 (UTF-16, Shift-JIS), of its text in UTF-8. KM0201
    if a file is missing, KM0107 for a bad option, KM0202 for `.xz`, `.zip`.
    """
    origin = users_line()
    no_options("scan_text", unknown, _TEXT_OPTIONS, _FOREIGN_OPTIONS)
    with located(origin):
        options = TextOptions(
            invalid=one_of("invalid", invalid, ("error", "replace", "skip", "binary")),
            separator=_separator(separator),
            max_line_bytes=whole_number("max_line", parse_bytes(max_line, name="max_line"), 1),
            whole_file=flag("whole_file", whole_file),
            path_column=_column("include_file_paths", include_file_paths),
            offset_column=_column("include_offsets", include_offsets),
            encoding=codec_name(encoding),
        )
        items = items_of(source)
        files = list_files(items)
        for file in files:
            refuse_unreadable_format(file.path)
        return LazyFrame(ScanText(files, options, describe(items), origin=origin))


def read_text(source: Source, **options: Any) -> DataFrame:
    """Read text files into memory: `scan_text` and `collect`, with the options of the first."""
    return scan_text(source, **options).collect()


def scan_parquet(
    source: Source,
    *,
    missing_columns: str = "error",
    hive_partitioning: bool | str = "auto",
    include_file_paths: str | None = None,
    **unknown: Any,
) -> LazyFrame:
    """Scan Parquet files; their footers are read now. Columns and filters of the plan decide what is read later.

    source: a path, glob, directory or list; a file named twice is read once, through links too, but hard links are
    files of their own. missing_columns: error, or null for columns that some files lack. hive_partitioning: folders
    called `name=value` are columns, and a filter of these leaves files out; "auto": those below what source names, if
    all files have the same ones; True: all of a path, else KM0206. A column that files have themselves is theirs.
    include_file_paths: name of a further column.
    Types are widened across files; KM0206 names two files that disagree, KM0202 one that is not Parquet.
    """
    origin = users_line()
    no_options("scan_parquet", unknown, _PARQUET_OPTIONS, _FOREIGN_OPTIONS)
    with located(origin):
        missing = one_of("missing_columns", missing_columns, ("error", "null"))
        items = items_of(source)
        files = list_files(items, suffixes=(".parquet", ".parq", ".pq"))
        infos = footers_of(files)
        schema = plain_schema(unify_schemas([(info.file.path, info.schema) for info in infos], missing=missing))
        elsewhere = path_columns(
            files, items, schema, hive_partitioning, _column("include_file_paths", include_file_paths)
        )
        schema = with_path_fields(schema, elsewhere)
        return LazyFrame(ScanParquet(files, infos, schema, missing, None, describe(items), elsewhere, origin=origin))


def read_parquet(source: Source, **options: Any) -> DataFrame:
    """Read Parquet files into memory: `scan_parquet` and `collect`, with the options of the first."""
    return scan_parquet(source, **options).collect()


def path_columns(
    files: Sequence[FileStamp], items: Sequence[str], schema: pa.Schema, hive: object, path: str | None
) -> PathColumns:
    """The columns of files with `schema` that are in their paths; KM0107 if `hive` is not True, False or "auto"."""
    if hive is not True and hive is not False:
        one_of("hive_partitioning", hive, ("auto",))
    found = folder_columns(files, items, auto=hive == "auto") if hive else pa.schema([])
    return PathColumns(pa.schema([field for field in found if field.name not in schema.names]), path)


def with_path_fields(schema: pa.Schema, columns: PathColumns) -> pa.Schema:
    """`schema` with the columns of folders and the path behind it."""
    path: list[pa.Field[Any]] = [] if columns.path is None else [pa.field(columns.path, pa.string(), nullable=False)]
    return pa.schema([*schema, *columns.folders, *path])


def from_arrow(data: Any) -> LazyFrame:
    """Make a LazyFrame of anything with `__arrow_c_stream__`: pandas, Polars, DuckDB, pyarrow tables and batches.

    The data is taken once and kept. Strings of any layout become string, dictionaries their values, and so on: see
    `engine/plaintypes`. KM0107 if `data` is something else.
    """
    origin = users_line()
    if isinstance(data, pa.RecordBatch):
        table = pa.Table.from_batches([data])
    elif isinstance(data, pa.Table):
        table = data
    elif isinstance(data, pa.RecordBatchReader) or hasattr(data, "__arrow_c_stream__"):
        try:
            reader = pa.RecordBatchReader.from_stream(data)
        except pa.ArrowInvalid as exc:  # a stream of one column's values, and not of rows
            what = f"from_arrow needs columns with names, this {type(data).__name__} is one without: {exc}"
            raise error(Code.BAD_SETTING, what, where=origin, hint='pa.table({"name": values})') from exc
        table = reader.read_all()
    else:
        what = f"from_arrow cannot read {article(data)}"
        hint = "give it something with __arrow_c_stream__: a pyarrow.Table, a pandas, Polars or DuckDB frame"
        raise error(Code.BAD_SETTING, what, where=origin, hint=hint)
    with located(origin):
        schema = plain_schema(table.schema)
        # cut first: a cast of one slice at a time cannot overflow the 32-bit offsets of string
        slices = [part for batch in table.to_batches(max_chunksize=BATCH_ROWS) for part in _cut(batch)]
        batches = tuple(plain_batch(part, schema) for part in slices if part.num_rows)
        return LazyFrame(ScanTable(batches, schema, origin=origin))


def scan_source(source: DataSource) -> LazyFrame:
    """Scan an object of yours: `schema`, a pyarrow.Schema; `splits()`, a list of small values; `read(split)`, batches.

    splits() is called now, once; a split must be something JSON has. read(split) yields the pyarrow.RecordBatch objects
    of a split, in several threads. size_bytes(split), if there is one, says how large it is. KM0107 for an object that
    is no source, KM0301 for one that raises or gives other columns than its schema says.
    """
    origin = users_line()
    with located(origin):
        schema = plain_schema(declared_schema(source))
        return LazyFrame(ScanSource(UserSource(source, schema), schema, origin=origin))


def _cut(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """`batch` in pieces whose strings stay below 2 GiB."""
    if batch.num_rows <= 1 or batch.nbytes < 1 << 30:
        return [batch]
    half = batch.num_rows // 2
    return [*_cut(batch.slice(0, half)), *_cut(batch.slice(half))]


def _separator(value: object) -> bytes:
    if isinstance(value, str) and value and is_unicode(value):
        return value.encode()
    if isinstance(value, bytes) and value:
        return value
    raise error(Code.BAD_SETTING, f"separator cannot be {value!r}", hint=r'give what ends a line, such as "\n"')


def _column(option: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and is_unicode(value)):
        return value
    hint = f'name the column: {option}="path"'
    raise error(Code.BAD_SETTING, f"{option} cannot be {value!r}", hint=hint)
