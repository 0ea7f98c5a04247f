"""Parquet parts whose bytes depend on their rows alone (I1), however batches were cut and whoever wrote them.

Every setting of the writer is pinned here. Rows are collected until a row group is full and go down in one call, as one
contiguous array a column: pages end at borders of write calls *and* of chunks (measured), so neither may vary.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import xxhash

from kernelmill.engine.batch import plain
from kernelmill.engine.commit import PartFile
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.parquet_encodings import encodings
from kernelmill.engine.io.parquet_texts import has_own_statistics, is_coded, one_column, only_array, text_statistics
from kernelmill.engine.io.parquet_thrift import footer_and_tail, footer_start, with_statistics
from kernelmill.engine.io.rowbytes import bytes_before, bytes_of, row_bytes
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.plan.physical import ToParquet

FORMAT_VERSION: Final = "2.6"
SyncLater = Callable[[int, str], None]
"""Takes over a file that is written, by its handle and path, to sync and close it: before the output is published."""
# A row group ends at `row_group_rows`, or before the row whose values would take it past this: bounded memory (I4) for
# wide tables and long texts. It is counted in bytes of values, row by row, so it falls at the same row every time.
ROW_GROUP_BYTES_MAX = 64 << 20
_PAGE_BYTES = 1 << 20
_TAIL_BYTES = 8
_WRITE_BATCH_ROWS = 1024
# Our names of codecs -> pyarrow's name and the pinned level. Measured on (18-byte token, int64), ns and bytes a row:
# none 41/24.1  snappy 66/9.7  lz4 65/9.6  zstd-1 87/5.6  gzip-1 190/6.4  gzip-4 316/5.7  gzip-6 715/5.4
# and gzip-9, which is pyarrow's default, 3500/5.2.
_CODECS: dict[str, tuple[str, int | None]] = {
    "zstd": ("zstd", 1),
    "snappy": ("snappy", None),
    "lz4": ("lz4", None),
    "gzip": ("gzip", 4),
    "none": ("none", None),
}


def check_compression(name: str) -> str:
    """Return the codec's name. Raises KM0107 with what was probably meant."""
    if name in _CODECS:
        return name
    close = difflib.get_close_matches(str(name).lower().replace("uncompressed", "none"), _CODECS, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    what = f"compression={name!r} is not a codec that is written"
    raise error(Code.BAD_SETTING, what, hint=f"{meant}there are: {', '.join(_CODECS)}")


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Tell as which type a column is written: text as string or binary, a dictionary as its values."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as they are written."""
    return pa.schema([pa.field(field.name, stored_type(field.type), field.nullable) for field in schema])


class RowGroups:
    """Collects batches until a row group is full: `add` gives those that are, `rest` what is left.

    waiting_rows: rows that wait; waiting_bytes, taken_bytes: of the values that wait, and of all that were taken.
    """

    def __init__(self, operator: ToParquet, bytes_max: int | None = None) -> None:
        self.schema = stored_schema(operator.schema)
        self._rows_max = max(1, operator.row_group_rows)
        self._bytes_max = ROW_GROUP_BYTES_MAX if bytes_max is None else min(bytes_max, ROW_GROUP_BYTES_MAX)
        self.waiting_rows = self.waiting_bytes = self.taken_bytes = 0
        self._waiting: list[list[pa.Array[Any]]] = []
        self._row_bytes = row_bytes(self.schema) or 0

    @property
    def is_full(self) -> bool:
        """Whether no other row fits to those that wait, as far as rows of one size tell."""
        return self.waiting_rows > 0 and self.waiting_bytes + self._row_bytes > self._bytes_max

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Take the rows of a batch; columns go by position and must fit the operator's schema."""
        columns = [_stored(column) for column in batch.columns]
        start, rows = 0, batch.num_rows
        while start < rows:
            piece = [column.slice(start, self._rows_max - self.waiting_rows) for column in columns]
            count = min(rows - start, self._rows_max - self.waiting_rows)
            size_bytes = bytes_of(piece)
            if self.waiting_bytes + size_bytes > self._bytes_max:
                count = self._rows_that_fit(piece, count)
                piece = [column.slice(0, count) for column in piece]
                size_bytes = bytes_of(piece)
            if count:
                self._waiting.append(piece)
                self.waiting_rows += count
                self.waiting_bytes += size_bytes
                self.taken_bytes += size_bytes
                start += count
            if start < rows or self.waiting_rows == self._rows_max:
                yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        """The rows that wait, if there are any, as one array a column."""
        if not self.waiting_rows:
            return
        arrays = [one_column(column) for column in zip(*self._waiting, strict=True)]
        self.waiting_rows = self.waiting_bytes = 0
        self._waiting = []
        fields = [pa.field(f.name, a.type, f.nullable) for f, a in zip(self.schema, arrays, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _rows_that_fit(self, piece: Sequence[pa.Array[Any]], rows: int) -> int:
        """How many rows the open row group still takes; a row larger than the bound has a row group to itself."""
        sums = bytes_before(piece, rows)
        fits = int(np.searchsorted(sums, self._bytes_max - self.waiting_bytes, side="right")) - 1
        return max(fits, 0 if self.waiting_rows else 1)


class RowGroupWriter:
    """pyarrow's writer with every setting pinned: `write` row groups as `RowGroups` gives them, then `close`.

    Raises KM0107 for an unknown compression. The first row group decides how columns are encoded, and which of them
    come as codes; other row groups are made to fit.
    """

    def __init__(self, sink: Any, operator: ToParquet) -> None:
        check_compression(operator.compression)
        self._sink, self._operator = _Pages(sink), operator
        self._writer: Any = None
        columns = stored_schema(operator.schema)
        is_flat = not any(pa.types.is_nested(field.type) for field in columns)  # the others' parts have paths
        self._texts = [f.name for f in columns if has_own_statistics(f.type)] if is_flat and operator.statistics else []
        self._statistics: list[dict[str, bytes]] = []

    def write(self, table: pa.Table) -> None:
        """Write the rows as one row group. Raises KM0207 for a value that Parquet cannot hold."""
        if self._writer is None:
            self._open(table)
        rows = fitted(table, self._schema)
        try:
            self._writer.write_table(rows, row_group_size=table.num_rows)
        except pa.ArrowInvalid as problem:
            raise _unfit(table, problem) from problem
        self._statistics.append({name: text_statistics(only_array(rows.column(name))) for name in self._texts})

    def close(self) -> None:
        """Write the footer."""
        if self._writer is None:
            self._open(stored_schema(self._operator.schema).empty_table())
        self._sink.is_footer = bool(self._statistics and self._texts)
        self._writer.close()
        if not self._sink.is_footer:
            return
        tail = b"".join(self._sink.footer)
        start = footer_start(memoryview(tail))
        footer = with_statistics(tail[start:-_TAIL_BYTES], self._statistics)
        self._sink.sink.write(tail[:start] + footer_and_tail(footer))

    def abort(self) -> None:
        """Forget the writer; its sink takes no more."""
        if self._writer is not None:
            self._writer.close()  # its footer goes nowhere; left open it would be written when it is forgotten

    def _open(self, table: pa.Table) -> None:
        operator, self._schema = self._operator, table.schema
        codec, usual = _CODECS[operator.compression]
        level = usual if operator.level is None else operator.level
        others = [name for name in self._schema.names if name not in self._texts]
        pinned: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "compression": codec,
            "compression_level": level,
            **encodings(table, operator.unique_columns),
            "write_statistics": others if self._texts else operator.statistics,
            "data_page_version": "1.0",
            "data_page_size": _PAGE_BYTES,
            "write_batch_size": _WRITE_BATCH_ROWS,
            "write_page_checksum": True,
            "store_schema": False,
        }
        sink: Any = self._sink
        self._writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), self._schema, **pinned)


