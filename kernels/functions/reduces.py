"""Compile a user's reduce(key, values, emit): a driver that calls it group by group. See `kernels/userreduces`."""
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernelmill.kernels.functions.callables import plain_function
from kernelmill.kernels.functions.driving import column_values, entry_point, result_type, tuple_text, tuple_type
from kernelmill.kernels.functions.groupemits import GroupEmitType, make_group_emit
from kernelmill.kernels.functions.side import side_of, side_text
from kernelmill.kernels.functions.values import ValuesType, make_values
from kernelmill.kernels.usercode import CannotCompileError, Compiled, Input
from kernelmill.kernels.usermaps import (
    CAPACITY,
    COUNT,
    COUNTERS,
    COUNTERS_END,
    MARK,
    REJECTED,
    ROW,
    SIDE,
    STAGE_SPARE_ROWS,
)
from kernelmill.kernels.userreduces import reduce_signature


def compile_reduce(
    function: Callable[..., Any],
    keys: Sequence[Input],
    values: Sequence[Input],
    key_is_tuple: bool,
    value_is_tuple: bool,
    symbol: str,
) -> Compiled:
    """Compile `function` for keys and values of these columns; its entry point is `symbol`.

    Raises CannotCompileError.
    """
    if not values:
        raise CannotCompileError("map emits keys alone, and there are no values to go through")
    name = getattr(function, "__name__", "reduce")
    key_type = tuple_type(keys, is_tuple=key_is_tuple)
    values_type = ValuesType(values, is_tuple=value_is_tuple)
    emit_type = GroupEmitType(name, key_type)
    user = _typed(function, key_type, values_type, emit_type)
    if emit_type.wanted() != emit_type.staged():  # a helper that emits was compiled before all calls were seen
        emit_type = GroupEmitType(name, key_type, emit_type.wanted())
        user = _typed(function, key_type, values_type, emit_type)
    key_names, key_values, namespace = column_values(keys, "k")
    source = _DRIVER.format(
        keys=", ".join(key_names),
        values=", ".join(values_type.names),
        key=tuple_text(key_values, is_tuple=key_is_tuple),
        side=side_text(user),
    )
    namespace |= {
        "make": make_group_emit(emit_type),
        "values_of": make_values(values_type),
        "user": user,
        "side_of": side_of,
        "SIDE": SIDE,
        "COUNT": COUNT,
        "CAPACITY": CAPACITY,
        "ROW": ROW,
        "MARK": MARK,
        "REJECTED": REJECTED,
        "COUNTERS": COUNTERS,
        "COUNTERS_END": COUNTERS_END,
        "SPARE": STAGE_SPARE_ROWS,
    }
    exec(compile(source, f"<driver of {name}>", "exec"), namespace)
    (shape,) = emit_type.shapes
    about = {"outputs": emit_type.outputs(), "shape": shape, "counters": emit_type.counters}
    return Compiled(*entry_point(namespace["drive"], reduce_signature(keys, values), symbol), about)


def _typed(function: Callable[..., Any], key_type: Any, values_type: Any, emit_type: Any) -> Callable[..., Any]:
    """The function for the driver to call, typed: so what is wrong with it is said of it, not of the driver."""
    user = plain_function(function, 3)
    result_type(user, (key_type, values_type, emit_type))
    return user


_DRIVER = """
def drive({keys}, {values}, starts, ends, cursor, row, last, arena, stage, state):
    side = side_of(state[SIDE], arena)
    while row < last:
        state[ROW] = row
        state[MARK] = state[COUNT]
        cursor[0] = starts[row]
        cursor[1] = ends[row]
        key = {key}
        user({side}key, values_of(cursor, ({values}, arena)), make(stage, state, arena, key))
        if state[REJECTED] != 0:
            return row
        for place in range(COUNTERS, state[COUNTERS_END], 2):
            state[place] += state[place + 1]
            state[place + 1] = 0
        row += 1
        if state[COUNT] + SPARE > state[CAPACITY]:
            break
    return row
"""
