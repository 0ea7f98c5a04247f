"""reduce(key, values, emit) as machine code, over the groups that begin and end in one batch.

A group for which it raises, that it rejects, or that does not fit is called again as plain Python, as a map's records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.compiling import compiled_reduce, emitted_types
from kernelmill.engine.exec.compiled import drive
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.drivercolumns import driver_columns
from kernelmill.engine.exec.groupruns import Positions
from kernelmill.engine.exec.placing import has_nulls
from kernelmill.engine.exec.stages import Stage, staged_batch
from kernelmill.engine.io.context import Place, RowPlace
from kernelmill.engine.plan.physical import ReduceGroups
from kernelmill.engine.userfunctions import UserFunction
from kernelmill.kernels import userreduces
from kernelmill.kernels.usermaps import CompiledMap

AsPython = Callable[[int], Iterator[pa.RecordBatch]]
"""What plain Python makes of one group, by its number."""


def reduced_groups(
    step: ReduceGroups,
    function: UserFunction,
    keys: pa.RecordBatch,
    values: pa.RecordBatch,
    bounds: Positions,
    context: TaskContext,
    as_python: AsPython,
) -> Iterator[pa.RecordBatch] | None:
    """What machine code makes of groups; None where it is not for their types.

    Group g has row g of `keys`, and the rows [bounds[0, g], bounds[1, g]) of `values`.
    """
    forms = step.key_is_tuple, step.value_is_tuple
    nullable = has_nulls(keys) or has_nulls(values)
    form = compiled_reduce(function, keys.schema, values.schema, *forms, nullable=nullable, at_run=True)
    if form is None or not _emits_as(form, step):
        return None
    return _rows(form, step, keys, values, bounds, context, as_python)


def _emits_as(form: CompiledMap, step: ReduceGroups) -> bool:
    """True if what the code stages is, type by type, what the step's schema has: Python decides about all else."""
    count = len(step.schema) - len(step.keys)
    sides = [(len(step.keys), step.key_is_tuple), (count, step.made_is_tuple)]
    shape = tuple(width if is_tuple else -1 for width, is_tuple in sides)
    return form.shape == shape and emitted_types(form) == step.schema.types


def _rows(
    form: CompiledMap,
    step: ReduceGroups,
    keys: pa.RecordBatch,
    values: pa.RecordBatch,
    bounds: Positions,
    context: TaskContext,
    as_python: AsPython,
) -> Iterator[pa.RecordBatch]:
    cursor = np.zeros(userreduces.CURSOR_SIZE, np.int64)
    starts, ends = np.ascontiguousarray(bounds[0]), np.ascontiguousarray(bounds[1])
    arguments = [*driver_columns(keys.columns), *driver_columns(values.columns), starts, ends, cursor]

    def call_again(first: int, count: int) -> Iterator[tuple[Any, Place]]:
        for group in range(first, first + count):
            for batch in as_python(group):
                if batch.num_rows:
                    yield batch, lambda _: RowPlace(context.origin)

    with context.scratch.lend(Stage) as stage:
        for rows, made in drive(arguments, keys.num_rows, form, stage, context, call_again, cursor=cursor):
            if rows:
                yield staged_batch(stage, form, rows, step.schema)
            for batch, _ in made:
                yield batch
