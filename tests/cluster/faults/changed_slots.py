"""A worker's slot that is not what it should be: the changes of CHANGED_SLOTS are made before it serves.

The nursery of a changed worker imports this module, where others import `kernelmill.cluster.worker.process`.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import raw
from changes import SLOTS, struck, the_file, wrong_clock

from kernelmill.cluster.data import attemptfiles
from kernelmill.cluster.worker import process, slottask
from kernelmill.engine.commit import checksum_of


def _rows_become(spoiled: Callable[[Path], bytes]) -> None:
    """Put other bytes in the place of the file of rows that a task has made, and let its record be of them."""
    run_task = slottask.run_task

    def lying(task: Any, store: Any, context: Any, *more: Any) -> Any:
        result = run_task(task, store, context, *more)
        if result.part is None:
            return result
        path = Path(context.part_path)
        path.write_bytes(spoiled(path))
        struck()
        size, checksum = checksum_of(str(path))
        return result._replace(part=msgspec.structs.replace(result.part, bytes=size, checksum=checksum))

    slottask.run_task = lying


def pickled_rows() -> None:
    """Its rows are a pickle that makes CHANGED_FILE when somebody loads it."""
    _rows_become(lambda path: raw.pickle_that_marks(the_file()))


def extension_rows() -> None:
    """The types of its rows name extensions, one of which is the pickle of a class, as Arrow once loaded unasked."""

    def spoiled(path: Path) -> bytes:
        table = pa.ipc.open_stream(path.read_bytes()).read_all()
        told = {"ARROW:extension:name": "arrow.py_extension_type"}
        told["ARROW:extension:metadata"] = raw.pickle_that_marks(the_file()).decode("ascii")
        bool8 = pa.array([True] * len(table)).cast(pa.int8())
        fields = [field.with_metadata(told) for field in table.schema]
        fields[0] = pa.field(fields[0].name, pa.int8(), metadata={"ARROW:extension:name": "arrow.bool8"})
        columns = [bool8, *(column.combine_chunks() for column in table.columns[1:])]
        return _stream_of(pa.table(columns, schema=pa.schema(fields)))

    _rows_become(spoiled)


def offset_rows() -> None:
    """The offsets of a text in its rows lead out of the buffer."""

    def spoiled(path: Path) -> bytes:
        data = path.read_bytes()
        for batch in pa.ipc.open_stream(data):
            data = _with_wild_offsets(data, batch)
        return data

    _rows_become(spoiled)


def _stream_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _with_wild_offsets(data: bytes, batch: pa.RecordBatch) -> bytes:
    """A message that holds this batch, with a text in it that ends where no bytes are."""
    for column in batch.columns:
        if pa.types.is_string(column.type):
            offsets = pa.array(column.to_pylist(), column.type).buffers()[1].to_pybytes()[: 4 * len(column) + 4]
            assert offsets in data
            middle = 4 * (len(column) // 2)
            data = data.replace(offsets, offsets[:middle] + struct.pack("<i", 1 << 30) + offsets[middle + 4 :])
    return data


class _Wild(NamedTuple):
    """What encode_piece is given in the place of a batch."""

    batch: pa.RecordBatch

    @property
    def num_rows(self) -> int:
        return self.batch.num_rows

    def serialize(self) -> pa.Buffer:
        return pa.py_buffer(_with_wild_offsets(self.batch.serialize().to_pybytes(), self.batch))


def offset_blocks() -> None:
    """The offsets of the texts in all its shuffle blocks lead out of the buffer, under good checksums."""
    encode_piece = attemptfiles.encode_piece

    def lying(batches: Any) -> Any:
        struck()
        return encode_piece([_Wild(batch) for batch in batches])

    attemptfiles.encode_piece = lying


def extension_blocks() -> None:
    """The schema of its shuffle blocks names an extension whose class is a pickle, and has another column."""
    encode_index = attemptfiles.encode_index

    def lying(id_: Any, schema: bytes, blocks: Any) -> bytes:
        struck()
        told = {"ARROW:extension:name": "arrow.py_extension_type"}
        told["ARROW:extension:metadata"] = raw.pickle_that_marks(the_file()).decode("ascii")
        fields = [field.with_metadata(told) for field in pa.ipc.read_schema(pa.py_buffer(schema))]
        return encode_index(id_, pa.schema([*fields, pa.field("more", pa.int8())]).serialize().to_pybytes(), blocks)

    attemptfiles.encode_index = lying


CHANGES: dict[str, Callable[[], None]] = {
    "slot-" + one.__name__.replace("_", "-"): one
    for one in (wrong_clock, pickled_rows, extension_rows, offset_rows, offset_blocks, extension_blocks)
}


def main(link_handle: int, page_handle: int) -> None:
    """Be the slot."""
    for name in os.environ[SLOTS].split(","):
        CHANGES[name]()
    process.main(link_handle, page_handle)
