"""The row-wise steps of a pipeline: each takes the batches before it and gives the batches after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernelmill.engine.batch import validity_bytes
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.evaluate import evaluate, split_bad_rows
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.exec.tokens import tokenize
from kernelmill.engine.io.context import Reject
from kernelmill.engine.plan import physical
from kernelmill.engine.typing import type_of

Batches = Iterator[pa.RecordBatch]
_RECORD_BYTES_MAX = 64 << 10


def projected(operator: physical.Project, schema: pa.Schema) -> pa.Schema:
    """The columns that a projection makes of rows of `schema`."""
    return pa.schema([type_of(column.node, schema).with_name(column.name) for column in operator.columns])


def exploded(name: str, schema: pa.Schema) -> pa.Schema:
    """`schema` with the list column `name` replaced by its elements."""
    at = schema.get_field_index(name)
    return schema.set(at, pa.field(name, schema.field(at).type.value_type))


def tokens_exploded(operator: physical.TokenizeExplode, schema: pa.Schema) -> pa.Schema:
    """The columns of `explode_tokens`, in the order of operator.names."""
    fields = {column.name: type_of(column.node, schema).with_name(column.name) for column in operator.others}
    fields[operator.name] = pa.field(operator.name, type_of(operator.tokens, schema).type.value_type)
    return pa.schema([fields[name] for name in operator.names])


def filter_rows(batches: Batches, operator: physical.Filter, context: TaskContext) -> Batches:
    """Keep the rows for which the predicate is true."""
    for batch in batches:
        context.check_cancelled()
        for kept in rowwise(batch, lambda rows: _kept(rows, operator), context):
            if kept.num_rows:
                yield kept


def _kept(rows: pa.RecordBatch, operator: physical.Filter) -> pa.RecordBatch:
    return rows.filter(evaluate(operator.predicate, rows, tokenize=tokenize), null_selection_behavior="drop")


def project(batches: Batches, operator: physical.Project, schema: pa.Schema, context: TaskContext) -> Batches:
    """Compute the columns of `schema`."""
    for batch in batches:
        context.check_cancelled()
        yield from rowwise(batch, lambda rows: _computed(rows, operator, schema), context)


def _computed(rows: pa.RecordBatch, operator: physical.Project, schema: pa.Schema) -> pa.RecordBatch:
    columns = [evaluate(column.node, rows, tokenize=tokenize) for column in operator.columns]
    typed = [c if c.type == f.type else c.cast(f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=schema)


def rowwise(
    batch: pa.RecordBatch, work: Callable[[pa.RecordBatch], pa.RecordBatch], context: TaskContext
) -> list[pa.RecordBatch]:
    """The results of row-wise `work`; with on_bad="reject", rows with a value that does not fit go to the rejects.

    A row has no byte offset any more: its reject has the file(s) the task read, the row's number in its batch, and the
    row as JSON.
    """
    if context.on_bad != "reject":
        return [work(batch)]
    good, bad = split_bad_rows(batch, work)
    for row, problem in bad:
        record = json.dumps(batch.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False).encode()
        context.reject(Reject(context.origin, row, None, record[:_RECORD_BYTES_MAX], problem.what, str(problem.code)))
    return good


def explode(batches: Batches, operator: physical.Explode, schema: pa.Schema, context: TaskContext) -> Batches:
    """Give each element of a list a row; the other columns are repeated beside it."""
    for batch in batches:
        context.check_cancelled()
        lists = batch.column(operator.column)
        lengths = np.asarray(pc.list_value_length(lists).fill_null(0)).astype(np.int64)
        valid = validity_bytes(lists)
        is_null = valid == 0 if valid.size else np.zeros(len(lists), bool)
        lone = is_null if operator.keep_nulls else np.zeros(len(lists), bool)
        if operator.empty_as_null:
            lone = lone | ((lengths == 0) & ~is_null)
        yield _spread(batch, operator.column, _elements(lists, lengths, lone), np.where(lone, 1, lengths), schema)


def explode_tokens(
    batches: Batches, operator: physical.TokenizeExplode, schema: pa.Schema, context: TaskContext
) -> Batches:
    """Tokenize and explode in one step: no list column is made; a null text gives one null row."""
    for batch in batches:
        context.check_cancelled()
        others = {column.name: evaluate(column.node, batch, tokenize=tokenize) for column in operator.others}
        lists = evaluate(operator.tokens, batch, tokenize=tokenize)
        beside = pa.RecordBatch.from_arrays([*others.values(), lists], names=[*others, operator.name])
        yield from explode(iter([beside]), physical.Explode(operator.name), schema, context)


def limit(batches: Batches, operator: physical.Limit, context: TaskContext) -> Batches:
    """Pass the first rows on, then stop asking for more."""
    left = operator.rows
    if not left:
        return
    for batch in batches:
        context.check_cancelled()
        yield batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


def _elements(lists: pa.Array[Any], lengths: np.ndarray[Any, Any], lone: np.ndarray[Any, Any]) -> pa.Array[Any]:
    """The lists' elements in order, with a null in the place of each lone row."""
    flat: pa.Array[Any] = pc.list_flatten(lists)
    if not lone.any():
        return flat
    counts = np.where(lone, 1, lengths)
    is_element = np.repeat(~lone, counts)
    positions = np.cumsum(is_element) - 1
    return flat.take(pa.array(positions, mask=~is_element))


def _spread(
    batch: pa.RecordBatch, name: str, elements: pa.Array[Any], counts: np.ndarray[Any, Any], schema: pa.Schema
) -> pa.RecordBatch:
    rows = np.repeat(np.arange(batch.num_rows, dtype=np.uint32), counts)
    others = [other for other in batch.schema.names if other != name]
    repeated = take_rows(batch.select(others), rows) if others else None
    columns = []
    for field in schema:
        column = elements if field.name == name else repeated.column(field.name)  # type: ignore[union-attr]
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
