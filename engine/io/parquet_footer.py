"""What a Parquet file's footer tells a planner: schema, rows and bytes of row groups, statistics. No page is read."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.pruning import ColumnStats
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.plaintypes import plain_kind
from kernelmill.engine.splits import FileStamp

_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_SMALLEST_FILE_BYTES = 12
_FOOTERS_KEPT = 64


class RowGroup:
    """One row group: `rows`, and `column_bytes`, the compressed bytes of each top-level column."""

    def __init__(self, meta: pq.RowGroupMetaData, schema: pa.Schema) -> None:
        self._meta, self._schema = meta, schema
        self.rows = meta.num_rows
        self.column_bytes: dict[str, int] = dict.fromkeys(schema.names, 0)
        self._flat: dict[str, int] = {}
        for number in range(meta.num_columns):
            column = meta.column(number)
            name, _, below = column.path_in_schema.partition(".")
            if column.path_in_schema in self.column_bytes:
                name, below = column.path_in_schema, ""
            self.column_bytes[name] = self.column_bytes.get(name, 0) + column.total_compressed_size
            if not below:
                self._flat[name] = number

    @functools.cached_property
    def stats(self) -> Mapping[str, ColumnStats]:
        """Statistics by column, for the columns that have usable ones; each is decoded when it is asked for."""
        return _LazyStats(self._meta, self._schema, self._flat)

    def bytes_of(self, columns: Sequence[str]) -> int:
        """Compressed bytes of these columns; one that the file lacks has none."""
        return sum(self.column_bytes.get(name, 0) for name in columns)


class ParquetInfo:
    """A file's footer: `schema` as it is read (text as string, dictionaries as their values), and its `row_groups`."""

    def __init__(self, file: FileStamp, metadata: pq.FileMetaData) -> None:
        self.file, self.metadata = file, metadata
        self.schema = plain_schema(metadata.schema.to_arrow_schema())
        self.dictionary_chunks: dict[tuple[int, str], bool] = {}
        """Whether a column of a row group is best read as a dictionary, where a task has asked its pages."""

    @property
    def rows(self) -> int:
        """Rows of the whole file."""
        return self.metadata.num_rows

    @functools.cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """The row groups in order."""
        return tuple(
            RowGroup(self.metadata.row_group(number), self.schema) for number in range(self.metadata.num_row_groups)
        )


def parquet_info(file: FileStamp) -> ParquetInfo:
    """Read a file's footer; the last few dozen are kept, so planning and tasks share them.

    Raises KM0201 if it cannot be opened, KM0202 if it is no Parquet or damaged, KM0205 if it ends too early.
    """
    info = _info(file)
    names = info.schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        hint = "rename one of them where the file is written"
        raise error(Code.DUPLICATE_COLUMN, f"the file has two columns {twice!r}", where=file.path, hint=hint)
    return info


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The types in which columns are handed on: no large or view text, no dictionaries; no metadata."""
    return pa.schema([pa.field(field.name, plain_kind(field.type), field.nullable) for field in schema])


def system_error(problem: OSError, path: str) -> KernelmillError:
    """KM0201 with the system's reason, for an input that could not be opened or read."""
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    if isinstance(problem, PermissionError):
        hint = "ask for the right to read it"
    else:
        hint = "check the path; a relative one starts at the current folder"
    return error(Code.INPUT_NOT_FOUND, f"cannot read the file: {reason}", where=path, hint=hint)


@functools.lru_cache(maxsize=_FOOTERS_KEPT)
def _info(file: FileStamp) -> ParquetInfo:
    try:
        with open(file.opened_path, "rb") as opened:
            _check_ends(opened.fileno(), file.path)
            return ParquetInfo(file, pq.read_metadata(opened))
    except KernelmillError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        if isinstance(problem, OSError) and problem.errno:
            raise system_error(problem, file.path) from problem
        why = " ".join(str(problem).split())  # thrift's texts have line ends
        what, hint = f"the footer cannot be read: {why}", "write the file again; its end is damaged"
        raise error(Code.FORMAT, what, where=file.path, hint=hint) from problem


def _check_ends(handle: int, path: str) -> None:
    """Tell a file that is no Parquet from one that lost its end: pyarrow's message is the same for both."""
    size_bytes = os.fstat(handle).st_size
    head, tail = os.pread(handle, 4, 0), os.pread(handle, 8, max(0, size_bytes - 8))
    if head == _ENCRYPTED_MAGIC or tail[4:] == _ENCRYPTED_MAGIC:
        raise error(Code.FORMAT, "the file is encrypted", where=path, hint="decrypt it first")
    if head != _MAGIC:
        what = "the file is empty, not even an empty table" if size_bytes == 0 else "the file is not Parquet"
        raise error(Code.FORMAT, what, where=path, hint="for text use scan_text")
    if size_bytes < _SMALLEST_FILE_BYTES or tail[4:] != _MAGIC:
        what, hint = "the file has lost its end: it begins as Parquet and has no footer", "write or copy it again"
        raise error(Code.TRUNCATED, what, where=f"{path}, byte {size_bytes}", hint=hint)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if footer_bytes + _SMALLEST_FILE_BYTES > size_bytes:
        what = f"the footer claims {footer_bytes} bytes of a file of {size_bytes}"
        raise error(Code.TRUNCATED, what, where=f"{path}, byte {size_bytes - 8}", hint="write or copy it again")


class _LazyStats(Mapping[str, ColumnStats]):
    """Column statistics, decoded one by one: a wide table has thousands, a predicate needs two."""

    def __init__(self, meta: pq.RowGroupMetaData, schema: pa.Schema, flat: dict[str, int]) -> None:
        self._meta, self._schema, self._flat = meta, schema, flat

    def __getitem__(self, name: str) -> ColumnStats:
        return _column_stats(self._meta.column(self._flat[name]), self._schema.field(name).type, self._meta.num_rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._flat)

    def __len__(self) -> int:
        return len(self._flat)


def _column_stats(column: Any, kind: pa.DataType, rows: int) -> ColumnStats:
    found = column.statistics
    if found is None:
        return ColumnStats(kind, rows)
    nulls = found.null_count if found.has_null_count else None
    if not found.has_min_max:
        return ColumnStats(kind, rows, nulls)
    lowest, highest = _ordered(found.min_raw, kind), _ordered(found.max_raw, kind)
    if lowest is None or highest is None or lowest > highest:
        return ColumnStats(kind, rows, nulls)
    return ColumnStats(kind, rows, nulls, lowest, highest)


def _ordered(raw: Any, kind: pa.DataType) -> Any:
    """A raw statistic as a Python value that orders as the column does; None for types and values that do not."""
    if pa.types.is_boolean(kind):
        return bool(raw)
    if pa.types.is_integer(kind):
        return raw % (1 << kind.bit_width) if pa.types.is_unsigned_integer(kind) else raw
    if pa.types.is_floating(kind):
        return raw if isinstance(raw, float) and not math.isnan(raw) else None
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return raw if isinstance(raw, bytes) else None
    if pa.types.is_date32(kind) or pa.types.is_timestamp(kind):
        return raw if isinstance(raw, int) else None
    return None