class _Pages:
    """The sink as Arrow's writer sees it: its footer, which will be changed, is kept apart."""

    closed = False

    def __init__(self, sink: Any) -> None:
        self.sink, self.is_footer = sink, False
        self.footer: list[bytes] = []

    def write(self, data: Any) -> int:
        """Give pages on; keep the footer."""
        if self.is_footer:
            self.footer.append(bytes(data))
        else:
            self.sink.write(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return int(self.sink.tell()) + sum(map(len, self.footer))

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Left to whoever has the sink."""


class RowGroupFile:
    """Write row groups to one new file: `write` them in order, then `close` for its name, rows, bytes and checksum.

    `path` must not exist. `abort` deletes the file. Errors: KM0402 disk full, KM0502 other refusals of the system,
    KM0107 unknown compression, KM0207 a value that Parquet cannot hold. With `sync_later`, `close` leaves the file to
    it, else the file is durable then.
    """

    def __init__(self, path: str, operator: ToParquet, sync_later: SyncLater | None = None) -> None:
        check_compression(operator.compression)
        self.path, self.rows = path, 0
        with output_errors("making a part file", path):
            self._sink = HashingFile(path, sync_later)
        self._writer = RowGroupWriter(self._sink, operator)

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._sink.tell()

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        with output_errors("writing a part file", self.path):
            self._writer.write(table)
        self.rows += table.num_rows

    def close(self) -> PartFile:
        """Write the footer, finish the file, and describe it under its base name."""
        with output_errors("finishing a part file", self.path):
            self._writer.close()
            self._sink.finish()
        return PartFile(os.path.basename(self.path), self.rows, self._sink.tell(), self._sink.checksum())

    def abort(self) -> None:
        """Give the file up and delete it. Does nothing after `close`."""
        if self._sink.open:
            self._sink.discard()
            self._writer.abort()


class PartWriter:
    """Write batches to one new file: `write` them in order, then `close` for its name, rows, bytes and checksum.

    Leaving the context without `close` deletes the file. Path, errors and `sync_later` as RowGroupFile.
    """

    def __init__(self, path: str, operator: ToParquet, sync_later: SyncLater | None = None) -> None:
        self._file, self._groups = RowGroupFile(path, operator, sync_later), RowGroups(operator)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch; columns go by position and must fit the operator's schema."""
        for table in self._groups.add(batch):
            self._file.write(table)
        if self._groups.is_full:  # not when the next rows come: they are made where these lie
            for table in self._groups.rest():
                self._file.write(table)

    def close(self) -> PartFile:
        """Write what waits and the footer, finish the file, and describe it under its base name."""
        for table in self._groups.rest():
            self._file.write(table)
        return self._file.close()

    def abort(self) -> None:
        """Give the file up and delete it. Does nothing after `close`."""
        self._file.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def join_parts(paths: Sequence[str], target: str) -> PartFile:
    """Write the rows of small Parquet files of one schema, in order, to the new file `target`."""
    with open(paths[0], "rb") as first:  # Arrow itself opens no file whose name is not UTF-8
        schema = pq.read_schema(first)
    with PartWriter(target, ToParquet("zstd", 1 << 20, True, schema)) as writer:
        for path in paths:
            with open(path, "rb") as opened, pq.ParquetFile(opened) as file:
                for batch in file.iter_batches(use_threads=False):
                    writer.write(batch)
        return writer.close()


def _stored(column: pa.Array[Any]) -> pa.Array[Any]:
    if is_coded(column.type):
        return column
    kind = stored_type(column.type)
    return column if kind == column.type else column.cast(kind)


def _unfit(table: pa.Table, problem: pa.ArrowInvalid) -> KernelmillError:
    """KM0207 naming the column that Parquet cannot hold: it has no seconds, and milliseconds of far ones overflow."""
    for name in table.schema.names:
        try:
            pq.write_table(table.select([name]), pa.MockOutputStream(), version=FORMAT_VERSION)
        except pa.ArrowInvalid as exc:
            hint = "Parquet counts in milliseconds or finer: filter the values out, or set them to null"
            return error(Code.CAST, f"column {name!r} has a value that Parquet cannot hold: {exc}", hint=hint)
    return error(Code.INTERNAL, f"Parquet cannot be written: {problem}", hint="report this as a bug")


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with columns as codes where, and only where, `schema` has them so."""
    if table.schema.equals(schema):
        return table
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = only_array(table.column(name))
        if column.type != kind:
            column = column.dictionary_encode() if pa.types.is_dictionary(kind) else plain(column)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


class HashingFile:
    """A new file that hashes what goes into it; what Arrow's writers need of a file. Its methods raise OSError."""

    closed = False  # pyarrow closes its sink when it is merely forgotten: `finish` and `discard` are what counts

    def __init__(self, path: str, sync_later: SyncLater | None = None) -> None:
        self._path, self._sync_later = path, sync_later
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hasher = xxhash.xxh3_128()
        self._bytes = 0
        self.open = True

    def write(self, data: bytes | memoryview) -> int:
        """Append `data`; after `finish` or `discard` nothing."""
        if not self.open:
            return len(data)
        self._hasher.update(data)
        rest = memoryview(data).cast("B")
        self._bytes += len(rest)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        return len(data)

    def tell(self) -> int:
        """Bytes written."""
        return self._bytes

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Left to `finish` and `discard`."""

    def finish(self) -> None:
        """Make what was written durable, and close the file; or leave both to `sync_later`."""
        if self._sync_later is not None:
            self._sync_later(self._handle, self._path)
            self.open = False
            return
        os.fsync(self._handle)
        self.open = False
        os.close(self._handle)

    def discard(self) -> None:
        """Close the file and delete it."""
        self.open = False
        os.close(self._handle)
        os.unlink(self._path)

    def checksum(self) -> str:
        """The xxh3-128 of what was written, in hex."""
        return self._hasher.hexdigest()
