"""A file for what one task cannot hold: shuffle blocks, appended and read back by their places, without a name.

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
from kernelmill.engine.shuffle.block import decode_block, encode_block


class SpillPlace(NamedTuple):
    """Where a block lies in its file."""

    offset: int
    length: int


class SpillFile:
    """Blocks of one schema in `folder`; used by one thread. Close it, or use it in a `with`.

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
        for piece in encode_block(batches):
            size = len(piece)
            self._charged += size
            self._on_bytes(size)
            rest = memoryview(piece).cast("B")
            with output_errors("spilling rows of a task", self._folder):
                while rest:
                    rest = rest[os.pwrite(self._file.fileno(), rest, self.bytes + size - len(rest)) :]
            self.bytes += size
        return SpillPlace(began, self.bytes - began)

    def read(self, place: SpillPlace) -> list[pa.RecordBatch]:
        """The rows that lie there. Raises KM0605 if their bytes are not what was written."""
        where = f"a spill file in {self._folder}, byte {place.offset}"
        try:
            pieces = self._pieces(place)
        except OSError as problem:
            what = f"spilled rows cannot be read: {problem}"
            raise error(Code.CORRUPT_BLOCK, what, where=where, hint="check that disk; run again") from problem
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return decode_block(pa.py_buffer(data), self._schema, where=where)

    def _pieces(self, place: SpillPlace) -> list[bytes]:
        """What the system gives of a place: short of its length only at the end of the file."""
        pieces: list[bytes] = []
        at, end = place.offset, place.offset + place.length
        while at < end and (piece := os.pread(self._file.fileno(), end - at, at)):
            pieces.append(piece)
            at += len(piece)
        return pieces

    def close(self) -> None:
        """Give the disk back. Does nothing the second time."""
        self._file.close()
        charged, self._charged = self._charged, 0
        self._on_bytes(-charged)
