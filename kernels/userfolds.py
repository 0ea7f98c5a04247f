"""A user's combine as machine code: one state a group, of numbers, into which rows are folded in their order.

    drive(columns..., base, groups, row, last, arena, seen, states..., state) -> the first row not done

folds row r into the state of group groups[r - base]. seen[g] is 1 once group g has a state, 2 if Python made that and
it has None. A state lies in an array of values and an array of bytes, 1 where it is None, for each of its columns. The
driver stops before `last` at a group whose state is None where the code knows of no None; a row for which the function
raises makes it fail. state[ROW] names the row: both are for Python.

    finish(first, last, arena, states..., results..., state) -> the first group not done

makes results, stored as states are, of the states of groups.

combine(a, b) folds values and partial states alike. A Combiner has a driver for each: step, merge, and finish.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kernelmill.kernels import _jit
from kernelmill.kernels._signature import Array, Scalar, Signature
from kernelmill.kernels.sidetables import SideTables
from kernelmill.kernels.sidevalues import Bound, bind
from kernelmill.kernels.usercode import Input, Output, column_parameters, fingerprint, loaded, require_bound

ROW, SIDE, STATE_SIZE = 0, 1, 2
"""The state: the row, or the group, at work, and the address of side data (sidetables)."""


class Folding(NamedTuple):
    """What combines: without `init` the first value is the first state; without `finish` the state is the result."""

    init: Callable[..., Any] | None
    step: Callable[..., Any]
    merge: Callable[..., Any]
    finish: Callable[..., Any] | None


class CompiledFold(NamedTuple):
    """`drive` as above; the columns of a state, and whether it is a tuple; the same of a result; what they read."""

    drive: Callable[..., int]
    states: tuple[Output, ...]
    state_is_tuple: bool
    results: tuple[Output, ...]
    result_is_tuple: bool
    side: SideTables


def bound_folding(folding: Folding, keywords: Mapping[str, Any]) -> Bound:
    """The functions of a folding with the side data that they read."""
    return bind(list(zip(folding, (0, 2, 2, 1), strict=True)), keywords)


def compiled_fold(
    folding: Folding | Bound, part: str, values: Sequence[Input], *, is_tuple: bool, on_compile: Any = None
) -> CompiledFold:
    """The driver of `part`, step, merge or finish, for values of these columns. Raises CannotCompileError."""
    bound = folding if isinstance(folding, Bound) else bound_folding(folding, {})
    require_bound(bound)
    folding = Folding(*bound.functions)

    def compile_(symbol: str) -> Any:
        compiler = importlib.import_module("kernelmill.kernels.functions.folds")
        return compiler.compile_fold(folding, part, values, is_tuple, symbol)

    def signature_of(about: dict[str, Any]) -> Signature:
        states, results = _outputs(about["states"]), _outputs(about["results"])
        return finish_signature(states, results) if part == "finish" else fold_signature(part, values, states)

    name = fingerprint(f"fold-{part}", folding.step, folding, tuple(values), is_tuple)
    title = getattr(folding.step, "__name__", "combine")
    drive, about = loaded(name, title, compile_, signature_of, on_compile)
    states, results = _outputs(about["states"]), _outputs(about["results"])
    return CompiledFold(drive, states, about["state_is_tuple"], results, about["result_is_tuple"], bound.side)


def state_inputs(states: Sequence[Output]) -> list[Input]:
    """Columns of partial states, as a driver reads them."""
    return [Input(f"state{number}", one.kind, one.nullable) for number, one in enumerate(states)]


def fold_signature(part: str, values: Sequence[Input], states: Sequence[Output]) -> Signature:
    """The driver's of step or merge."""
    columns = column_parameters(values if part == "step" else state_inputs(states))
    signature: Signature = _jit.i64(
        *columns, _jit.i64, _jit.i32_in, _jit.i64, _jit.i64, _jit.i64_out, _jit.u8_out, *_held(states), _jit.i64_out
    )
    return signature


def finish_signature(states: Sequence[Output], results: Sequence[Output]) -> Signature:
    """The driver's of finish."""
    signature: Signature = _jit.i64(_jit.i64, _jit.i64, _jit.i64_out, *_held(states), *_held(results), _jit.i64_out)
    return signature


def _held(columns: Sequence[Output]) -> list[Scalar | Array]:
    kinds = {"int64": _jit.i64_out, "float64": _jit.f64_out, "boolean": _jit.u8_out}
    return [one for column in columns for one in (kinds[column.kind], _jit.u8_out)]


def _outputs(given: Sequence[Any]) -> tuple[Output, ...]:
    return tuple(Output(*one) for one in given)
