"""Steps that keep, number, or turn rows as they are, by what the task's blocks and the counts of all tasks say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import concatenated
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.distinct import thin_rows
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.io.context import Place
from kernelmill.engine.plan import rowsteps

Batches = Iterator[pa.RecordBatch]
Numbers = NDArray[np.int64]
_MIX = tuple(np.uint64(word) for word in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_ROUNDS = 6
_UNPIVOTED_MAX = 1 << 18  # rows that are made at once


class Beside(NamedTuple):
    """What a step may ask beside its rows: the task's number, the rows of its blocks, first inputs, all counts."""

    task: int
    rows: Callable[[], int]
    inputs: Callable[[int], Batches]
    counts: Callable[[], Sequence[pa.RecordBatch]]


def run_row_step(
    batches: Batches, step: rowsteps.RowStep, schema: pa.Schema, beside: Beside, context: TaskContext
) -> tuple[Batches, pa.Schema]:
    """The rows after `step`, and their columns, of rows of `schema`."""
    match step:
        case rowsteps.ReadInputs(count=count):
            return beside.inputs(count), schema
        case rowsteps.ThinRows():
            return thin_rows(batches, step, context), schema
        case rowsteps.CountRows():
            counts = pa.RecordBatch.from_arrays([pa.array([beside.rows()], pa.int64())], schema=rowsteps.COUNTED)
            return iter([counts]), rowsteps.COUNTED
        case rowsteps.GatherCounts():
            return iter([concatenated(list(batches))]), rowsteps.COUNTED
        case rowsteps.RowIndex(name=name, offset=offset):
            first, _ = place_of_rows(beside, step.counts)
            made = schema.insert(0, pa.field(name, pa.int64(), nullable=False))
            return _numbered(batches, first + offset, made, context), made
        case rowsteps.EveryRow(each=each, offset=offset):
            first, _ = place_of_rows(beside, step.counts)
            return _picked(batches, first, lambda n: (n >= offset) & ((n - offset) % each == 0), context), schema
        case rowsteps.LastRows(rows=rows):
            first, total = place_of_rows(beside, step.counts)
            return _picked(batches, first, lambda n: n >= total - rows, context), schema
        case rowsteps.SampleRows():
            first, total = place_of_rows(beside, step.counts)
            wanted = int(total * step.fraction) if step.rows is None else step.rows
            return _picked(batches, first, lambda n: shuffled(n, total, step.seed) < wanted, context), schema
        case rowsteps.Unpivot():
            return _unpivoted(batches, step, context), step.schema
        case rowsteps.AsSchema(schema=wanted):
            return (pa.RecordBatch.from_arrays(batch.columns, schema=wanted) for batch in batches), wanted
        case rowsteps.UniqueRows():
            raise error(Code.INTERNAL, "a step that reads blocks more than once was given rows")


def place_of_rows(beside: Beside, known: rowsteps.Counts) -> tuple[int, int]:
    """The number of the task's first row, and how many rows all tasks have."""
    if known is None:
        counts = np.concatenate([np.asarray(batch.column(0)) for batch in beside.counts()])
    else:
        counts = np.array(known, np.int64)
    return int(counts[: beside.task].sum()), int(counts.sum())


def to_equal_parts(
    batches: Batches, first: int, total: int, partitions: int, context: TaskContext
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Row r of `total` for partition r * partitions // total; the first row that comes is number `first`."""
    for batch in batches:
        context.check_cancelled()
        start = 0
        while start < batch.num_rows:
            part = (first + start) * partitions // total
            stop = min(batch.num_rows, -(-(part + 1) * total // partitions) - first)  # the next part's first row
            yield part, batch.slice(start, stop - start)
            start = stop
        first += batch.num_rows


def _numbered(batches: Batches, first: int, schema: pa.Schema, context: TaskContext) -> Batches:
    for batch in batches:
        context.check_cancelled()
        context.rows_from(context.take_place())
        numbers: Any = pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64))
        first += batch.num_rows
        yield pa.RecordBatch.from_arrays([numbers, *batch.columns], schema=schema)


def _picked(
    batches: Batches, first: int, test: Callable[[Numbers], NDArray[np.bool_]], context: TaskContext
) -> Batches:
    """The rows whose numbers pass a test; the first batch starts with number `first`."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        rows = np.flatnonzero(test(np.arange(first, first + batch.num_rows, dtype=np.int64)))
        first += batch.num_rows
        if rows.size:
            context.rows_from(_place_of_picked(place, rows))
            yield batch if rows.size == batch.num_rows else take_rows(batch, rows.astype(np.uint32))


def _place_of_picked(place: Place, rows: Numbers) -> Place:
    return lambda row: place(int(rows[row]))


def _place_of_turned(place: Place, width: int) -> Place:
    return lambda row: place(row // width)


def _place_from(place: Place, start: int) -> Place:
    return lambda row: place(start + row)


def shuffled(numbers: Numbers, total: int, seed: int) -> Numbers:
    """Where each number below `total` comes to stand when these are shuffled: as `seed` says, and one to one.

    A Feistel network (M. Luby, C. Rackoff, 1988) over the next power of four, its rounds splitmix64's mixing; what
    falls outside is put through it again (J. Black, P. Rogaway, 2002: cycle walking). So n rows of any total are drawn
    without a look at the others, and a row is drawn or not whatever the splits are.
    """
    half = np.uint64(max(1, (max(total - 1, 1).bit_length() + 1) // 2))
    keys = _mixed(np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed))
    places = numbers.astype(np.uint64)
    outside = np.arange(places.size)
    while outside.size:
        places[outside] = _permuted(places[outside], half, keys)
        outside = outside[places[outside] >= np.uint64(total)]
    return places.astype(np.int64)


def _permuted(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << half) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _unpivoted(batches: Batches, step: rowsteps.Unpivot, context: TaskContext) -> Batches:
    """Each row once for each column that is turned, in the order of rows, then of columns."""
    width = len(step.on)
    value = step.schema.field(len(step.index) + 1)
    names: Any = pa.array(step.on, pa.string())
    for batch, place in _pieces(batches, max(1, _UNPIVOTED_MAX // width), context):
        context.rows_from(_place_of_turned(place, width))
        rows = batch.num_rows
        columns = list(take_rows(batch.select(step.index), np.repeat(np.arange(rows), width).astype(np.uint32)).columns)
        columns.append(names.take(pa.array(np.tile(np.arange(width), rows))))
        turned = pa.concat_arrays([_cast(batch.column(name), value.type) for name in step.on])
        in_rows = np.arange(width * rows, dtype=np.uint32).reshape(width, rows).T.reshape(-1)
        values = pa.RecordBatch.from_arrays([turned], names=[value.name])
        columns += take_rows(values, in_rows).columns
        yield pa.RecordBatch.from_arrays(columns, schema=step.schema)


def _pieces(batches: Batches, rows_max: int, context: TaskContext) -> Iterator[tuple[pa.RecordBatch, Place]]:
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        for start in range(0, batch.num_rows, rows_max):
            yield batch.slice(start, rows_max), _place_from(place, start)


def _cast(column: Any, wanted: pa.DataType) -> Any:
    return column if column.type == wanted else column.cast(wanted, safe=not pa.types.is_floating(wanted))
