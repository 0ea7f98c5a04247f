"""The steps of a pipeline that call users' functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.calls import FAILURES
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.evaluate import opened_values
from kernelmill.engine.exec.groupruns import GroupRuns, OpenGroup, group_runs
from kernelmill.engine.exec.groups import gathered, reduce_groups
from kernelmill.engine.exec.namedstages import ToSide
from kernelmill.engine.exec.placing import Functions, function_of
from kernelmill.engine.exec.records import map_records
from kernelmill.engine.exec.sorting import gather_groups
from kernelmill.engine.plan import physical
from kernelmill.engine.schema import dtype_text, field_text
from kernelmill.engine.userfunctions import UserFunction, shown

Batches = Iterator[pa.RecordBatch]


def run_user_step(
    batches: Batches,
    step: physical.UserStep,
    functions: Functions,
    context: TaskContext,
    then: physical.Step | None,
    to_side: ToSide | None = None,
) -> Batches:
    """The rows after one such step; `functions` are the job's, which steps name by number. `then` comes next.

    What a map emits to named outputs goes to `to_side`.
    """
    match step:
        case physical.MapRecords():
            key = _staged_key(step, then)
            return map_records(batches, step, function_of(step.call, functions), context, key, to_side)
        case physical.GatherGroups():
            return gather_groups(batches, step, context)
        case physical.ReduceGroups():
            function = None if step.call is None else function_of(step.call, functions)
            return reduce_groups(batches, step, function, context)
        case physical.MapBatches():
            return map_batches(batches, step, function_of(step.call, functions), context)
        case physical.MapColumn():
            return map_column(batches, step, function_of(step.call, functions), context)
        case physical.MapGroups():
            return map_groups(batches, step, function_of(step.call, functions), context)
        case physical.CombineRows() | physical.MergeCombined():
            raise error(Code.INTERNAL, f"{type(step).__name__} is a step of the key table")


def takes_lines(step: physical.Step) -> bool:
    """Whether lines of text may come to this step as LinesInPlace."""
    return isinstance(step, physical.MapRecords) and not step.named


def _staged_key(step: physical.MapRecords, then: physical.Step | None) -> str | None:
    """The text column by which the next step groups all that is emitted, if it needs no other text as a column."""
    match then:
        case physical.PartialAggregate(keys=(key,), aggs=aggs):
            inputs = {agg.column for agg in aggs}
        case physical.CombineRows(keys=(key,), values=values):
            inputs = set(values)
        case _:
            return None
    texts = {field.name for field in step.schema if pa.types.is_string(field.type)}
    return key if key in texts and not texts & inputs else None


def user_schema(step: physical.UserStep, schema: pa.Schema) -> pa.Schema:
    """The columns of the rows after one such step."""
    if isinstance(step, physical.MapRecords) and step.flows:
        return step.named[step.flows - 1].schema
    return schema if isinstance(step, physical.GatherGroups) else step.schema


def map_batches(
    batches: Batches, step: physical.MapBatches, function: UserFunction, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """What the function makes of each batch."""
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        first = place(0) if batch.num_rows else ""
        text = f"look at that line; it was called with a batch of {batch.num_rows:,} rows"
        for made in _returned(function, batch, step.schema, text, str(first)):
            context.rows_from(None)
            yield made


def map_column(
    batches: Batches, step: physical.MapColumn, function: UserFunction, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """The rows with one more column: what the function makes of the values of another, batch by batch."""
    field = step.schema.field(len(step.schema) - 1)
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        first = str(place(0)) if batch.num_rows else ""
        made = _values_made(function, opened_values(batch.column(step.column)), field.type, first)
        context.rows_from(place)
        yield pa.RecordBatch.from_arrays([*batch.columns, made], schema=step.schema)


def _values_made(function: UserFunction, values: pa.Array[Any], dtype: pa.DataType, place: str) -> pa.Array[Any]:
    text = f"{len(values):,} values"
    try:
        returned: Any = function.call(values)
    except FAILURES as problem:
        raise function.failed(problem, text, place) from problem
    hint = f"return {text} of type {dtype_text(dtype)} for as many that come, or name another type by return_dtype="
    try:
        made = returned if isinstance(returned, pa.Array | pa.ChunkedArray) else pa.array(returned)
        if made.type != dtype and (_fits_in(made.type, dtype) or not isinstance(returned, pa.Array | pa.ChunkedArray)):
            made = made.cast(dtype)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        raise _wrong(function, f"returned {shown(returned)}: {problem}", hint, place) from problem
    if isinstance(made, pa.ChunkedArray):
        made = made.combine_chunks()
    if made.type != dtype or len(made) != len(values):
        what = f"returned {len(made):,} values of type {dtype_text(made.type)} for {text}"
        raise _wrong(function, what, hint, place)
    return made


def map_groups(
    batches: Batches, step: physical.MapGroups, function: UserFunction, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """What the function makes of a table of each group, whose rows stand side by side, in one batch or in several.

    Raises KM0401, naming the group, where its table does not fit the memory.
    """
    runs = group_runs(batches, step.keys)
    for run in runs:
        yield from _map_whole_groups(run.whole(), step, function, context)
        while run.goes_on:
            group = OpenGroup(run, runs)
            what = f"the group {shown(_keys_of(group.head, step))}"
            whole = gathered(group, group.head.schema.names, what, "reduce its values one by one", context)
            run = group.skip()
            yield from _map_group(whole, step, function, context)
            yield from _map_whole_groups(run.whole(), step, function, context)


def _map_whole_groups(
    runs: GroupRuns | None, step: physical.MapGroups, function: UserFunction, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    if runs is None:
        return
    for start, stop in zip(runs.starts.tolist(), runs.ends.tolist(), strict=True):
        context.check_cancelled()
        yield from _map_group(runs.batch.slice(start, stop - start), step, function, context)


def _map_group(
    group: pa.RecordBatch, step: physical.MapGroups, function: UserFunction, context: TaskContext
) -> list[pa.RecordBatch]:
    text = f"the group is {shown(_keys_of(group, step))}"
    return _returned(function, pa.Table.from_batches([group]), step.schema, text, context.origin)


def _keys_of(group: pa.RecordBatch, step: physical.MapGroups) -> dict[str, Any]:
    return {key: group.column(key)[0].as_py() for key in step.keys}


def _returned(
    function: UserFunction, given: pa.RecordBatch | pa.Table, schema: pa.Schema, text: str, place: str
) -> list[pa.RecordBatch]:
    call: Callable[..., Any] = function.call
    try:
        made = call(given)
    except FAILURES as problem:
        raise function.failed(problem, text, place) from problem
    if isinstance(made, pa.RecordBatch):
        made = pa.Table.from_batches([made])
    if not isinstance(made, pa.Table):
        raise _wrong(function, f"returned {shown(made)}", "return a pyarrow.RecordBatch or a pyarrow.Table", place)
    made = _widened(made, schema)
    found = [(field.name, field.type) for field in made.schema]
    wanted = [(field.name, field.type) for field in schema]
    if found != wanted:
        columns = ", ".join(field_text(field) for field in made.schema)
        hint = "schema= says " + ", ".join(field_text(field) for field in schema)
        raise _wrong(function, f"returned the columns {columns or 'none'}", hint, place)
    for field in schema:
        if not field.nullable and made.column(field.name).null_count:
            hint = f"schema= says that {field.name} has none"
            raise _wrong(function, f"returned nulls in {field.name!r}", hint, place)
    return [pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in made.to_batches() if batch.num_rows]


def _wrong(function: UserFunction, what: str, hint: str, place: str) -> KernelmillError:
    return error(Code.FUNCTION_FAILED, f"{function.title} {what} [{function.where}]", where=place, hint=hint)


def _widened(made: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with integers as wide as the schema says, where each of them fits: many functions give int32."""
    if made.schema.names != schema.names:
        return made
    for number, (found, wanted) in enumerate(zip(made.schema, schema, strict=True)):
        if _fits_in(found.type, wanted.type):
            made = made.set_column(number, wanted, made.column(number).cast(wanted.type))
    return made


def _fits_in(kind: pa.DataType, wider: pa.DataType) -> bool:
    """True if all integers of one type are of another, wider one."""
    if not (pa.types.is_integer(kind) and pa.types.is_integer(wider) and kind.bit_width < wider.bit_width):
        return False
    return pa.types.is_signed_integer(wider) or pa.types.is_unsigned_integer(kind)
