"""The row-wise steps of a pipeline: each takes the batches before it and gives the batches after it.

A batch's place (context.take_place, rows_from) goes with it, so that the row of a bad value can be named in its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import batch_of, validity_bytes
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.evaluate import evaluate, split_bad_rows
from kernelmill.engine.exec.exchange import take_rows
from kernelmill.engine.exec.tokens import tokenize
from kernelmill.engine.io.context import Place, Reject
from kernelmill.engine.lazymodules import pc
from kernelmill.engine.plan import physical
from kernelmill.engine.pyvalues import python_values
from kernelmill.engine.remembering import remembered
from kernelmill.engine.typing import type_of

Batches = Iterator[pa.RecordBatch]
Made = TypeVar("Made")
_RECORD_BYTES_MAX = 64 << 10


@remembered
def projected(operator: physical.Project, schema: pa.Schema) -> pa.Schema:
    """The columns that a projection makes of rows of `schema`."""
    return pa.schema([type_of(column.node, schema).with_name(column.name) for column in operator.columns])


@remembered
def exploded(operator: physical.Explode, schema: pa.Schema) -> pa.Schema:
    """`schema` with the list column replaced by its elements."""
    at = schema.get_field_index(operator.column)
    lists = schema.field(at)
    nullable = operator.empty_as_null or (operator.keep_nulls and lists.nullable)
    return schema.set(at, _element(lists, operator.column, nullable))


def _element(lists: pa.Field[Any], name: str, has_null_rows: bool) -> pa.Field[Any]:
    item: pa.Field[Any] = lists.type.value_field
    return pa.field(name, item.type, nullable=item.nullable or has_null_rows)


@remembered
def tokens_exploded(operator: physical.TokenizeExplode, schema: pa.Schema) -> pa.Schema:
    """The columns of `explode_tokens`, in the order of operator.names."""
    fields = {column.name: type_of(column.node, schema).with_name(column.name) for column in operator.others}
    lists = type_of(operator.tokens, schema)
    fields[operator.name] = _element(lists, operator.name, lists.nullable)
    return pa.schema([fields[name] for name in operator.names])


def filter_rows(batches: Batches, operator: physical.Filter, context: TaskContext) -> Batches:
    """Keep the rows for which the predicate is true."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        for start, keep in rowwise(batch, place, lambda rows: evaluate(operator.predicate, rows, tokenize), context):
            if keep.true_count:
                kept = batch if len(keep) == batch.num_rows else batch.slice(start, len(keep))
                if keep.true_count < len(keep):  # a filter copies also what it keeps whole
                    kept = kept.filter(keep, null_selection_behavior="drop")
                context.rows_from(_place_of_kept(place, start, keep))
                yield kept


def _place_of_kept(place: Place, start: int, keep: pa.Array[Any]) -> Place:
    return lambda row: place(start + int(np.flatnonzero(keep.fill_null(False))[row]))


def _place_from(place: Place, start: int) -> Place:
    return lambda row: place(start + row)


def project(batches: Batches, operator: physical.Project, schema: pa.Schema, context: TaskContext) -> Batches:
    """Compute the columns of `schema`."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        for start, made in rowwise(batch, place, lambda rows: _computed(rows, operator, schema), context):
            context.rows_from(_place_from(place, start))
            yield made


def _computed(rows: pa.RecordBatch, operator: physical.Project, schema: pa.Schema) -> pa.RecordBatch:
    columns = [evaluate(column.node, rows, tokenize=tokenize) for column in operator.columns]
    typed = [c if _is_of(c, f.type) else c.cast(f.type) for c, f in zip(columns, schema, strict=True)]
    return batch_of(typed, schema)


def _is_of(column: Any, kind: pa.DataType) -> bool:
    """Whether values are of that type, be they codes."""
    is_coded = isinstance(column, pa.DictionaryArray)
    return bool((column.type.value_type if is_coded else column.type) == kind)


def rowwise(
    batch: pa.RecordBatch, place: Place, work: Callable[[pa.RecordBatch], Made], context: TaskContext
) -> Iterator[tuple[int, Made]]:
    """The results of row-wise `work`, each with the number of its first row.

    A row with a value that does not fit is an error that names its place; with on_bad="reject" it goes to the rejects,
    as JSON.
    """
    for start, made in split_bad_rows(batch, work):
        if not isinstance(made, KernelmillError):
            yield start, made
            continue
        found = place(start)
        if context.on_bad != "reject":
            made.where = str(found)
            raise made
        row = batch.slice(start, 1)
        values = {name: python_values(row.column(at))[0] for at, name in enumerate(row.schema.names)}
        record = json.dumps(values, default=str, ensure_ascii=False).encode()
        kept = record[:_RECORD_BYTES_MAX]
        context.reject(Reject(found.file, found.offset, None, kept, made.reason, made.code.id, found.row))


def explode(batches: Batches, operator: physical.Explode, schema: pa.Schema, context: TaskContext) -> Batches:
    """Give each element of a list a row; the other columns are repeated beside it."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        lists = batch.column(operator.column)
        lengths = np.asarray(pc.list_value_length(lists).fill_null(0)).astype(np.int64)
        valid = validity_bytes(lists)
        is_null = valid == 0 if valid.size else np.zeros(len(lists), bool)
        lone = is_null if operator.keep_nulls else np.zeros(len(lists), bool)
        if operator.empty_as_null:
            lone = lone | ((lengths == 0) & ~is_null)
        counts = np.where(lone, 1, lengths)
        context.rows_from(_place_of_element(place, counts))
        yield _spread(batch, operator.column, _elements(lists, lengths, lone), counts, schema)


def _place_of_element(place: Place, counts: NDArray[np.int64]) -> Place:
    return lambda row: place(int(np.searchsorted(np.cumsum(counts), row, side="right")))


def explode_tokens(
    batches: Batches, operator: physical.TokenizeExplode, schema: pa.Schema, context: TaskContext
) -> Batches:
    """Tokenize and explode in one step: no list column is made; a null text gives one null row."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        for start, beside in rowwise(batch, place, lambda rows: _with_tokens(rows, operator), context):
            context.rows_from(_place_from(place, start))
            yield from explode(iter([beside]), physical.Explode(operator.name), schema, context)


def _with_tokens(rows: pa.RecordBatch, operator: physical.TokenizeExplode) -> pa.RecordBatch:
    others = {column.name: evaluate(column.node, rows, tokenize) for column in operator.others}
    lists = evaluate(operator.tokens, rows, tokenize)
    return pa.RecordBatch.from_arrays([*others.values(), lists], names=[*others, operator.name])


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
