"""Joins: a build side in memory, its rows laid out by key, and probe rows that stream past it.

Pairs come in order of (probe row, build row), whatever the size of batches; see `kernels/joining`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import concatenated, is_string_like, strings_view
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Rows, RowSource, take_rows
from kernelmill.engine.exec.joinkeys import FirstSeen, number_keys
from kernelmill.engine.plan.physical import Join
from kernelmill.engine.pyvalues import python_values
from kernelmill.kernels import joining

T = TypeVar("T")

PAIRS_MAX = 1 << 17
"""Rows of a batch that a join makes."""
_TEXT_BYTES_MAX = 1 << 30  # of a column of such a batch: int32 offsets end at 2 GiB
BUILD_ROWS_MAX, BUILD_BYTES_MAX = 1 << 22, 192 << 20
"""A partition whose build side is larger is joined in sub-partitions: their number decides the order of rows (I1)."""
_HELD_BYTES_MAX = 1 << 30


class BuildSide:
    """The rows that probe rows are joined with, laid out by key. Nothing in it changes once it is made."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, step: Join, context: TaskContext) -> None:
        self.step = step
        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            context.check_cancelled()
            held.append(batch)
            size += batch.nbytes
            if size > _HELD_BYTES_MAX:
                raise _too_large(step, size)
        rows = self.rows = sum(batch.num_rows for batch in held)
        whole = concatenated(held) if held else pa.RecordBatch.from_pylist([], schema=schema)
        keys = [whole.column(name) for name in step.build_keys]
        self._finder, groups = number_keys(keys, rows, step.nulls_equal)
        self.starts = np.zeros(self._finder.groups + 1, np.int64)
        most = joining.count_groups(groups, self.starts[:-1])
        matching = int(self.starts[-2]) if self._finder.groups else 0
        self.starts[-1] = matching
        if step.unique_build and most > 1:
            joined = FirstSeen(step.nulls_equal).repeated(keys, rows)
            raise _repeated(step.build_keys, keys, joined or 0, step.build_name)
        self.is_unique = most <= 1
        self.row_of: NDArray[np.int32] = np.empty(0, np.int32)
        self.row_at: Rows = np.empty(0, np.uint32)
        if self.is_unique:
            self.row_of = np.full(self._finder.groups, joining.NO_GROUP, np.int32)
            joining.row_of_groups(groups, self.row_of)
        if not self.is_unique or step.how in ("semi", "anti"):
            self.row_at = np.empty(matching, np.uint32)
            joining.place_rows(groups, self.starts[:-1], self.row_at)
        self._lay_out(whole)

    def _lay_out(self, whole: pa.RecordBatch) -> None:
        """Make the output's columns ready to be gathered from, for left and full joins with a row of nulls behind."""
        names = [column.column for column in self.step.columns if column.from_build]
        self._sources = {name: RowSource(whole.column(name)) for name in names}
        self._texts = {name: _longest(whole.column(name)) for name in names}
        self._with_null: dict[str, RowSource] = {}
        if self.step.how in ("left", "full"):
            for name in names:
                column = whole.column(name)
                null = pa.nulls(1, column.type)
                self._with_null[name] = RowSource(pa.concat_arrays([column, null]))

    def find(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        """The groups of a probe batch's rows."""
        return self._finder.find([batch.column(name) for name in self.step.probe_keys], batch.num_rows)

    def take(self, name: str, rows: Rows, has_missing: bool) -> pa.Array[Any]:
        """Column `name` of these build rows; with `has_missing` the row number `rows` stands for nulls."""
        return (self._with_null if has_missing else self._sources)[name].take(rows)

    def text_bytes_max(self) -> int:
        """The bytes of the longest text that a build row has in an output column."""
        return max(self._texts.values(), default=0)


def join_rows(batches: Iterator[pa.RecordBatch], build: BuildSide, context: TaskContext) -> Iterator[pa.RecordBatch]:
    """Join the probe rows in `batches` with a build side; of a full join, last the build rows that nothing met."""
    step = build.step
    matched = np.zeros(build.rows + 1, np.uint8) if step.how == "full" else None
    seen = FirstSeen(step.nulls_equal) if step.unique_probe else None
    for batch in batches:
        context.check_cancelled()
        context.rows_from(None)
        if seen is not None:
            keys = [batch.column(name) for name in step.probe_keys]
            again = seen.repeated(keys, batch.num_rows)
            if again is not None:
                raise _repeated(step.probe_keys, keys, again, step.probe_name)
        if step.how in ("semi", "anti"):
            yield from _kept(batch, build)
        else:
            yield from _paired(batch, build, matched, context)
    if matched is not None:
        yield from _unmatched(build, matched)


def _kept(batch: pa.RecordBatch, build: BuildSide) -> Iterator[pa.RecordBatch]:
    """The rows of a semi join, which have a match, or of an anti join, which have none."""
    step, rows = build.step, np.empty(batch.num_rows, np.uint32)
    count = joining.rows_with(build.find(batch), build.starts, step.how == "semi", rows)
    if not count:
        return
    kept = batch.select([column.column for column in step.columns])
    if count < batch.num_rows:
        kept = take_rows(kept, rows[:count])
    yield pa.RecordBatch.from_arrays(kept.columns, schema=step.schema)


def _paired(
    batch: pa.RecordBatch, build: BuildSide, matched: NDArray[np.uint8] | None, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """The joined rows of a probe batch, at most PAIRS_MAX at a time."""
    probe = _ProbeRows(batch, build)
    longest = max(probe.text_bytes_max, build.text_bytes_max())
    room = min(PAIRS_MAX, max(1, _TEXT_BYTES_MAX // max(1, longest)))
    for probe_rows, build_rows in _pairs(build.find(batch), build, room):
        context.check_cancelled()
        if matched is not None:
            joining.mark_rows(build_rows, matched)
        has_missing = build.step.how in ("left", "full") and bool((build_rows == build.rows).any())
        columns = [
            build.take(column.column, build_rows, has_missing)
            if column.from_build
            else probe.take(column.column, probe_rows)
            for column in build.step.columns
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=build.step.schema)


def _pairs(groups: NDArray[np.int32], build: BuildSide, room: int) -> Iterator[tuple[Rows, Rows]]:
    """Numbers of probe and build rows that go together, `room` pairs at a time."""
    keeps_all = build.step.how in ("left", "full")
    if build.is_unique:
        probe_rows, build_rows = np.empty(groups.size, np.uint32), np.empty(groups.size, np.uint32)
        count = joining.pair_unique(groups, build.row_of, keeps_all, build.rows, probe_rows, build_rows)
        for first in range(0, count, room):
            yield probe_rows[first : min(first + room, count)], build_rows[first : min(first + room, count)]
        return
    place = np.zeros(2, np.int64)
    while place[0] < groups.size:
        probe_rows, build_rows = np.empty(room, np.uint32), np.empty(room, np.uint32)
        at = place, probe_rows, build_rows
        count = joining.pair_rows(groups, build.starts, build.row_at, keeps_all, build.rows, *at)
        if count:
            yield probe_rows[:count], build_rows[:count]


class _ProbeRows:
    """A probe batch to gather from; as it is where all of its rows are wanted once."""

    def __init__(self, batch: pa.RecordBatch, build: BuildSide) -> None:
        self._batch = batch
        self._names = [column.column for column in build.step.columns if not column.from_build]
        self._sources: dict[str, RowSource] = {}
        self._is_unique = build.is_unique
        self.text_bytes_max = max((_longest(batch.column(name)) for name in self._names), default=0)

    def take(self, name: str, rows: Rows) -> pa.Array[Any]:
        """Column `name` of these rows."""
        column = self._batch.column(name)
        if self._is_unique and rows.size == self._batch.num_rows:  # each once, in order
            return column
        if name not in self._sources:
            self._sources[name] = RowSource(column)
        return self._sources[name].take(rows)


def _unmatched(build: BuildSide, matched: NDArray[np.uint8]) -> Iterator[pa.RecordBatch]:
    """The build rows of a full join that no probe row met, in their order, beside nulls."""
    rows = np.flatnonzero(matched[: build.rows] == 0).astype(np.uint32)
    room = min(PAIRS_MAX, max(1, _TEXT_BYTES_MAX // max(1, build.text_bytes_max())))
    for first in range(0, rows.size, room):
        part = rows[first : first + room]
        columns = [
            build.take(column.column, part, False) if column.from_build else pa.nulls(part.size, field.type)
            for column, field in zip(build.step.columns, build.step.schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=build.step.schema)


def _longest(column: Any) -> int:
    """The bytes of the longest text in a column; 0 for other types."""
    if not len(column) or not is_string_like(column.type):
        return 0
    return int(np.diff(strings_view(column)[1]).max())


def _repeated(names: tuple[str, ...], keys: list[pa.Array[Any]], row: int, side: str) -> KernelmillError:
    key = {name: python_values(column.slice(row, 1))[0] for name, column in zip(names, keys, strict=True)}
    what = f"validate= says that each key is once on the {side} side of the join, and {key} is there again"
    return error(Code.KEY_REPEATED, what, hint="leave validate= out, or make the keys unique: group_by(...).agg(...)")


def _too_large(step: Join, size: int) -> KernelmillError:
    what = f"the {step.build_name} side of a join has more than {size:,} bytes in one task"
    hint = "raise partitions=, or swap the sides: the other one streams"
    return error(Code.MEMORY_LIMIT, what, hint=hint)


def join_pieces(build: list[tuple[int, int]], probe: list[tuple[int, int]], step: Join) -> int:
    """In how many sub-partitions a partition is joined, from rows and bytes of its blocks, never from free memory."""
    rows, size = (sum(counts) for counts in zip(*build, strict=True)) if build else (0, 0)
    if step.unique_probe:  # their keys are remembered
        rows = max(rows, sum(count for count, _ in probe))
    return max(-(-rows // BUILD_ROWS_MAX), -(-size // BUILD_BYTES_MAX), 1) if step.build_keys else 1


class SharedBuilds:
    """Build sides that all tasks of a stage read, made once in this process by the first that asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[tuple[int, int], threading.Lock] = {}
        self._made: dict[tuple[int, int], Any] = {}

    def get(self, stage: int, number: int, make: Callable[[], T]) -> T:
        """The build side of a stage's step, made by `make` if there is none yet; others wait for it."""
        place = stage, number
        with self._lock:
            lock = self._locks.setdefault(place, threading.Lock())
        with lock:
            if place not in self._made:
                self._made[place] = make()
            found: T = self._made[place]
            return found

    def drop(self, stage: int) -> None:
        """Forget those of a stage that is done."""
        with self._lock:
            for place in [place for place in self._made if place[0] == stage]:
                del self._made[place]
