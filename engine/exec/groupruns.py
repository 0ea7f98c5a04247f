"""Groups as they come: rows whose equal keys stand side by side, in batches that may end within a group.

A group that ends in the batch where it began is cheap: all such groups of a batch are found at once. One that goes on
is an `OpenGroup`, of which one batch at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import concatenated, is_string_like, key_words, plain, validity_bytes
from kernelmill.engine.lazymodules import pc

Positions = NDArray[np.int64]


class GroupRuns(NamedTuple):
    """A batch and the runs of equal keys in it: run g has the rows [starts[g], ends[g]); there is at least one.

    continues: the first run is more of the last one of the batch before; goes_on: the next batch has more of the last.
    """

    batch: pa.RecordBatch
    starts: Positions
    ends: Positions
    continues: bool
    goes_on: bool

    def whole(self) -> GroupRuns | None:
        """The groups that begin and end in this batch, if there are any."""
        first, last = int(self.continues), len(self.starts) - int(self.goes_on)
        if first >= last:
            return None
        begin = int(self.starts[first])
        batch = self.batch.slice(begin, int(self.ends[last - 1]) - begin)
        return GroupRuns(batch, self.starts[first:last] - begin, self.ends[first:last] - begin, False, False)


def group_runs(batches: Iterator[pa.RecordBatch], keys: Sequence[str]) -> Iterator[GroupRuns]:
    """The runs of equal keys in each batch that has rows; it is one batch ahead, to know whether the last goes on."""
    held: GroupRuns | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        starts = group_starts([batch.column(key) for key in keys])
        ends = np.append(starts[1:], batch.num_rows).astype(np.int64)
        continues = held is not None and _is_one_group(held.batch, batch, keys)
        if held is not None:
            yield held._replace(goes_on=continues)
        held = GroupRuns(batch, starts, ends, continues, False)
    if held is not None:
        yield held


class OpenGroup:
    """The group that `first` ends with and that `runs`, the runs after it, go on with.

    Take `parts`, all or some or none, then `skip`. `rows` counts what was passed so far.
    """

    def __init__(self, first: GroupRuns, runs: Iterator[GroupRuns]) -> None:
        self._runs, self._last = runs, first
        self._tail: pa.RecordBatch | None = first.batch.slice(int(first.starts[-1]))
        self._goes_on = True
        self._problem: BaseException | None = None
        self.head = self._tail.slice(0, 1)
        self.rows = 0

    def parts(self) -> Iterator[pa.RecordBatch]:
        """The rows not taken yet, a batch at a time."""
        while (part := self._next()) is not None:
            self.rows += part.num_rows
            yield part

    def skip(self) -> GroupRuns:
        """Pass over what was not taken; the runs of the batch in which the group ended.

        Raises again what the source of the rows raised, for it may have come up in a user's function, which took it
        for its own.
        """
        for _ in self.parts():
            pass
        if self._problem is not None:
            raise self._problem
        return self._last

    def _next(self) -> pa.RecordBatch | None:
        part, self._tail = self._tail, None
        if part is not None or not self._goes_on:
            return part
        try:
            self._last = next(self._runs)
        except BaseException as problem:
            self._goes_on, self._problem = False, problem
            raise
        self._goes_on = self._last.goes_on and len(self._last.starts) == 1
        return self._last.batch.slice(0, int(self._last.ends[0]))


def group_starts(columns: Sequence[pa.Array[Any]]) -> Positions:
    """The first row of each run of equal keys. Nulls are equal, and so are NaNs, and 0.0 and -0.0."""
    rows = len(columns[0])
    is_start = np.zeros(rows, np.bool_)
    is_start[:1] = True
    for column in map(plain, columns):
        valid = validity_bytes(column)
        if is_string_like(column.type):
            unequal = pc.not_equal(column.slice(1), column.slice(0, max(0, rows - 1)))
            differs = np.asarray(unequal.fill_null(False))
        else:
            words = key_words(column)
            differs = words[1:] != words[:-1]
            if valid.size:
                differs = differs & (valid[1:] & valid[:-1]).astype(np.bool_)
        if valid.size:
            differs = differs | (valid[1:] != valid[:-1])
        is_start[1:] |= differs
    return np.flatnonzero(is_start)


def _is_one_group(before: pa.RecordBatch, after: pa.RecordBatch, keys: Sequence[str]) -> bool:
    """Whether the last row of one batch has the key of the first row of the next."""
    last, first = before.slice(before.num_rows - 1), after.slice(0, 1)
    pair = concatenated([last.select(list(keys)), first.select(list(keys))])
    return len(group_starts(pair.columns)) == 1
