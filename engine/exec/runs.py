"""Sorted runs on disk and their merge: a sort of any size in bounded memory (Knuth, TAOCP vol. 3, 5.4).

A merge holds one batch of each run. Rows that come no later than the last one held of every run that goes on are ready:
they are brought together in the order of runs and sorted, which is stable, as runs are in the order in which rows came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from kernelmill.engine.batch import concatenated
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.recut import recut
from kernelmill.engine.shuffle.spillfile import SpillFile, SpillPlace
from kernelmill.kernels.searching import SortedRows
from kernelmill.kernels.sorting import SortKey, argsort

RUNS_MAX = 16
"""Runs merged at once: with more, batches of each become small; data of 16 x 16 runs is written twice."""
_BATCH_BYTES_MAX = 4 << 20
_COPIES = 5  # of a batch of each run: as read, decoded, brought together, in order, and what waits to be cut

SortKeys = Callable[[pa.RecordBatch], list[SortKey]]
InOrder = Callable[[list[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class _Run(NamedTuple):
    file: SpillFile
    places: list[SpillPlace]


class SortedRuns:
    """Runs of one sort; `add` them in the order in which their rows came, then `merged` gives all rows in order.

    keys_of tells the sort keys of a batch; in_order sorts the rows of some batches, stable; memory_bytes_max is what a
    merge may hold.
    """

    def __init__(self, keys_of: SortKeys, in_order: InOrder, memory_bytes_max: int, context: TaskContext) -> None:
        self._keys_of, self._in_order, self._context = keys_of, in_order, context
        self._batch_bytes = max(1, min(_BATCH_BYTES_MAX, memory_bytes_max // (RUNS_MAX * _COPIES)))
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, rows: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        """Write sorted rows as the next run. Raises KM0402 for a full disk."""
        file = self._runs[-1].file if self._runs else self._context.spill_file(schema)
        self._runs.append(self._written(rows, file))

    def merged(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows in order; ties in the order of runs. The batches have no size that could be relied on."""
        while len(self._runs) > RUNS_MAX:
            self._merge_some(schema)
        yield from self._merge(self._runs)
        self._runs[0].file.close()
        self._runs[-1].file.close()

    def _merge_some(self, schema: pa.Schema) -> None:
        """One pass: merge neighbours until there are few enough, or all once."""
        file = self._context.spill_file(schema)
        merged: list[_Run] = []
        left = self._runs
        while left and len(merged) + len(left) > RUNS_MAX:
            count = min(RUNS_MAX, len(left), len(merged) + len(left) - RUNS_MAX + 1)
            group, left = left[:count], left[count:]
            merged.append(self._written(self._merge(group), file))
        kept = {id(run.file) for run in left}
        for old in {id(run.file): run.file for run in self._runs}.values():
            if id(old) not in kept:
                old.close()
        self._runs = merged + left

    def _written(self, rows: Iterator[pa.RecordBatch], file: SpillFile) -> _Run:
        places = []
        for batch in recut(rows, bytes_max=self._batch_bytes):
            self._context.check_cancelled()
            places.append(file.append([batch]))
        return _Run(file, places)

    def _merge(self, runs: Sequence[_Run]) -> Iterator[pa.RecordBatch]:
        cursors = [_Cursor(run, self._keys_of) for run in runs]
        while cursors := [cursor for cursor in cursors if cursor.is_filled()]:
            self._context.check_cancelled()
            ready = _ready(cursors, self._keys_of)
            if len(ready) > 1:
                yield from self._in_order(ready)
            else:
                yield ready[0]


class _Cursor:
    """A run that is being merged: the batch that is held of it, and the row of it that comes next."""

    def __init__(self, run: _Run, keys_of: SortKeys) -> None:
        self._file, self._places, self._keys_of = run.file, iter(run.places), keys_of
        self._left = len(run.places)
        self._next = self._rows = 0

    @property
    def goes_on(self) -> bool:
        """Whether the run has rows that are not held."""
        return self._left > 0

    @property
    def last(self) -> pa.RecordBatch:
        """The last row that is held."""
        return self._batch.slice(self._rows - 1, 1)

    def is_filled(self) -> bool:
        """Read on where no row is left; whether there is one then."""
        if self._next == self._rows and self._left:
            (self._batch,) = self._file.read(next(self._places))
            self._sorted = SortedRows(self._keys_of(self._batch))
            self._left -= 1
            self._next, self._rows = 0, self._batch.num_rows
        return self._next < self._rows

    def take_before(self, limit: Sequence[SortKey], *, and_equal: bool) -> pa.RecordBatch:
        """The next rows that come before the row `limit`, and those that equal it if so told."""
        before, up_to = self._sorted.bounds_of(limit)
        return self._take(int((up_to if and_equal else before)[0]))

    def take_all(self) -> pa.RecordBatch:
        """All rows that are held."""
        return self._take(self._rows)

    def _take(self, stop: int) -> pa.RecordBatch:
        taken = self._batch.slice(self._next, max(0, stop - self._next))
        self._next = max(self._next, stop)
        return taken


def _ready(cursors: Sequence[_Cursor], keys_of: SortKeys) -> list[pa.RecordBatch]:
    """Take from each run what no row that is not held can come before: never nothing, each time a run's whole batch."""
    going_on = [number for number, cursor in enumerate(cursors) if cursor.goes_on]
    if not going_on:
        return [cursor.take_all() for cursor in cursors]
    lasts = concatenated([cursors[number].last for number in going_on])
    least = int(argsort(keys_of(lasts))[0])
    holder, limit = going_on[least], keys_of(lasts.slice(least, 1))
    # The first of the runs that end least may go on with rows like its last one: these come before those of later runs.
    parts = [cursor.take_before(limit, and_equal=number <= holder) for number, cursor in enumerate(cursors)]
    return [part for part in parts if part.num_rows]
