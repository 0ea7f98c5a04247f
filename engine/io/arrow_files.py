"""Arrow IPC: files and streams of record batches. A file is read by ranges, a stream from its beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import Place, ReadContext, RowPlace
from kernelmill.engine.plaintypes import plain_column
from kernelmill.engine.splits import FileRange, FileStamp

_MAGIC = b"ARROW1"
_BATCH_ROWS_MAX = 1 << 18
_BATCH_BYTES_MAX = 48 << 20


def arrow_schema(file: FileStamp) -> pa.Schema:
    """The columns of an Arrow file or stream, as it has them. Raises KM0201, KM0202, KM0203."""
    with InputFile(file) as opened, _opened(file) as source:
        try:
            schema: pa.Schema = _reader(opened, source, None).schema
            return schema
        except (pa.ArrowException, OSError) as problem:
            raise _damaged(file, problem) from problem


def read_arrow(
    file: InputFile, part: FileRange, wanted: pa.Schema, context: ReadContext
) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """Yield the record batches of a range with the columns `wanted`, cut where they are large.

    Batch i of n belongs to the range that holds byte i/n of the file; a stream's all belong to the first range. Raises
    KM0202 for what is no Arrow file, KM0206 for a column that is missing, KM0207 for a value that does not fit a type.
    """
    stamp, row = part.file, 0
    with _opened(stamp) as source:
        try:
            there = _reader(file, source, None).schema
            _check_columns(stamp, there, wanted)
            source.seek(0)
            reader = _reader(file, source, sorted(there.get_field_index(name) for name in wanted.names))
            for batch in _batches_of(reader, part):
                context.check_cancelled()
                batch.validate(full=True)
                for start, piece in _pieces(batch):
                    yield _fitted(piece, wanted, stamp), _place(stamp.path, row + start if part.start == 0 else None)
                row += batch.num_rows
        except KernelmillError:
            raise
        except (pa.ArrowException, OSError) as problem:
            file.check()
            raise _damaged(stamp, problem) from problem


def _opened(file: FileStamp) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(file.opened_path), "r")  # type: ignore[arg-type]  # bytes: a name need not be UTF-8


def _reader(file: InputFile, source: pa.NativeFile, columns: list[int] | None) -> Any:
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns or None)
    if file.read(0, len(_MAGIC)) == _MAGIC:
        return pa.ipc.open_file(source, options=options)
    return pa.ipc.open_stream(source, options=options)


def _batches_of(reader: Any, part: FileRange) -> Iterator[pa.RecordBatch]:
    """The batches of a range, one at a time."""
    count = getattr(reader, "num_record_batches", None)
    if count is None:
        if part.start == 0:
            yield from reader
        return
    size = part.file.size_bytes
    for number in range(count):
        if number * size // count >= part.stop:
            return
        if number * size // count >= part.start:
            yield reader.get_batch(number)


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A batch in pieces of bounded size, each with its first row."""
    rows = max(1, min(_BATCH_ROWS_MAX, _BATCH_BYTES_MAX * batch.num_rows // max(1, batch.nbytes)))
    for start in range(0, batch.num_rows, rows):
        yield start, batch.slice(start, rows)


def _fitted(batch: pa.RecordBatch, wanted: pa.Schema, file: FileStamp) -> pa.RecordBatch:
    columns: list[Any] = []
    for field in wanted:
        column = batch.column(field.name)
        try:
            columns.append(plain_column(column, field.type))
        except pa.ArrowInvalid as problem:
            what = f"a {column.type} value does not fit {field.type}, the type that all files were given: {problem}"
            hint = "read these files apart, or cast the column"
            raise error(Code.CAST, what, where=f"{file.path}, column {field.name!r}", hint=hint) from problem
    if not columns:
        nothing: Any = pa.StructArray.from_buffers(pa.struct([]), batch.num_rows, [None])
        return pa.RecordBatch.from_struct_array(nothing)
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _check_columns(file: FileStamp, there: pa.Schema, wanted: pa.Schema) -> None:
    for name in wanted.names:
        if there.get_field_index(name) < 0:
            hint = "read files with other columns apart"
            raise error(Code.SCHEMA_CONFLICT, f"the file has no column {name!r}", where=file.path, hint=hint)


def _place(path: str, first: int | None) -> Place:
    """Where rows come from; None: how many rows there are before the range is not known without reading them."""
    return lambda row: RowPlace(path, row=None if first is None else first + row)


def _damaged(file: FileStamp, problem: BaseException) -> KernelmillError:
    why = " ".join(str(problem).split())
    hint = "write it again with pyarrow.ipc or Polars' write_ipc; Parquet is read by scan_parquet"
    return error(Code.FORMAT, f"this is no Arrow file or stream, or it is damaged: {why}", where=file.path, hint=hint)
