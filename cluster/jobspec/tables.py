"""Tables of the client's memory as parts of a job: Arrow IPC streams of a bounded size, put together again in a slot.

Batches keep their number and rows, for splits name them by number; one that is large is cut over several streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from kernelmill.cluster.jobspec.parts import TablePart
from kernelmill.engine.caching import CachedRows
from kernelmill.engine.errors import Code, error
from kernelmill.engine.sizes import format_bytes
from kernelmill.engine.splits import SourceSplit

_PIECE_BYTES = 16 << 20


def pack_tables(
    tables: Mapping[str, Sequence[pa.RecordBatch]], cached: Mapping[str, CachedRows], memory_bytes: int
) -> tuple[tuple[TablePart, ...], list[bytes]]:
    """What there is of tables and cached rows, and the streams that hold them. Raises KM0401 above `memory_bytes`."""
    told: list[TablePart] = []
    pieces: list[bytes] = []
    left = memory_bytes
    for name, batches in tables.items():
        part, made = _pack(name, batches, None, left)
        told.append(part)
        pieces += made
        left -= sum(map(len, made))
    for name, source in cached.items():
        splits = [SourceSplit(name, number, value, size) for number, (value, size) in enumerate(source.sized_splits)]
        counts: list[int] = []
        part, made = _pack(name, _batches_of(source, splits, counts), counts, left)
        told.append(part)
        pieces += made
        left -= sum(map(len, made))
    return tuple(told), pieces


def _batches_of(source: CachedRows, splits: Sequence[SourceSplit], counts: list[int]) -> Iterator[pa.RecordBatch]:
    """The rows of all splits; `counts` gets how many batches each has."""
    for split in splits:
        counts.append(0)
        for batch in source.read(split):
            counts[-1] += 1
            yield batch


def _pack(
    name: str, batches: Iterable[pa.RecordBatch], counts: list[int] | None, bytes_max: int
) -> tuple[TablePart, list[bytes]]:
    pieces: list[bytes] = []
    rows: list[int] = []
    size = 0
    for batch in batches:
        rows.append(batch.num_rows)
        for piece in _cut(batch):
            pieces.append(_stream(piece))
            size += len(pieces[-1])
            if size > bytes_max:
                what = f"tables of this process are part of the job, and take more than {format_bytes(bytes_max)}"
                hint = "write them to files that the job reads, or raise memory="
                raise error(Code.MEMORY_LIMIT, what, hint=hint)
    return TablePart(name, len(pieces), tuple(rows), None if counts is None else tuple(counts)), pieces


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    count = max(1, -(-batch.nbytes // _PIECE_BYTES))
    step = max(1, -(-batch.num_rows // count))
    for start in range(0, max(1, batch.num_rows), step):
        yield batch.slice(start, step)


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def unpack_table(part: TablePart, pieces: Iterable[bytes]) -> tuple[pa.RecordBatch, ...]:
    """The batches of a table from its streams. Raises KM0607 for streams that do not add up to it."""
    slices = _slices(part, pieces)
    return tuple(_whole(part, rows, slices) for rows in part.rows)


def _slices(part: TablePart, pieces: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        try:
            with pa.ipc.open_stream(pa.py_buffer(piece)) as reader:
                for batch in reader:
                    batch.validate(full=True)
                    yield batch
        except (pa.ArrowException, OSError) as problem:
            raise error(Code.PROTOCOL, f"a job's table {part.name} cannot be read: {problem}") from problem


def _whole(part: TablePart, rows: int, slices: Iterator[pa.RecordBatch]) -> pa.RecordBatch:
    found = next(slices, None)
    held = [] if found is None else [found]
    while held and sum(one.num_rows for one in held) < rows and (found := next(slices, None)) is not None:
        held.append(found)
    if not held or sum(one.num_rows for one in held) != rows:
        raise error(Code.PROTOCOL, f"a job's table {part.name} has other rows than its plan says")
    if len(held) == 1:
        return held[0]
    columns = [pa.concat_arrays([one.column(place) for one in held]) for place in range(held[0].num_columns)]
    return pa.RecordBatch.from_arrays(columns, schema=held[0].schema)


class SentRows:
    """Cached rows of a client, in a slot. Satisfies `engine.sources.HeldSource`."""

    def __init__(self, part: TablePart, batches: Sequence[pa.RecordBatch]) -> None:
        self.label, self.input_bytes = "<cached>", sum(batch.nbytes for batch in batches)
        self._of_split: list[Sequence[pa.RecordBatch]] = []
        start = 0
        for count in part.split_batches or ():
            self._of_split.append(batches[start : start + count])
            start += count

    @property
    def sized_splits(self) -> Sequence[tuple[bytes, int]]:
        """A split for each task that made rows."""
        return [(str(n).encode(), sum(one.nbytes for one in rows)) for n, rows in enumerate(self._of_split)]

    def split_name(self, split: SourceSplit) -> str:
        """The rows of the task that made them, for people."""
        return f"<cached rows of task {split.number}>"

    def read(self, split: SourceSplit) -> Iterator[pa.RecordBatch]:
        """The rows of a split."""
        return iter(self._of_split[split.number])
