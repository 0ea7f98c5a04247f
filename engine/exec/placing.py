"""The user's partitioner: which partition each row of a batch goes to, by machine code or as plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import length_hint
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.compiling import compiled_partition
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.calls import FAILURES
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.drivercolumns import Arena, driver_columns
from kernelmill.engine.exec.exchange import Placing, Rows
from kernelmill.engine.exec.pycolumns import values_of
from kernelmill.engine.plan import physical
from kernelmill.engine.userfunctions import UserFunction, shown
from kernelmill.kernels import userpartitions

Functions = Sequence[UserFunction]


def function_of(call: physical.UserCall, functions: Functions) -> UserFunction:
    """The function that an operator names by its number."""
    if call.number >= len(functions):
        what = f"{call.role} function {call.name!r} is not with this task"
        raise error(Code.INTERNAL, what, where=call.where)
    return functions[call.number]


def user_placing(end: physical.ToBlocks, functions: Functions, context: TaskContext) -> Placing | None:
    """How the user's partitioner places the rows of a batch, if there is one.

    A key for which machine code raises, or gives what is no partition, is asked for again as plain Python.
    """
    if end.partition is None:
        return None
    function = function_of(end.partition, functions)

    def place(batch: pa.RecordBatch, partitions: int) -> Rows:
        keys = batch.select(list(end.keys))
        form = compiled_partition(function, keys.schema, end.key_is_tuple, nullable=has_nulls(keys), at_run=True)
        if form is not None:
            with context.scratch.lend(Arena) as arena:
                return _placed(keys, partitions, form, arena, function, end.key_is_tuple)
        found = values_of(keys.columns, is_tuple=end.key_is_tuple)
        each = iter(found)
        with context.watched(partial(length_hint, each), found.clear):  # then there are no more
            parts = np.fromiter((_partition_of(key, partitions, function) for key in each), np.uint32)
        context.check_cancelled()
        return parts

    return place


def has_nulls(batch: pa.RecordBatch) -> bool:
    """Whether any value is null: compiled code without nulls in it is shorter, and takes more of Python."""
    return any(column.null_count for column in batch.columns)


def _placed(
    keys: pa.RecordBatch,
    partitions: int,
    form: userpartitions.CompiledPartition,
    arena: Arena,
    function: UserFunction,
    is_tuple: bool,
) -> Rows:
    columns = driver_columns(keys.columns)
    parts: Rows = np.empty(keys.num_rows, np.uint32)
    state = np.zeros(userpartitions.STATE_SIZE, np.int64)
    state[userpartitions.SIDE] = form.side.address
    row = 0
    while True:
        try:
            row = form.drive(*columns, partitions, row, keys.num_rows, arena.state, parts, state)
        except Exception:  # whatever it is, Python says it better
            row = int(state[userpartitions.ROW])
            if arena.grows():
                continue
        if row == keys.num_rows:
            return parts
        key: Any = values_of(keys.slice(row, 1).columns, is_tuple=is_tuple)[0]
        parts[row] = _partition_of(key, partitions, function)
        row += 1


def _partition_of(key: Any, partitions: int, function: UserFunction) -> int:
    text = f"the key is {shown(key)}"
    try:
        part = function.call(key, partitions)
    except FAILURES as problem:
        raise function.failed(problem, text, function.where) from problem
    if isinstance(part, bool) or not isinstance(part, int | np.integer) or not 0 <= part < partitions:
        what = f"{function.title} returned {shown(part)} for {shown(key)}, of {partitions} partitions"
        hint = f"return an integer from 0 to n - 1, here {partitions - 1}: such as hash(key) % n"
        raise error(Code.FUNCTION_FAILED, what, where=function.where, hint=hint)
    return int(part)
