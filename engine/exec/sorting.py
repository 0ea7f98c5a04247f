"""Sort of result-sized data: all rows of a task in memory, or the first `limit` of them."""

from __future__ import annotations

from collections.abc import Iterator
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
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.exec.keys import KeyColumns
from kernelmill.engine.plan.physical import GatherGroups, Sort
from kernelmill.kernels.sorting import SortKey, argsort
from kernelmill.kernels.table import Groups, KeyTable

_COMPACT_ROWS = 1 << 18
_COPIES = 3  # the rows as they came, in one batch, and in order


def sort_rows(batches: Iterator[pa.RecordBatch], operator: Sort, context: TaskContext) -> Iterator[pa.RecordBatch]:
    """All rows in order, ties in the order in which they came; at most `limit` of them."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        context.check_cancelled()
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size * _COPIES > context.memory_bytes_max:
            what = f"a sort of more than {rows:,} rows ({size:,} bytes) does not fit the memory of this job"
            raise error(Code.MEMORY_LIMIT, what, hint="take top_k, sort fewer rows or columns, or raise memory=")
        if operator.limit is not None and rows > max(_COMPACT_ROWS, 2 * operator.limit):
            held = [_in_order(held, operator)]
            rows, size = held[0].num_rows, held[0].nbytes
    if held:
        yield _in_order(held, operator)


def gather_groups(
    batches: Iterator[pa.RecordBatch], operator: GatherGroups, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """All rows, those of one key side by side: keys as first seen, the rows of a key as they came."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        context.check_cancelled()
        held.append(batch)
        size += batch.nbytes
        if size * _COPIES > context.memory_bytes_max:
            what = f"a partition of more than {size:,} bytes of rows to group does not fit the memory of this job"
            raise error(Code.MEMORY_LIMIT, what, hint="raise partitions= or memory=")
    if not held:
        return
    batch = held[0] if len(held) == 1 else _concatenated(held)
    columns = [plain(batch.column(key)) for key in operator.keys]
    groups: Groups = np.empty(batch.num_rows, np.int32)
    fields = [pa.field(name, column.type) for name, column in zip(operator.keys, columns, strict=True)]
    with context.scratch.lend(KeyTable) as table:
        table.reset_unbounded(groups=batch.num_rows, key_bytes=size)
        KeyColumns(fields).group(table, columns, 0, groups)
    yield take_rows(batch, argsort([SortKey(groups)]))


def _in_order(held: list[pa.RecordBatch], operator: Sort) -> pa.RecordBatch:
    batch = held[0] if len(held) == 1 else _concatenated(held)
    keys = [
        _sort_key(plain(batch.column(name)), name, descending, nulls_last)
        for name, descending, nulls_last in operator.keys
    ]
    order = argsort(keys)
    return take_rows(batch, order if operator.limit is None else order[: operator.limit])


def _concatenated(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    try:
        return concatenated(held)
    except pa.ArrowInvalid as problem:  # int32 offsets end at 2 GiB
        rows = sum(batch.num_rows for batch in held)
        hint = "sort fewer rows or columns: filter or aggregate first, or take top_k"
        raise error(Code.MEMORY_LIMIT, f"{rows:,} rows to sort hold more than 2 GiB of text", hint=hint) from problem


def _sort_key(column: pa.Array[Any], name: str, descending: bool, nulls_last: bool) -> SortKey:
    if is_string_like(column.type):
        return SortKey(strings_view(column), validity_bytes(column), descending, nulls_last)
    if is_word_like(column.type):
        return SortKey(numbers_of(column), validity_bytes(column), descending, nulls_last)
    what = f"cannot sort by {name!r}: its type is {column.type}"
    raise error(Code.TYPE_MISMATCH, what, hint="cast it to a number, a date or a string first")
