"""Records of a fixed number of bytes, cut into binary fields; one belongs to the range in which its first byte lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import buffer_of
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import Place, ReadContext, RowPlace
from kernelmill.engine.plan.fileformats import RecordFormat
from kernelmill.engine.splits import FileRange

_BATCH_BYTES = 4 << 20


def read_records(
    file: InputFile, part: FileRange, form: RecordFormat, wanted: pa.Schema, context: ReadContext
) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """Yield the records that begin in a range as batches of some 4 MiB with the fields `wanted`, binary columns."""
    width = form.width
    first, last = -(-part.start // width), -(-part.stop // width)
    first_byte: dict[str, tuple[int, int]] = {}
    at = 0
    for name, size in form.fields:
        first_byte[name] = at, at + size
        at += size
    rows_max = max(1, _BATCH_BYTES // width)
    for start in range(first, last, rows_max):
        context.check_cancelled()
        rows = min(rows_max, last - start)
        data = np.empty((rows, width), np.uint8)
        file.read_into(memoryview(data.data).cast("B"), start * width)
        columns = [_column(data, *first_byte[name]) for name in wanted.names]
        if columns:
            batch = pa.RecordBatch.from_arrays(columns, schema=wanted)
        else:
            nothing: Any = pa.StructArray.from_buffers(pa.struct([]), rows, [None])
            batch = pa.RecordBatch.from_struct_array(nothing)
        yield batch, _place(part.file.path, start, width)


def _column(data: Any, start: int, stop: int) -> pa.Array[Any]:
    values = np.ascontiguousarray(data[:, start:stop])
    ends = np.arange(len(data) + 1, dtype=np.int32) * np.int32(stop - start)
    return pa.Array.from_buffers(pa.binary(), len(data), [None, buffer_of(ends), buffer_of(values)], null_count=0)


def _place(path: str, first: int, width: int) -> Place:
    return lambda row: RowPlace(path, (first + row) * width, first + row)
