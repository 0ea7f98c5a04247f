"""Compile a user's map: a driver that calls it for each record of a batch and stages what it emits.

What it is and how it is called: `kernels/usermaps`. The code is typed and compiled for the kinds of the input columns.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernelmill.kernels.functions.draining import drained
from kernelmill.kernels.functions.driving import column_values, entry_point, record_type, result_type, row_class
from kernelmill.kernels.functions.emits import EmitType, make_emit
from kernelmill.kernels.functions.helpers import compiled_helpers
from kernelmill.kernels.functions.side import side_of, side_text
from kernelmill.kernels.usercode import Compiled, Input
from kernelmill.kernels.usermaps import (
    COUNT,
    COUNTERS,
    COUNTERS_END,
    FULL_AT,
    MARK,
    NAMED,
    NAMED_WORDS,
    REJECTED,
    ROW,
    SIDE,
    STAGE_SPARE_ROWS,
    TO_CAPACITY,
    TO_COUNT,
    TO_MARK,
    map_signature,
)


def compile_map(
    function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any], symbol: str, *, is_row: bool
) -> Compiled:
    """Compile `function` for records of `inputs`; its entry point is `symbol`. Raises CannotCompileError.

    A record is a row of the inputs, or without `is_row` the value of the only one.

    What it emits is found by typing it: no data is run.
    """
    emit_type = EmitType(function.__name__)
    user = _typed(function, inputs, keywords, emit_type, is_row)
    main, named = emit_type.all_wanted()
    if (main, named) != emit_type.all_staged():  # a helper that emits was compiled before all calls were seen
        emit_type = EmitType(function.__name__, main, named)
        user = _typed(function, inputs, keywords, emit_type, is_row)
    driver, signature = _driver(function.__name__, user, inputs, emit_type, is_row), map_signature(inputs)
    about = {
        "outputs": emit_type.outputs() if emit_type.seen else (),
        "shape": emit_type.shape(),
        "counters": emit_type.counters,
        "named": [(name, calls.outputs(), calls.shape()) for name, calls in emit_type.to.items()],
        "names_all": not emit_type.leaves,
    }
    return Compiled(*entry_point(driver, signature, symbol), about)


def _typed(function, inputs, keywords, emit_type, is_row) -> Callable[..., Any]:
    """The function for the driver to call, typed: so what is wrong with it is said of it, not of the driver."""
    user = compiled_helpers(function, keywords)
    result_type(user, (record_type(inputs, is_row=is_row), emit_type))
    return user


def _driver(name: str, user, inputs: Sequence[Input], emit_type, is_row: bool) -> Callable[..., Any]:
    """The driver for these columns, as a Python function whose globals are compiled code."""
    names, values, namespace = column_values(inputs)
    record = f"Row({', '.join(values)})" if is_row else values[0]
    source = _DRIVER.format(
        columns=", ".join(names),
        record=record,
        side=side_text(user),
        counts=_COUNTS if emit_type.counters else "",
        **_NAMED[bool(emit_type.to)],
    )
    namespace |= {
        "make": make_emit(emit_type),
        "user": user,
        "side_of": side_of,
        "SIDE": SIDE,
        "Row": row_class(inputs),
        "COUNT": COUNT,
        "FULL_AT": FULL_AT,
        "drained": drained,
        "ROW": ROW,
        "MARK": MARK,
        "REJECTED": REJECTED,
        "COUNTERS": COUNTERS,
        "COUNTERS_END": COUNTERS_END,
        "SPARE": STAGE_SPARE_ROWS,
        "NAMED": NAMED,
        "NAMED_END": NAMED + NAMED_WORDS * len(emit_type.to),
        "NAMED_WORDS": NAMED_WORDS,
        "TO_CAPACITY": TO_CAPACITY,
        "TO_COUNT": TO_COUNT,
        "TO_MARK": TO_MARK,
    }
    exec(compile(source, f"<driver of {name}>", "exec"), namespace)
    made: Callable[..., Any] = namespace["drive"]
    return made


_DRIVER = """
def drive({columns}, row, last, arena, stage, state):
    emit = make(stage, state, arena)
    side = side_of(state[SIDE], arena)
    while row < last:
        state[ROW] = row
        state[MARK] = state[COUNT]{mark}
        user({side}{record}, emit)
        if state[REJECTED] != 0:
            return row
{counts}        row += 1
        is_full = state[COUNT] + SPARE > state[FULL_AT]{full}
        if is_full{stays}:
            return row
    {at_end}
    return row
"""
_COUNTS = """
        for place in range(COUNTERS, state[COUNTERS_END], 2):
            state[place] += state[place + 1]
            state[place + 1] = 0
"""
_NAMED = (
    {"mark": "", "full": "", "stays": " and not drained(state, arena)", "at_end": "drained(state, arena)"},
    {
        "mark": """
        for to in range(NAMED, NAMED_END, NAMED_WORDS):
            state[to + TO_MARK] = state[to + TO_COUNT]""",
        "full": """
        for to in range(NAMED, NAMED_END, NAMED_WORDS):
            is_full |= 0 <= state[to + TO_CAPACITY] < state[to + TO_COUNT] + SPARE""",
        "stays": "",
        "at_end": "",
    },
)
"""What the driver does besides for a map without named outputs, and for one with such."""
