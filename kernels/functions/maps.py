"""Compile a user's map: a driver that calls it for each record of a batch and stages what it emits.

What it is and how it is called: `kernels/usermaps`. The code is typed and compiled for the kinds of the input columns.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba import njit, types

from kernelmill.kernels.functions.driving import (
    KINDS,
    NUMBA_OPTIONS,
    column_values,
    entry_point,
    record_type,
    result_type,
    row_class,
    unified,
)
from kernelmill.kernels.functions.emits import EmitType, make_emit
from kernelmill.kernels.functions.helpers import compiled_helpers
from kernelmill.kernels.usercode import CannotCompileError, Compiled, Input, Output
from kernelmill.kernels.usermaps import (
    CAPACITY,
    COUNT,
    COUNTERS,
    COUNTERS_END,
    MARK,
    REJECTED,
    ROW,
    STAGE_SPARE_ROWS,
    map_signature,
)


def compile_map(
    function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any], symbol: str
) -> Compiled:
    """Compile `function` for records of `inputs`; its entry point is `symbol`. Raises CannotCompileError.

    What it emits is found by typing it alone, before: no data is run.
    """
    inferred = _infer(function, inputs, keywords)
    outputs, (shape,) = _columns(inferred), inferred.shapes
    emit_type = EmitType(function.__name__, tuple(KINDS[one.kind] if one.constant is None else None for one in outputs))
    driver, signature = _driver(function, inputs, keywords, emit_type), map_signature(inputs)
    about = {"outputs": outputs, "shape": shape, "counters": emit_type.counters}
    return Compiled(*entry_point(driver, signature, symbol), about)


def _infer(function, inputs, keywords) -> EmitType:
    """The emit of `function` after its types were inferred."""
    emit_type = EmitType(function.__name__, None)
    result_type(compiled_helpers(function, keywords), (record_type(inputs), emit_type))
    return emit_type


def _columns(emit_type: EmitType) -> list[Output]:
    if not emit_type.seen:
        raise CannotCompileError("it never calls emit")
    if len(emit_type.shapes) > 1:
        raise CannotCompileError("its calls of emit differ in how many values they give")
    return [_column(kinds) for kinds in zip(*emit_type.seen, strict=True)]


def _column(kinds) -> Output:
    column = unified(kinds, "emit is called with")
    values = {kind.literal_value if isinstance(kind, types.IntegerLiteral) else None for kind in kinds}
    return column._replace(constant=values.pop()) if column.kind == "int64" and len(values) == 1 else column


def _driver(function, inputs: Sequence[Input], keywords, emit_type) -> Callable[..., Any]:
    """The driver for these columns, as a Python function whose globals are compiled code."""
    names, values, namespace = column_values(inputs)
    record = values[0] if len(values) == 1 else f"Row({', '.join(values)})"
    source = _DRIVER.format(columns=", ".join(names), record=record)
    namespace |= {
        "make": make_emit(emit_type),
        "user": njit(**NUMBA_OPTIONS)(compiled_helpers(function, keywords)),
        "Row": row_class(inputs),
        "COUNT": COUNT,
        "CAPACITY": CAPACITY,
        "ROW": ROW,
        "MARK": MARK,
        "REJECTED": REJECTED,
        "COUNTERS": COUNTERS,
        "COUNTERS_END": COUNTERS_END,
        "SPARE": STAGE_SPARE_ROWS,
    }
    exec(compile(source, f"<driver of {function.__name__}>", "exec"), namespace)
    made: Callable[..., Any] = namespace["drive"]
    return made


_DRIVER = """
def drive({columns}, row, last, arena, stage, state):
    emit = make(stage, state)
    while row < last:
        state[ROW] = row
        state[MARK] = state[COUNT]
        user({record}, emit)
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
