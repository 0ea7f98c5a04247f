"""Compile a user's combine: drivers that fold rows into the states of groups. See `kernels/userfolds`."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from kernelmill.kernels.functions.callables import plain_function
from kernelmill.kernels.functions.driving import (
    column_values,
    entry_point,
    result_type,
    tuple_text,
    tuple_type,
    unified,
)
from kernelmill.kernels.functions.side import side_of, side_text
from kernelmill.kernels.text.arena import USED
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.usercode import CannotCompileError, Compiled, Input, Output
from kernelmill.kernels.userfolds import ROW, SIDE, Folding, finish_signature, fold_signature, state_inputs

_ROUNDS_MAX = 8


class _Shape(NamedTuple):
    """The columns of a state or a result, and whether it is a tuple."""

    columns: tuple[Output, ...]
    is_tuple: bool

    @property
    def numba_type(self) -> Any:
        """The type of the value in compiled code."""
        return tuple_type(state_inputs(self.columns), is_tuple=self.is_tuple)


def compile_fold(folding: Folding, part: str, values: Sequence[Input], is_tuple: bool, symbol: str) -> Compiled:
    """Compile the driver of `part` for values of these columns; its entry point is `symbol`.

    Raises CannotCompileError.
    """
    functions = Folding(
        None if folding.init is None else plain_function(folding.init, 0),
        plain_function(folding.step, 2),
        plain_function(folding.merge, 2),
        None if folding.finish is None else plain_function(folding.finish, 1),
    )
    state = _state_shape(functions, values, is_tuple)
    result = state if functions.finish is None else _shape_of(result_type(functions.finish, (state.numba_type,)))
    about = {
        "states": state.columns,
        "state_is_tuple": state.is_tuple,
        "results": result.columns,
        "result_is_tuple": result.is_tuple,
    }
    if part == "finish":
        driver = _finish_driver(functions, state, result)
        return Compiled(*entry_point(driver, finish_signature(state.columns, result.columns), symbol), about)
    driver = _driver(functions, part, values, is_tuple, state)
    return Compiled(*entry_point(driver, fold_signature(part, values, state.columns), symbol), about)


def _state_shape(functions: Folding, values: Sequence[Input], is_tuple: bool) -> _Shape:
    """What a state is, by inference: types are joined until neither step nor merge gives any other."""
    value = tuple_type(values, is_tuple=is_tuple)
    if functions.init is None:
        shape = _shape_of(value)
    else:
        shape = _shape_of(result_type(functions.init, ()), or_none=True)
    for _ in range(_ROUNDS_MAX):
        made = _joined(shape, result_type(functions.step, (shape.numba_type, value)))
        if functions.init is not None:
            made = _joined(made, result_type(functions.merge, (made.numba_type, made.numba_type)))
        if made == shape:
            break
        shape = made
    kinds = [one.kind for one in shape.columns]
    if functions.init is None and kinds != [one.kind for one in values]:
        given = ", ".join(one.kind for one in values)
        raise CannotCompileError(f"it makes {', '.join(kinds)} of {given}")
    return shape


def _shape_of(kind: Any, *, or_none: bool = False) -> _Shape:
    is_tuple = isinstance(kind, types.BaseTuple)
    return _Shape(tuple(_column([one], or_none) for one in _parts(kind)), is_tuple)


def _joined(shape: _Shape, kind: Any) -> _Shape:
    parts = _parts(kind)
    if isinstance(kind, types.BaseTuple) != shape.is_tuple or len(parts) != len(shape.columns):
        raise CannotCompileError(f"its states differ in form: {shape.numba_type} and {kind}")
    held = _parts(shape.numba_type)
    return _Shape(tuple(_column(pair, False) for pair in zip(held, parts, strict=True)), shape.is_tuple)


def _parts(kind: Any) -> tuple[Any, ...]:
    return kind.types if isinstance(kind, types.BaseTuple) else (kind,)  # type: ignore[attr-defined]


def _column(kinds: Sequence[Any], or_none: bool) -> Output:
    kinds = [types.unliteral(kind) for kind in kinds]
    if or_none and all(isinstance(kind, types.NoneType) for kind in kinds):
        return Output("int64", True)  # until a step gives something
    column = unified(kinds, "its state is")
    if column.kind == "text":
        raise CannotCompileError("compiled code keeps numbers from row to row, no texts")
    return Output(column.kind, column.nullable)


def _driver(functions: Folding, part: str, values: Sequence[Input], is_tuple: bool, state: _Shape) -> Any:
    columns = values if part == "step" else state_inputs(state.columns)
    names, parts, namespace = column_values(columns)
    value = tuple_text(parts, is_tuple=is_tuple if part == "step" else state.is_tuple)
    fold = functions.step if part == "step" else functions.merge
    begun = f"step({side_text(functions.step)}init({side_text(functions.init)}), value)"
    first = "value" if functions.init is None or part == "merge" else begun
    source = _DRIVER.format(
        columns=", ".join(names),
        states=", ".join(_stores("s", state)),
        is_none=" or ".join(f"s{n}_none[g] != 0" for n, one in enumerate(state.columns) if not one.nullable) or "False",
        value=value,
        first=first,
        side=side_text(fold),
        held=tuple_text(_held_texts("g", state), is_tuple=state.is_tuple),
        put="\n        ".join(_puts("made", "s", "g", state)),
        put_begun="\n                ".join(_puts("begun", "s", "g", state)),
    )
    namespace |= {
        "init": functions.init,
        "step": functions.step,
        "fold": fold,
    }
    return _made(source, namespace)


def _finish_driver(functions: Folding, state: _Shape, result: _Shape) -> Any:
    source = _FINISH.format(
        states=", ".join(_stores("s", state)),
        results=", ".join(_stores("r", result)),
        side=side_text(functions.finish),
        held=tuple_text(_held_texts("at", state), is_tuple=state.is_tuple),
        put="\n        ".join(_puts("made", "r", "to", result)),
    )
    return _made(source, {"finish": functions.finish})


def _stores(stem: str, shape: _Shape) -> list[str]:
    return [f"{stem}{n}, {stem}{n}_none" for n in range(len(shape.columns))]


def _held_texts(at: str, shape: _Shape) -> list[str]:
    """Expressions of the parts of the state at `at`."""
    texts = [f"s{n}[{at}]" + (" != 0" if one.kind == "boolean" else "") for n, one in enumerate(shape.columns)]
    pairs = enumerate(zip(texts, shape.columns, strict=True))
    return [f"held({text}, s{n}_none, {at})" if one.nullable else text for n, (text, one) in pairs]


def _puts(name: str, stem: str, at: str, shape: _Shape) -> list[str]:
    """Statements that store the value called `name` at `at`, where nothing is None now."""
    made = [f"{name}[{n}]" for n in range(len(shape.columns))] if shape.is_tuple else [name]
    return [
        f"put({one}, {stem}{n}, {stem}{n}_none, {at})" if shape.columns[n].nullable else f"{stem}{n}[{at}] = {one}"
        for n, one in enumerate(made)
    ]


def _made(source: str, namespace: dict[str, Any]) -> Any:
    namespace |= {
        "held": _held,
        "put": _put,
        "u64": np.uint64,
        "side_of": side_of,
        "ROW": ROW,
        "SIDE": SIDE,
        "USED": USED,
    }
    exec(compile(source, "<driver of a combine function>", "exec"), namespace)
    return namespace["drive"]


_DRIVER = """
def drive({columns}, base, groups, row, last, arena, seen, {states}, state):
    side = side_of(state[SIDE], arena)
    while row < last:
        g = u64(groups[u64(row - base)])
        state[ROW] = row
        arena[USED] = 0
        value = {value}
        if seen[g] != 1:
            if seen[g] == 0:
                begun = {first}
                {put_begun}
                seen[g] = 1
                row += 1
                continue
            if {is_none}:
                return row
        made = fold({side}{held}, value)
        {put}
        row += 1
    return row
"""

_FINISH = """
def drive(first, last, arena, {states}, {results}, state):
    side = side_of(state[SIDE], arena)
    row = first
    while row < last:
        state[ROW] = row
        arena[USED] = 0
        at = u64(row)
        to = u64(row - first)
        made = finish({side}{held})
        {put}
        row += 1
    return row
"""


@helper
def _held(value, none, at):
    """`value`, or None where that is the state."""
    if none[at] != 0:
        return None
    return value


@helper
def _put(value, values, none, at):
    """Store a value, or None."""
    if value is None:
        none[at] = 1
    else:
        values[at] = value
        none[at] = 0
