"""A file for what one task cannot hold: pieces as those of shuffle blocks, appended and read back by place, no name.

The file has no name from its first moment on (O_TMPFILE, or unlinked at once), so nothing is left of it however the
task or the process ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error
from kernelmill.engine.shuffle.block import decode_piece, encode_piece


class SpillPlace(NamedTuple):
    """Where a piece lies in its file."""

    offset: int
    length: int


class SpillFile:
    """Pieces of one schema in `folder`; used by one thread. Close it, or use it in a `with`.

    on_bytes is told of bytes before they are written, and of all of them, negative, when the file is closed; it raises
    KM0402 where there are too many.
    """

    def __init__(self, folder: Path, schema: pa.Schema, on_bytes: Callable[[int], None]) -> None:
        self._folder, self._schema, self._on_bytes = str(folder), schema, on_bytes
        self._charged = 0
        self.bytes = 0
        with output_errors("spilling rows of a task", self._folder):
            self._file = tempfile.TemporaryFile(dir=folder, prefix="rows-", buffering=0)  # noqa: SIM115 - see close

    def __enter__(self) -> SpillFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, batches: Sequence[pa.RecordBatch]) -> SpillPlace:
        """Write rows behind those that are there; where they lie. Raises KM0402 for a full disk."""
        began = self.bytes
        for chunk in encode_piece(batches):
            size = len(chunk)
            self._charged += size
            self._on_bytes(size)
            rest = memoryview(chunk).cast("B")
            with output_errors("spilling rows of a task", self._folder):
                while rest:
                    rest = rest[os.pwrite(self._file.fileno(), rest, self.bytes + size - len(rest)) :]
            self.bytes += size
        return SpillPlace(began, self.bytes - began)

    def read(self, place: SpillPlace) -> list[pa.RecordBatch]:
        """The rows that lie there. Raises KM0605 if their bytes are not what was written."""
        where = f"a spill file in {self._folder}, byte {place.offset}"
        try:
            chunks = self._chunks(place)
        except OSError as problem:
            what = f"spilled rows cannot be read: {problem}"
            raise error(Code.CORRUPT_BLOCK, what, where=where, hint="check that disk; run again") from problem
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return decode_piece(pa.py_buffer(data), self._schema, where=where)

    def _chunks(self, place: SpillPlace) -> list[bytes]:
        """What the system gives of a place: short of its length only at the end of the file."""
        chunks: list[bytes] = []
        at, end = place.offset, place.offset + place.length
        while at < end and (chunk := os.pread(self._file.fileno(), end - at, at)):
            chunks.append(chunk)
            at += len(chunk)
        return chunks

    def close(self) -> None:
        """Give the disk back. Does nothing the second time."""
        self._file.close()
        charged, self._charged = self._charged, 0
        self._on_bytes(-charged)
