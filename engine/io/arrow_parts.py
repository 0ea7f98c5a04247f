"""Rows of one task as an Arrow IPC stream in a file: what a cluster's workers leave for `collect`. No type is lost.

Parquet knows no second, no dictionary and no large string; these rows go on to somebody's DataFrame as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from kernelmill.engine.commit import PartFile
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.parquet_write import HashingFile


class ArrowWriter:
    """Write batches to one new file: as PartWriter, which has the same methods and errors, but for Arrow's format."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self.path, self._rows = path, 0
        with output_errors("making a file of rows", path):
            self._sink = HashingFile(path)
            sink: Any = self._sink
            try:
                self._writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema)
            except BaseException:  # the schema is written at once
                self._sink.discard()
                raise

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch. Raises KM0402 or KM0502."""
        with output_errors("writing rows", self.path):
            self._writer.write_batch(batch)
        self._rows += batch.num_rows

    def close(self) -> PartFile:
        """End the stream, make the file durable, and describe it under its base name."""
        with output_errors("finishing a file of rows", self.path):
            self._writer.close()
            self._sink.finish()
        return PartFile(os.path.basename(self.path), self._rows, self._sink.tell(), self._sink.checksum())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink.open:
            self._sink.discard()
            self._writer.close()


def read_rows(path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches of such a file, checked. Raises KM0605 for bytes that are no rows of this schema."""
    hint = "run the job again; look at the disk if it comes back"
    try:
        with open(path, "rb") as file, pa.ipc.open_stream(file) as reader:
            if not reader.schema.equals(schema):
                raise error(Code.CORRUPT_BLOCK, "a file of rows has other columns than the job", where=path, hint=hint)
            for batch in reader:
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError) as problem:
        what = f"a file of rows cannot be read: {problem}"
        raise error(Code.CORRUPT_BLOCK, what, where=path, hint=hint) from problem
