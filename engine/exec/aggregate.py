"""Aggregation on both sides of a shuffle: combine a task's rows into partial rows, merge partial rows into results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from kernelmill.engine.aggregates import opened
from kernelmill.engine.batch import concatenated, plain
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Placed
from kernelmill.engine.exec.groupstates import Grouping, MakeStates
from kernelmill.engine.exec.keys import Repeated
from kernelmill.engine.exec.listwords import WordRoom
from kernelmill.engine.exec.states import state_of
from kernelmill.engine.plan.partial import finished_schema, partial_schema, partial_width
from kernelmill.engine.plan.physical import MergeAggregate, PartialAggregate
from kernelmill.engine.remembering import remembered
from kernelmill.kernels.table import KeyTable

FLUSH_GROUPS = 1 << 20
FLUSH_KEY_BYTES = 64 << 20
FLUSH_ROWS = 1 << 31
FLUSH_LIST_BYTES = 32 << 20
"""A map task's table is flushed at these, fixed for all runs: an earlier flush would group float sums anew (I1).

The counts of partial rows are uint32: more rows might not fit. Lists of 32 MiB, not 64: the index of 300 MB of kernel
source took 3.1 CPU-seconds instead of 3.4, for less memory is touched.
"""

SINGLES_ROWS, SINGLES_SHARE = 100_000, 0.8
"""A task whose first so many rows have groups for more than that share of them looks no further row up: each becomes a
partial row of its own. Told from the split's rows alone, so it is the same in every run (I1)."""

MERGE_ROWS_MAX, MERGE_BYTES_MAX = 1 << 21, 128 << 20
MERGE_LIST_BYTES_MAX, MERGE_WORD_LIST_BYTES_MAX = 32 << 20, 64 << 20
"""A partition of more partial rows is merged in sub-partitions, one after the other: how many follows from its blocks
alone, never from free memory, for it decides the order of rows in the file (I1)."""

_SMALL_ROWS, _SMALL_BYTES, _JOINED_MAX = 1 << 10, 64 << 10, 256
"""Batches to merge that have less than these are put together, so many of them: at most 16 MiB."""


def _without_dictionaries(fields: list[pa.Field[Any]]) -> list[pa.Field[Any]]:
    return [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in fields]


@remembered
def _schemas(operator: PartialAggregate, input_schema: pa.Schema) -> tuple[pa.Schema, pa.Schema]:
    """The columns of partial rows as they are made, and of finished ones."""
    schema = partial_schema(operator.keys, operator.aggs, input_schema)
    results = finished_schema(operator.keys, operator.aggs, input_schema)
    return pa.schema(_without_dictionaries(list(schema))), results


def partial_aggregate(
    batches: Iterator[pa.RecordBatch],
    operator: PartialAggregate,
    input_schema: pa.Schema,
    context: TaskContext,
    partitions: int = 1,
) -> Iterator[pa.RecordBatch | Placed]:
    """Combine the rows of one task: yields partial rows, once at the end and at each flush.

    With several `partitions` they come in order of partition, where the key's kind allows that.
    """
    schema, results = _schemas(operator, input_schema)
    inputs = [list(agg.columns) for agg in operator.aggs]
    types = [[opened(input_schema.field(name).type) for name in names] for names in inputs]
    filtered = [agg.where is not None for agg in operator.aggs]
    with ExitStack() as lent:
        rooms = [
            lent.enter_context(context.scratch.lend(WordRoom)) if a.kind in ("list", "quantile") else None
            for a in operator.aggs
        ]
        states = [
            state_of(agg, results.field(agg.name).type, merging=False, room=room, inputs=of)
            for agg, room, of in zip(operator.aggs, rooms, types, strict=True)
        ]
        yield from combine_in_table(
            batches, operator.keys, inputs, lambda _: states, schema, context, partitions, filtered, may_stop=True
        )


