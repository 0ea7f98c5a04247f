"""One Parquet file of the rows of many tasks: they encode row groups at the same time, one task puts these together.

What goes from task to task is a batch of `ENCODED`, in the order of the rows: bodies, each a whole Parquet file in
memory with one row group or more, and between them rows as they are, where they are too few for a row group. All
follows from the rows of each task alone (I1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import buffer_of
from kernelmill.engine.commit import PartFile
from kernelmill.engine.durable import output_errors
from kernelmill.engine.io.parquet_thrift import MAGIC, Footers, footer_start
from kernelmill.engine.io.parquet_write import (
    HashingFile,
    RowGroups,
    RowGroupWriter,
    SyncLater,
    fitted,
)
from kernelmill.engine.plan.physical import ENCODED, ToParquet

ENCODED_BYTES_MIN = 4 << 20
"""Rows of fewer bytes of values than this wait for those of the next task: a row group has its price to whoever reads.

Other engines end one at some 100,000 rows, which are about as many bytes.
"""
_BODY_BYTES_MAX = 32 << 20


class _Body:
    """Row groups as a Parquet file in memory."""

    def __init__(self, operator: ToParquet) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = RowGroupWriter(self._sink, operator)
        self.rows = 0

    @property
    def bytes(self) -> int:
        """Bytes of the row groups so far."""
        return self._sink.tell()

    def add(self, table: pa.Table) -> None:
        """Encode a row group. Raises KM0207."""
        self._writer.write(table)
        self.rows += table.num_rows

    def close(self) -> pa.Buffer:
        """The whole file."""
        self._writer.close()
        return self._sink.getvalue()


def encode_row_groups(batches: Iterator[pa.RecordBatch], operator: ToParquet) -> Iterator[pa.RecordBatch]:
    """Encode the rows of a task as batches of ENCODED. Raises KM0207 for a value that Parquet cannot hold."""
    groups, body = RowGroups(operator), _Body(operator)
    full: list[pa.Table] = []
    for batch in batches:
        full += groups.add(batch)
        if groups.taken_bytes < ENCODED_BYTES_MIN:
            continue
        for table in full:
            body.add(table)
            if body.bytes >= _BODY_BYTES_MAX:
                yield _encoded(body.rows, True, body.close())
                body = _Body(operator)
        full = []
    are_few = groups.waiting_bytes < ENCODED_BYTES_MIN
    rest = list(groups.rest())
    for table in () if are_few else rest:
        body.add(table)
    if body.rows:
        yield _encoded(body.rows, True, body.close())
    if are_few and (full or rest):
        yield _as_rows(groups.schema, [*full, *rest])


def _as_rows(schema: pa.Schema, tables: list[pa.Table]) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for table in tables:
            stream.write_table(fitted(table, schema))
    return _encoded(sum(table.num_rows for table in tables), False, sink.getvalue())


def _encoded(rows: int, is_parquet: bool, body: pa.Buffer) -> pa.RecordBatch:
    offsets = buffer_of(np.array([0, body.size], np.int64))
    column: pa.Array[Any] = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, body], 0)
    return pa.RecordBatch.from_arrays([pa.array([rows], pa.int64()), pa.array([is_parquet]), column], schema=ENCODED)


class JoiningWriter:
    """Write batches of ENCODED to one new file: as PartWriter, which has the same methods and errors."""

    def __init__(self, path: str, operator: ToParquet, sync_later: SyncLater | None = None) -> None:
        self.path, self._operator = path, operator
        self._rows, self._body = RowGroups(operator), _Body(operator)
        self._footers = Footers()
        with output_errors("making a part file", path):
            self._sink = HashingFile(path, sync_later)
            self._sink.write(MAGIC)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch of ENCODED."""
        for is_parquet, body in zip(batch["is_parquet"], batch["body"], strict=True):
            content = body.as_buffer()
            if is_parquet.as_py():
                self._finish_rows()
                self._append(content)
                continue
            with pa.ipc.open_stream(content) as stream:
                for rows in stream:
                    self._take(self._rows.add(rows))

    def close(self) -> PartFile:
        """Write what waits and the footer, finish the file, and describe it under its base name."""
        self._finish_rows()
        if not self._footers.has_any:
            self._append(self._body.close())  # no rows: a footer that has the columns
        with output_errors("finishing a part file", self.path):
            self._sink.write(self._footers.joined())
            self._sink.finish()
        return PartFile(os.path.basename(self.path), self._footers.rows, self._sink.tell(), self._sink.checksum())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink.open:
            self._sink.discard()

    def _take(self, tables: Iterator[pa.Table]) -> None:
        for table in tables:
            self._body.add(table)
            if self._body.bytes >= _BODY_BYTES_MAX:
                self._finish_body()

    def _finish_rows(self) -> None:
        self._take(self._rows.rest())
        if self._body.rows:
            self._finish_body()

    def _finish_body(self) -> None:
        self._append(self._body.close())
        self._body = _Body(self._operator)

    def _append(self, body: pa.Buffer) -> None:
        view = memoryview(body)
        stop = footer_start(view)
        self._footers.add(bytes(view[stop:]), self._sink.tell() - len(MAGIC))
        with output_errors("writing a part file", self.path):
            self._sink.write(view[len(MAGIC) : stop])
