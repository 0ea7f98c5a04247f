"""Aggregation on both sides of a shuffle: combine a task's rows into partial rows, merge partial rows into results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    Bytes,
    array_of_words,
    buffer_of,
    numbers_of,
    plain,
    validity_buffer,
    validity_bytes,
)
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Placed, partition_rows, take_columns
from kernelmill.engine.exec.keys import STRINGS_BYTES_MAX, KeyColumns
from kernelmill.engine.plan.partial import finished_schema, partial_schema
from kernelmill.engine.plan.physical import AggSpec, MergeAggregate, PartialAggregate
from kernelmill.kernels import combining
from kernelmill.kernels.orderedwords import ordered_words, values_of_words
from kernelmill.kernels.table import NO_MASK, Groups, KeyTable, Order

FLUSH_GROUPS = 1 << 20
FLUSH_KEY_BYTES = 64 << 20
FLUSH_ROWS = 1 << 31
"""A map task's table is flushed at these, fixed for all runs: an earlier flush would group float sums anew (I1).

The counts of partial rows are uint32: more rows might not fit.
"""

MERGE_ROWS_MAX, MERGE_BYTES_MAX = 1 << 21, 128 << 20
"""A partition of more partial rows is merged in sub-partitions, one after the other: how many follows from its blocks
alone, never from free memory, for it decides the order of rows in the file (I1)."""

OUTPUT_ROWS = 1 << 20
_NO_VALUES: NDArray[Any] = np.empty(0)


class _Dense:
    """A dense array by group number that grows with the groups; new entries are 0."""

    def __init__(self, dtype: Any) -> None:
        self.values: NDArray[Any] = np.zeros(1 << 10, dtype)

    def cover(self, groups: int) -> NDArray[Any]:
        """The array, made long enough for `groups`."""
        if groups > self.values.size:
            grown = np.zeros(max(groups, 2 * self.values.size), self.values.dtype)
            grown[: self.values.size] = self.values
            self.values = grown
        return self.values

    def clear(self, groups: int) -> None:
        """Zero the first `groups` entries."""
        self.values[:groups] = 0


Column = tuple[NDArray[Any], Bytes]
"""Values and one validity byte a row (empty: all valid)."""


class _State(Protocol):
    """The states of one aggregate for all groups."""

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """What `add` needs of the input columns, whole batch at once."""

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """Take rows of the input (partial side) or of partial rows (merge side) into the states."""

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """State columns of groups [first, last)."""

    def finished(self, first: int, last: int) -> pa.Array[Any]:
        """Result column of groups [first, last)."""

    def clear(self, groups: int) -> None:
        """Forget `groups` groups."""


def _fixed(values: NDArray[Any], dtype: pa.DataType, bits: pa.Buffer | None = None, nulls: int = 0) -> pa.Array[Any]:
    return pa.Array.from_buffers(dtype, len(values), [bits, buffer_of(np.ascontiguousarray(values))], nulls)


class _Count:
    """len and count: rows, or values that are not null."""

    def __init__(self, *, merging: bool) -> None:
        self._counts, self._merging = _Dense(np.int64), merging

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        if self._merging:
            return [(numbers_of(columns[0]).view(np.int64), NO_MASK)]
        return [(_NO_VALUES, validity_bytes(columns[0]) if columns else NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        values, validity = columns[0]
        if self._merging:
            combining.add_integers(groups, values, NO_MASK, self._counts.cover(used))
        else:
            combining.count_rows(groups, validity, self._counts.cover(used))

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [_fixed(self._counts.cover(last)[first:last].astype(np.uint32), pa.uint32())]

    def finished(self, first: int, last: int) -> pa.Array[Any]:
        return _fixed(self._counts.cover(last)[first:last].copy(), pa.int64())

    def clear(self, groups: int) -> None:
        self._counts.clear(min(groups, self._counts.values.size))


class _Sum:
    """Sums in row order; an integer sum that leaves 64 bits is KM0208, never a silent wrap."""

    def __init__(self, name: str, dtype: pa.DataType) -> None:
        self._name, self._type = name, dtype
        self._numpy = dtype.to_pandas_dtype()
        self._sums = _Dense(self._numpy)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        values = numbers_of(columns[0])
        return [(values.astype(self._numpy, copy=False), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        values, validity = columns[0]
        sums = self._sums.cover(used)
        if self._numpy == np.float64:
            combining.add_floats(groups, values, validity, sums)
            return
        add = combining.add_integers if self._numpy == np.int64 else combining.add_unsigned
        if add(groups, values, validity, sums) >= 0:
            hint = "cast the column to float64 before summing, if an approximate sum will do"
            raise error(Code.OVERFLOW, f"the sum {self._name!r} of a group leaves {self._type}", hint=hint)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [self.finished(first, last)]

    def finished(self, first: int, last: int) -> pa.Array[Any]:
        return _fixed(self._sums.cover(last)[first:last].copy(), self._type)

    def clear(self, groups: int) -> None:
        self._sums.clear(min(groups, self._sums.values.size))


class _Mean:
    """A float64 sum in row order and a count; null where nothing was counted."""

    def __init__(self, *, merging: bool) -> None:
        self._sums, self._counts, self._merging = _Dense(np.float64), _Dense(np.int64), merging

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        first = (numbers_of(columns[0]).astype(np.float64, copy=False), validity_bytes(columns[0]))
        return [first, (numbers_of(columns[1]).view(np.int64), NO_MASK)] if self._merging else [first]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        sums, counts = self._sums.cover(used), self._counts.cover(used)
        values, validity = columns[0]
        if self._merging:
            combining.add_floats(groups, values, NO_MASK, sums)
            combining.add_integers(groups, columns[1][0], NO_MASK, counts)
        else:
            combining.add_and_count(groups, values, validity, sums, counts)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        counts = self._counts.cover(last)[first:last].astype(np.uint32)
        return [_fixed(self._sums.cover(last)[first:last].copy(), pa.float64()), _fixed(counts, pa.uint32())]

    def finished(self, first: int, last: int) -> pa.Array[Any]:
        counts = self._counts.cover(last)[first:last]
        empty = counts == 0
        means = self._sums.cover(last)[first:last] / np.where(empty, 1, counts)
        nulls = int(np.count_nonzero(empty))
        return _fixed(means, pa.float64(), validity_buffer((~empty).view(np.uint8), nulls), nulls)

    def clear(self, groups: int) -> None:
        self._sums.clear(min(groups, self._sums.values.size))
        self._counts.clear(min(groups, self._counts.values.size))


class _Extreme:
    """min and max of fixed-width values: NaN is skipped, null where no value was seen."""

    def __init__(self, dtype: pa.DataType, *, largest: bool) -> None:
        self._type, self._largest = dtype, largest
        self._best, self._seen = _Dense(np.uint64), _Dense(np.uint8)
        self._numpy: Any = np.dtype(np.int64)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        numbers, validity = numbers_of(columns[0]), validity_bytes(columns[0])
        self._numpy = numbers.dtype
        if numbers.dtype == np.float64:
            nans = np.isnan(numbers)
            if nans.any():
                validity = np.where(nans, np.uint8(0), validity if validity.size else np.uint8(1)).astype(np.uint8)
        words = ordered_words(numbers)
        return [(~words if self._largest else words, validity)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        words, validity = columns[0]
        combining.keep_least(groups, words, validity, self._best.cover(used), self._seen.cover(used))

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [self.finished(first, last)]

    def finished(self, first: int, last: int) -> pa.Array[Any]:
        seen = self._seen.cover(last)[first:last].copy()
        best = self._best.cover(last)[first:last]
        values = values_of_words(~best if self._largest else best.copy(), self._numpy)
        nulls = int(len(seen) - np.count_nonzero(seen))
        return array_of_words(values.view(np.uint64), seen, nulls, self._type)

    def clear(self, groups: int) -> None:
        self._best.clear(min(groups, self._best.values.size))
        self._seen.clear(min(groups, self._seen.values.size))


def _state_of(agg: AggSpec, dtype: pa.DataType | None, *, merging: bool) -> _State:
    """The states of `agg`; `dtype` is the type of its result (sum, min, max)."""
    if agg.kind in ("len", "count"):
        return _Count(merging=merging)
    if agg.kind == "mean":
        return _Mean(merging=merging)
    assert dtype is not None
    if agg.kind == "sum":
        return _Sum(agg.name, dtype)
    return _Extreme(dtype, largest=agg.kind == "max")


class _Grouping:
    """A key table, its key columns and the aggregates' states: rows in, columns out."""

    def __init__(self, table: KeyTable, keys: list[pa.Field[Any]], states: list[_State]) -> None:
        self._table, self._states = table, states
        self._keys = KeyColumns(keys) if keys else None
        self._groups: Groups = np.empty(0, np.int32)
        self._used = 0 if keys else 1  # without keys there is one group, even of no rows

    def __len__(self) -> int:
        return self._used

    def add(
        self, key_columns: list[pa.Array[Any]], value_columns: list[list[pa.Array[Any]]], rows: int
    ) -> Iterator[None]:
        """Take the rows of a batch; yields whenever the table wants to be flushed and cleared before it goes on."""
        if self._groups.size < rows:
            self._groups = np.empty(rows, np.int32)
        views = [state.view(columns) for state, columns in zip(self._states, value_columns, strict=True)]
        done = 0
        while True:
            if self._keys is None:
                self._groups[:rows], upto = 0, rows
            else:
                upto = self._keys.group(self._table, key_columns, done, self._groups[:rows])
                self._used = len(self._table)
            groups = self._groups[done:upto]
            if groups.size:
                for state, columns in zip(self._states, views, strict=True):
                    state.add(groups, self._used, [_rows(column, done, upto) for column in columns])
            if upto == rows:
                return
            yield
            done = upto

    def key_columns(self, first: int, last: int) -> list[pa.Array[Any]]:
        """The keys of groups [first, last)."""
        return [] if self._keys is None else self._keys.columns(self._table, first, last)

    def placing(self, first: int, last: int, partitions: int) -> tuple[Order, NDArray[np.int64]] | None:
        """Groups [first, last) in order of partition, and the partitions' bounds; None if keys must be read first."""
        if partitions == 1 or self._keys is None or not self._keys.is_one_string:
            return None
        return partition_rows(self._table.string_hashes(first, last), partitions)

    def placed_keys(self, first: int, order: Order) -> list[pa.Array[Any]]:
        """The keys of groups first + order."""
        assert self._keys is not None
        return self._keys.placed_columns(self._table, first, order)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Ranges of groups whose keys stay below the size of one batch."""
        first = 0
        while first < self._used:
            last = self._table.cut(first, OUTPUT_ROWS, STRINGS_BYTES_MAX) if self._keys else self._used
            yield first, last
            first = last

    def clear(self) -> None:
        """Forget all groups."""
        for state in self._states:
            state.clear(self._used)
        self._table.clear()
        self._used = 0 if self._keys else 1
        if self._keys is not None:
            self._keys.forget()


def _rows(column: Column, first: int, last: int) -> Column:
    values, validity = column
    return values[first:last] if values.size else values, validity[first:last] if validity.size else validity


def _without_dictionaries(fields: list[pa.Field[Any]]) -> list[pa.Field[Any]]:
    return [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in fields]


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
    schema = partial_schema(operator.keys, operator.aggs, input_schema)
    schema = pa.schema(_without_dictionaries(list(schema)))
    results = finished_schema(operator.keys, operator.aggs, input_schema)
    states = [_state_of(agg, results.field(agg.name).type, merging=False) for agg in operator.aggs]
    with context.scratch.lend(KeyTable) as table:
        table.reset(groups_max=FLUSH_GROUPS, key_bytes_max=FLUSH_KEY_BYTES)
        grouping = _Grouping(table, [schema.field(key) for key in operator.keys], states)
        rows = 0
        for batch in batches:
            context.check_cancelled()
            rows += batch.num_rows
            if rows > FLUSH_ROWS:
                yield from _flush(grouping, states, schema, partitions)
                rows = batch.num_rows
            keys = [batch.column(key) for key in operator.keys]
            values = [[] if agg.column is None else [plain(batch.column(agg.column))] for agg in operator.aggs]
            for _ in grouping.add(keys, values, batch.num_rows):
                yield from _flush(grouping, states, schema, partitions)
        yield from _flush(grouping, states, schema, partitions)


def _flush(
    grouping: _Grouping, states: list[_State], schema: pa.Schema, partitions: int
) -> Iterator[pa.RecordBatch | Placed]:
    for first, last in grouping.pieces():
        values = [column for state in states for column in state.partial(first, last)]
        placing = grouping.placing(first, last, partitions)
        if placing is None:
            yield pa.RecordBatch.from_arrays([*grouping.key_columns(first, last), *values], schema=schema)
        else:
            order, bounds = placing
            columns = [*grouping.placed_keys(first, order), *take_columns(values, order)]
            yield Placed(pa.RecordBatch.from_arrays(columns, schema=schema), bounds)
    grouping.clear()


def merge_aggregate(
    blocks: Iterator[pa.RecordBatch], rows: int, size: int, operator: MergeAggregate, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """Merge the partial rows of a partition in block order: yields finished rows in first-seen order.

    There are at most `rows` partial rows, of `size` bytes.
    """
    states = [_state_of(agg, operator.schema.field(agg.name).type, merging=True) for agg in operator.aggs]
    with context.scratch.lend(KeyTable) as table:
        # It grows if need be; a partition that is merged in pieces has more rows than any one of them sees.
        table.reset_unbounded(groups=min(rows, MERGE_ROWS_MAX), key_bytes=min(size, MERGE_BYTES_MAX))
        grouping = _Grouping(table, [operator.schema.field(key) for key in operator.keys], states)
        for batch in blocks:
            context.check_cancelled()
            values, at = [], len(operator.keys)
            for agg in operator.aggs:
                width = 2 if agg.kind == "mean" else 1
                values.append(batch.columns[at : at + width])
                at += width
            for _ in grouping.add(batch.columns[: len(operator.keys)], values, batch.num_rows):
                raise error(Code.INTERNAL, "a merge table asked for a flush")
        for first, last in grouping.pieces():
            context.check_cancelled()
            columns = grouping.key_columns(first, last)
            columns += [state.finished(first, last) for state in states]
            yield pa.RecordBatch.from_arrays(columns, schema=operator.schema)
