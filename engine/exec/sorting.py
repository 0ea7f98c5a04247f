"""Sort of a task's rows, of all or the first `limit`, and rows of one key side by side: in memory, or by spilled runs.

What fits is sorted at once. Else each time the memory is full a sorted run is written, and the runs are merged. The
rows come out the same, and in the same batches (I1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import (
    concatenated,
    is_string_like,
    is_word_like,
    numbers_of,
    plain,
    strings_view,
    validity_bytes,
)
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.across import Across, SortedBatch, held_bytes
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.exec.groupruns import group_runs
from kernelmill.engine.exec.keys import KeyColumns, turned
from kernelmill.engine.exec.recut import BATCH_ROWS_MAX, recut
from kernelmill.engine.exec.reused import Reused
from kernelmill.engine.exec.runs import SortedRuns
from kernelmill.engine.io.parquet_write import ROW_GROUP_BYTES_MAX
from kernelmill.engine.io.rowbytes import row_bytes
from kernelmill.engine.plan.physical import GatherGroups, Sort
from kernelmill.kernels.sorting import Order, SortKey, argsort
from kernelmill.kernels.table import Groups, KeyTable

_COMPACT_ROWS = 1 << 18
_ORDER_BYTES = 32  # of a row while it is sorted: its word and its number twice; later where its values lie
_PIECES = 4  # what comes in at once is a small part of what is held
_HELD_BYTES_MAX = 1 << 30  # a column of text ends at 2 GiB
_HELD_ROWS_MAX = 1 << 31  # row numbers are uint32
_GROUP_COPIES, _GROUP_BYTES = 4, 48  # with the table of keys

Keys = Sequence[tuple[str, bool, bool]]


def sort_rows(
    batches: Iterator[SortedBatch],
    operator: Sort,
    context: TaskContext,
    memory_bytes_max: int | None = None,
    group_rows: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """All rows in order, ties in the order in which they came; at most `limit` of them.

    Holds up to `memory_bytes_max`, by default the task's; beyond it sorted runs are spilled. group_rows: rows of a row
    group at most, given where the rows go to a file: its writer cuts them itself, so batches are cut in any way, best
    as row groups are. Raises KM0402 where the disk for runs is full.
    """
    allowed = context.memory_bytes_max if memory_bytes_max is None else memory_bytes_max
    made = _limited(_sorted_in_reused(batches, operator, context, allowed, group_rows), operator.limit)
    return recut(made) if group_rows is None else made


def _sorted_in_reused(
    batches: Iterator[SortedBatch],
    operator: Sort,
    context: TaskContext,
    memory_bytes_max: int,
    group_rows: int | None,
) -> Iterator[pa.RecordBatch]:
    with context.scratch.lend(Reused) as reused:
        yield from _sorted(batches, operator, context, memory_bytes_max, group_rows, reused)


def _sorted(
    batches: Iterator[SortedBatch],
    operator: Sort,
    context: TaskContext,
    memory_bytes_max: int,
    group_rows: int | None,
    reused: Reused,
) -> Iterator[pa.RecordBatch]:
    keys_of = partial(sort_keys, keys=operator.keys)
    in_order = partial(_in_order, operator=operator, reused=reused)
    runs = SortedRuns(keys_of, in_order, memory_bytes_max, context)
    held: list[SortedBatch] = []
    rows = size = 0
    for batch in _pieces(batches, memory_bytes_max // _PIECES):
        context.check_cancelled()
        if held and not _fits(rows + batch.num_rows, size + held_bytes(batch), memory_bytes_max):
            runs.add(in_order(held), batch.schema)
            held, rows, size = [], 0, 0
        held.append(batch)
        rows, size = rows + batch.num_rows, size + held_bytes(batch)
        if operator.limit is not None and rows > max(_COMPACT_ROWS, 2 * operator.limit):
            held = list(in_order(held))
            rows, size = sum(one.num_rows for one in held), sum(map(held_bytes, held))
    if not held:
        return
    schema = held[0].schema
    if not len(runs):
        # Slices of one batch, which nobody need bring together: of all rows, or of a row group and the one before it.
        each = rows if group_rows is None else _rows_of_a_group(schema, rows, group_rows)
        has_room = _fits(rows, size + min(size, 2 * size * each // rows), memory_bytes_max)
        yield from _in_order(held, operator, reused, each if has_room else BATCH_ROWS_MAX)
        return
    runs.add(in_order(held), schema)
    yield from runs.merged(schema)


def _rows_of_a_group(schema: pa.Schema, rows: int, group_rows: int) -> int:
    """As many rows as a row group takes of them, where that is told by their number: else all."""
    each = row_bytes(schema)
    return min(rows, group_rows, max(1, ROW_GROUP_BYTES_MAX // each)) if each else rows


def _fits(rows: int, size: int, memory_bytes_max: int) -> bool:
    if size > _HELD_BYTES_MAX or rows > _HELD_ROWS_MAX:
        return False
    return size + rows * _ORDER_BYTES <= memory_bytes_max


def _pieces(batches: Iterator[SortedBatch], bytes_max: int) -> Iterator[SortedBatch]:
    """Batches that are no larger, as far as rows of one size make it so; none without rows."""
    for batch in batches:
        count = -(-batch.nbytes // max(1, min(bytes_max, _HELD_BYTES_MAX)))
        rows = max(1, -(-batch.num_rows // max(1, count)))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _limited(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    if limit is None:
        yield from batches
        return
    left = limit
    for batch in batches:
        yield batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


def gather_groups(
    batches: Iterator[pa.RecordBatch], operator: GatherGroups, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """All rows, those of one key side by side: keys as first seen, the rows of a key as they came.

    What does not fit the memory is sorted by key, then by where each key was first seen. Raises KM0402 as a sort does.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        context.check_cancelled()
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size > _HELD_BYTES_MAX or size * _GROUP_COPIES + rows * _GROUP_BYTES > context.memory_bytes_max:
            rest = itertools.chain(_emptied(held), batches)
            yield from recut(_gathered_by_sorting(rest, held[0].schema, operator.keys, context))
            return
    if held:
        yield from recut(_gathered_in_memory(held, size, operator, context))