def combine_in_table(
    batches: Iterator[Any],
    keys: tuple[str, ...],
    inputs: list[list[str]],
    make_states: MakeStates,
    schema: pa.Schema,
    context: TaskContext,
    partitions: int,
    filtered: Sequence[bool] = (),
    *,
    may_stop: bool = False,
) -> Iterator[pa.RecordBatch | Placed]:
    """Take rows into the states of their keys, each state reading its `inputs`; yields rows of `schema` at each flush.

    `schema` has the keys, then the columns of partial states. filtered: states that take only rows for which the last
    of their inputs is true. may_stop: where nearly every row is a group of its own, combine no further rows.
    """
    with context.scratch.lend(KeyTable) as table:
        table.reset(groups_max=FLUSH_GROUPS, key_bytes_max=FLUSH_KEY_BYTES)
        grouping = Grouping(table, [schema.field(key) for key in keys], make_states, filtered)
        rows, are_singles, is_told = 0, False, not (may_stop and keys)
        for batch in batches if is_told else _cut_once(batches, SINGLES_ROWS):
            context.check_cancelled()
            if are_singles and isinstance(batch, pa.RecordBatch):
                values = [[_plain(batch.column(name)) for name in names] for names in inputs]
                columns = grouping.singles([batch.column(key) for key in keys], values, batch.num_rows)
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
                continue
            rows += batch.num_rows
            if rows > FLUSH_ROWS:
                yield from _flush(grouping, schema, partitions)
                rows = batch.num_rows
            key_columns = [batch.column(key) for key in keys]
            values = [[_plain(batch.column(name)) for name in names] for names in inputs]
            for _ in grouping.add(key_columns, values, batch.num_rows):
                yield from _flush(grouping, schema, partitions)
            if grouping.list_bytes > FLUSH_LIST_BYTES:
                yield from _flush(grouping, schema, partitions)
                rows = 0
            if not is_told and rows >= SINGLES_ROWS:
                is_told, are_singles = True, len(grouping) > SINGLES_SHARE * rows
                if are_singles:
                    yield from _flush(grouping, schema, partitions)
                    rows = 0
        yield from _flush(grouping, schema, partitions)


def _cut_once(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """The same rows; the record batch that has row number `rows` is cut before it, for there something is told."""
    for batch in batches:
        if 0 < rows < batch.num_rows and isinstance(batch, pa.RecordBatch):
            yield batch.slice(0, rows)
            yield batch.slice(rows)
        else:
            yield batch
        rows -= batch.num_rows


def _plain(column: Any) -> Any:
    return column if isinstance(column, Repeated) else plain(column)


def _flush(grouping: Grouping, schema: pa.Schema, partitions: int) -> Iterator[pa.RecordBatch | Placed]:
    for first, last in grouping.pieces():
        placing = grouping.placing(first, last, partitions)
        if placing is None:
            grouping.settle()
            values = [column for state in grouping.states for column in state.partial(first, last)]
            yield pa.RecordBatch.from_arrays([*grouping.key_columns(first, last), *values], schema=schema)
        else:
            columns = grouping.placed(first, last, placing)
            yield Placed(pa.RecordBatch.from_arrays(columns, schema=schema), placing.bounds)
    grouping.clear()


def _joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, small batches that come one after the other as one: a look into the table costs as much as rows.

    Tables take rows one after the other, however they are cut.
    """
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        is_small = batch.num_rows < _SMALL_ROWS and batch.get_total_buffer_size() < _SMALL_BYTES
        if waiting and (not is_small or len(waiting) == _JOINED_MAX or rows >= _SMALL_ROWS):
            yield concatenated(waiting)
            waiting, rows = [], 0
        if is_small:
            waiting.append(batch)
            rows += batch.num_rows
        else:
            yield batch
    if waiting:
        yield concatenated(waiting)


def merge_aggregate(
    blocks: Iterator[pa.RecordBatch], rows: int, size: int, operator: MergeAggregate, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """Merge the partial rows of a partition in block order: yields finished rows in first-seen order.

    There are at most `rows` partial rows, of `size` bytes.
    """
    states = [state_of(agg, operator.schema.field(agg.name).type, merging=True) for agg in operator.aggs]
    widths = [partial_width(agg) for agg in operator.aggs]
    return merge_in_table(blocks, rows, size, operator.keys, widths, lambda _: states, operator.schema, context)


def merge_in_table(
    blocks: Iterator[pa.RecordBatch],
    rows: int,
    size: int,
    keys: tuple[str, ...],
    widths: list[int],
    make_states: MakeStates,
    schema: pa.Schema,
    context: TaskContext,
) -> Iterator[pa.RecordBatch]:
    """Merge partial rows, of so many columns for each state, in block order; yields finished rows of `schema`."""
    with context.scratch.lend(KeyTable) as table:
        # It grows if need be; a partition that is merged in pieces has more rows than any one of them sees.
        table.reset_unbounded(groups=min(rows, MERGE_ROWS_MAX), key_bytes=min(size, MERGE_BYTES_MAX))
        grouping = Grouping(table, [schema.field(key) for key in keys], make_states, keeps_keys=True)
        for batch in _joined(blocks):
            context.check_cancelled()
            columns, values, at = (
                batch.columns,
                [],
                len(keys),
            )  # a list that is made at each look: 10,000 of 10,000 once
            for width in widths:
                values.append(columns[at : at + width])
                at += width
            for _ in grouping.add(columns[: len(keys)], values, batch.num_rows):
                raise error(Code.INTERNAL, "a merge table asked for a flush")
            if grouping.list_bytes_made > context.memory_bytes_max:
                raise grouping.too_long(keys)
        for first, last in grouping.pieces():
            context.check_cancelled()
            columns = grouping.key_columns(first, last)
            columns += [column for state in grouping.states for column in state.finished(first, last)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
