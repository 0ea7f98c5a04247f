"""Rows that are unique by their keys: the first, the last, or those whose keys no other row has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import is_word_like, plain
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.exec.keys import KeyColumns
from kernelmill.engine.plan.rowsteps import ThinRows, UniqueRows
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.taskblocks import TaskBlocks
from kernelmill.kernels.table import Groups, KeyTable

CHUNK_ROWS = 1 << 16
THIN_GROUPS_MAX, THIN_KEY_BYTES_MAX = 1 << 20, 64 << 20
"""A map task forgets its keys at these. It looks each time CHUNK_ROWS rows have come: where batches end must not decide
which rows travel, for how many travel decides the order in which they are merged (I1)."""

SHARE_ROWS_MAX, SHARE_BYTES_MAX = 1 << 21, 128 << 20
"""A partition with more rows, or with keys of text and more bytes, is read once for each share of its keys."""

_TRIED_ROWS = 2 * CHUNK_ROWS
_WORTH = 0.75  # of the tried rows: where more of them are kept, the table costs more than the rows it saves

Batches = Iterator[pa.RecordBatch]
Share = Callable[[pa.RecordBatch, tuple[str, ...], int, int], pa.RecordBatch]
"""Gives the rows of a batch whose keys belong to a share, of so many."""
Reading = Callable[[], Batches]
"""Reads the rows of a task from the first again."""


class _Numbers:
    """Numbers the keys of batches as they come, in a table without bounds."""

    def __init__(self, table: KeyTable, names: tuple[str, ...]) -> None:
        self._table, self._names = table, names
        self._columns: KeyColumns | None = None
        self._groups: Groups = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._table)

    def reset(self) -> None:
        """Forget all keys."""
        self._table.reset_unbounded(groups=CHUNK_ROWS, key_bytes=0)
        self._columns = None

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

    def of(self, batch: pa.RecordBatch) -> Groups:
        """The number of each row's key; good until the next batch."""
        columns = [plain(batch.column(name)) for name in self._names]
        if self._columns is None:
            fields = [pa.field(name, column.type) for name, column in zip(self._names, columns, strict=True)]
            self._columns = KeyColumns(fields)
        if self._groups.size < batch.num_rows:
            self._groups = np.empty(batch.num_rows, np.int32)
        groups = self._groups[: batch.num_rows]
        self._columns.group(self._table, columns, 0, groups)
        return groups


def thin_rows(batches: Batches, step: ThinRows, context: TaskContext) -> Batches:
    """Rows without those that a look at some million earlier keys shows to be repeated; all, where few are."""
    with context.scratch.lend(KeyTable) as table:
        numbers = _Numbers(table, step.keys)
        numbers.reset()
        seen = kept = 0
        for batch in _cut_at_chunks(batches):
            context.check_cancelled()
            if seen >= _TRIED_ROWS and kept > _WORTH * _TRIED_ROWS:
                yield batch
                continue
            rows = _first_rows(numbers, batch)
            kept += rows.size if seen < _TRIED_ROWS else 0
            seen += batch.num_rows
            if rows.size:
                yield batch if rows.size == batch.num_rows else take_rows(batch, rows)
            is_full = len(numbers) > THIN_GROUPS_MAX or numbers.nbytes > THIN_KEY_BYTES_MAX
            if is_full and seen % CHUNK_ROWS == 0:
                numbers.reset()


def unique_rows(
    store: TaskBlocks, refs: Sequence[BlockRef], step: UniqueRows, share: Share, context: TaskContext
) -> Batches:
    """The rows to keep of those in the blocks `refs`: in their order, or, of many rows, share by share of the keys."""
    sizes = store.rows(iter(refs))
    rows, size = sum(n for n, _ in sizes), sum(b for _, b in sizes)
    schema = store.schema(refs[0])
    if all(is_word_like(schema.field(key).type) for key in step.keys):
        size = 0  # a key then takes what a row of the table does, however long the rows are
    pieces = max(-(-rows // SHARE_ROWS_MAX), -(-size // SHARE_BYTES_MAX), 1)
    for piece in range(pieces):

        def read(piece: int = piece) -> Batches:
            for batch in (batch for ref in refs for batch in store.read(ref)):
                context.check_cancelled()
                yield batch if pieces == 1 else share(batch, step.keys, piece, pieces)

        yield from _unique(read, step, context)


def _unique(read: Reading, step: UniqueRows, context: TaskContext) -> Batches:
    with context.scratch.lend(KeyTable) as table:
        numbers = _Numbers(table, step.keys)
        numbers.reset()
        if step.keep == "first":
            for batch in read():
                first = _first_rows(numbers, batch)
                if first.size:
                    yield take_rows(batch, first)
            return
        is_kept = _is_kept(read, numbers, step.keep)
    start = 0
    for batch in read():
        here = np.flatnonzero(is_kept[start : start + batch.num_rows]).astype(np.uint32)
        start += batch.num_rows
        if here.size:
            yield take_rows(batch, here)


def _first_rows(numbers: _Numbers, batch: pa.RecordBatch) -> NDArray[np.uint32]:
    """The rows of a batch whose keys no row had before, in order."""
    known = len(numbers)
    groups = numbers.of(batch)
    fresh = np.flatnonzero(groups >= known)
    _, first = np.unique(groups[fresh], return_index=True)  # numbers rise in the order in which keys are seen
    return fresh[first].astype(np.uint32)


def _is_kept(read: Reading, numbers: _Numbers, keep: str) -> NDArray[np.bool_]:
    """Whether to keep each row: the last of its key, or, if `keep` is none, the only one."""
    last, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    start = 0
    for batch in read():
        groups = numbers.of(batch)
        if len(numbers) > last.size:
            last, counts = (_grown(array, 2 * len(numbers)) for array in (last, counts))
        last[groups] = np.arange(start, start + groups.size)  # of equal places numpy leaves the last value
        if keep == "none":
            counts += np.bincount(groups, minlength=counts.size)
        start += groups.size
    kept = last[: len(numbers)]
    is_kept = np.zeros(start, np.bool_)
    is_kept[kept[counts[: len(numbers)] == 1] if keep == "none" else kept] = True
    return is_kept


def _grown(array: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    grown = np.zeros(size, np.int64)
    grown[: array.size] = array
    return grown


def _cut_at_chunks(batches: Batches) -> Batches:
    """The same rows, in batches of which none goes over a multiple of CHUNK_ROWS."""
    seen = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            rows = min(batch.num_rows - start, CHUNK_ROWS - seen % CHUNK_ROWS)
            yield batch.slice(start, rows)
            start, seen = start + rows, seen + rows