def _emptied(held: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What is held, forgotten as it is taken."""
    held.reverse()
    while held:
        yield held.pop()


def _gathered_in_memory(
    held: list[pa.RecordBatch], size: int, operator: GatherGroups, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    batch = held[0] if len(held) == 1 else concatenated(held)
    columns = [plain(batch.column(key)) for key in operator.keys]
    groups: Groups = np.empty(batch.num_rows, np.int32)
    fields = [pa.field(name, column.type) for name, column in zip(operator.keys, columns, strict=True)]
    with context.scratch.lend(KeyTable) as table:
        table.reset_unbounded(groups=batch.num_rows, key_bytes=size)
        KeyColumns(fields).group(table, columns, 0, groups)
    yield take_rows(batch, argsort([SortKey(groups)]))


def _gathered_by_sorting(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, keys: Sequence[str], context: TaskContext
) -> Iterator[pa.RecordBatch]:
    number = "row"
    while number in schema.names:
        number += "'"
    numbered = schema.append(pa.field(number, pa.int64()))
    half = context.memory_bytes_max // 2  # one sort takes rows in while the other merges
    by_key = Sort(tuple((key, False, False) for key in keys))
    side_by_side = sort_rows(_numbered(batches, numbered), by_key, context, half)
    seen = _first_seen(side_by_side, keys)
    for batch in sort_rows(seen, Sort(((number, False, False),)), context, half):
        yield pa.RecordBatch.from_arrays(batch.columns[:-1], schema=schema)


def _numbered(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Each row with its number as the last column."""
    first = 0
    for batch in batches:
        numbers: Any = pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64))
        yield pa.RecordBatch.from_arrays([*batch.columns, numbers], schema=schema)
        first += batch.num_rows


def _first_seen(batches: Iterator[pa.RecordBatch], keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Each row with the number of the first row of its key, instead of its own; rows of a key are side by side."""
    seen = 0
    for run in group_runs(batches, keys):
        firsts = np.asarray(run.batch.columns[-1])[run.starts]
        if run.continues:
            firsts[0] = seen
        seen = int(firsts[-1])
        numbers: Any = pa.array(np.repeat(firsts, run.ends - run.starts))
        yield pa.RecordBatch.from_arrays([*run.batch.columns[:-1], numbers], schema=run.batch.schema)


def sort_keys(batch: pa.RecordBatch, keys: Keys) -> list[SortKey]:
    """The columns to sort by, as kernels take them. Raises KM0102 for a type without an order."""
    return [_sort_key(turned(plain(batch.column(name))), name, down, last) for name, down, last in keys]


def _in_order(
    held: list[SortedBatch], operator: Sort, reused: Reused, rows_max: int = BATCH_ROWS_MAX
) -> Iterator[pa.RecordBatch]:
    """The rows of batches, in order, up to `rows_max` at a time; `held` is emptied."""
    order = _order_of(held, operator)
    rows = Across(held, reused)
    held.clear()
    for start in range(0, order.size, rows_max):
        yield rows.take(order[start : start + rows_max])


def _order_of(held: list[SortedBatch], operator: Sort) -> Order:
    """Numbers of rows in order; only keys are brought together for it."""
    names = list(dict.fromkeys(name for name, _, _ in operator.keys))
    parts = [batch.select(names) for batch in held]
    keys = parts[0] if len(parts) == 1 else concatenated(parts)
    return argsort(sort_keys(keys, operator.keys))[: operator.limit]


def _sort_key(column: pa.Array[Any], name: str, descending: bool, nulls_last: bool) -> SortKey:
    if is_string_like(column.type):
        return SortKey(strings_view(column), validity_bytes(column), descending, nulls_last)
    if is_word_like(column.type):
        return SortKey(numbers_of(column), validity_bytes(column), descending, nulls_last)
    what = f"cannot sort by {name!r}: its type is {column.type}"
    raise error(Code.TYPE_MISMATCH, what, hint="cast it to a number, a date or a string first")
