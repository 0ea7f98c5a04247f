"""Compile a user's map: a driver that calls it for each record of a batch and stages what it emits.

What it is and how it is called: `kernels/usermaps`. The code is typed and compiled for the kinds of the input columns.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba import njit, types
from numba.core import compiler, errors
from numba.core.registry import cpu_target
from numba.core.typed_passes import type_inference_stage

from kernelmill.kernels._cache import Code
from kernelmill.kernels._compile import Compiler
from kernelmill.kernels._loader import can_run
from kernelmill.kernels.functions.emits import EmitType, make_emit
from kernelmill.kernels.functions.helpers import compiled_helpers
from kernelmill.kernels.text.library import TEXT, text_of
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

KINDS = {"text": TEXT, "int64": types.int64, "float64": types.float64, "boolean": types.boolean}
_NUMBA_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "python", "boundscheck": True}


def compile_map(
    function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any], symbol: str
) -> Compiled:
    """Compile `function` for records of `inputs`; its entry point is `symbol`. Raises CannotCompileError.

    What it emits is found by typing it alone, before: no data is run.
    """
    inferred = _infer(function, inputs, keywords)
    outputs, (shape,) = _columns(inferred), inferred.shapes
    emit_type = EmitType(function.__name__, tuple(KINDS[output.kind] for output in outputs))
    driver, signature = _driver(function, inputs, keywords, emit_type), map_signature(inputs)
    try:
        try:
            code = Code(*Compiler({}).object_code(driver, signature, symbol))
            made = None if can_run(code.calls) else Compiler({}).dispatcher(driver, signature)
        except errors.NumbaRuntimeError:  # it makes lists, or other things that numba's runtime keeps
            made = Compiler({}).dispatcher(driver, signature)
    except errors.NumbaError as problem:
        raise _explained(problem) from problem
    about = {"outputs": outputs, "shape": shape, "counters": emit_type.counters}
    return Compiled(None if made else code, made, about)


def _infer(function, inputs, keywords) -> EmitType:
    """The emit of `function` after its types were inferred."""
    emit_type = EmitType(function.__name__, None)
    record = _record_type(inputs)
    plain = compiled_helpers(function, keywords)
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()  # as numba's own entry does: to learn what was registered since the last time
    target.refresh()
    try:
        type_inference_stage(typing, target, compiler.run_frontend(plain), (record, emit_type), None)
    except errors.NumbaError as problem:
        raise _explained(problem) from problem
    return emit_type


def _record_type(inputs: Sequence[Input]) -> Any:
    kinds = [types.Optional(KINDS[one.kind]) if one.nullable else KINDS[one.kind] for one in inputs]
    if len(kinds) == 1:
        return kinds[0]
    return types.NamedTuple(kinds, _row_class(inputs))


def _row_class(inputs: Sequence[Input]) -> Any:
    return namedtuple("Row", [one.name for one in inputs], rename=True)


def _columns(emit_type: EmitType) -> list[Output]:
    if not emit_type.seen:
        raise CannotCompileError("it never calls emit")
    if len(emit_type.shapes) > 1:
        raise CannotCompileError("its calls of emit differ in how many values they give")
    return [_unified(column) for column in zip(*emit_type.seen, strict=True)]


def _unified(kinds) -> Output:
    nullable = any(isinstance(kind, types.NoneType | types.Optional) for kind in kinds)
    bare = {kind.type if isinstance(kind, types.Optional) else kind for kind in kinds}
    bare = {kind for kind in bare if not isinstance(kind, types.NoneType)}
    if bare == {TEXT}:
        return Output("text", nullable)
    if bare == {types.boolean}:
        return Output("boolean", nullable)
    if bare and all(isinstance(kind, types.Integer) for kind in bare):
        return Output("int64", nullable)
    if bare and all(isinstance(kind, types.Integer | types.Float) for kind in bare):
        return Output("float64", nullable)
    names = " and ".join(sorted(map(str, bare))) or "nothing but None"
    raise CannotCompileError(f"emit is called with {names} in one place")


def _explained(problem: errors.NumbaError) -> CannotCompileError:
    """numba's first useful line, and the user's line it speaks of."""
    lines = [line.strip() for line in str(problem.args[0] if problem.args else problem).splitlines()]
    skipped = ("Failed in nopython", "", "During:", "Use of unsupported", "File", "There are", "- Of which", ">>>")
    useful = next((line for line in lines if line and not line.startswith(skipped)), lines[0] if lines else "")
    found = getattr(problem, "loc", None)
    return CannotCompileError(useful, getattr(found, "line", None))


def _driver(function, inputs: Sequence[Input], keywords, emit_type) -> Callable[..., Any]:
    """The driver for these columns, as a Python function whose globals are compiled code."""
    names, values = [], []
    for number, column in enumerate(inputs):
        if column.kind == "text":
            names += [f"data{number}", f"offsets{number}", f"valid{number}", f"ascii{number}"]
            value = (
                f"text_of(data{number}, offsets{number}[row], "
                f"offsets{number}[row + 1] - offsets{number}[row], ascii{number}, arena)"
            )
        else:
            names += [f"values{number}", f"valid{number}"]
            value = f"values{number}[row]" + (" != 0" if column.kind == "boolean" else "")
        values.append(f"optional{number}({value}, valid{number}, row)" if column.nullable else value)
    record = values[0] if len(values) == 1 else f"Row({', '.join(values)})"
    source = _DRIVER.format(columns=", ".join(names), record=record)
    namespace: dict[str, Any] = {
        "make": make_emit(emit_type),
        "user": njit(**_NUMBA_OPTIONS)(compiled_helpers(function, keywords)),
        "text_of": text_of,
        "Row": _row_class(inputs) if len(inputs) > 1 else None,
        "COUNT": COUNT,
        "CAPACITY": CAPACITY,
        "ROW": ROW,
        "MARK": MARK,
        "REJECTED": REJECTED,
        "COUNTERS": COUNTERS,
        "COUNTERS_END": COUNTERS_END,
        "SPARE": STAGE_SPARE_ROWS,
    }
    namespace |= {f"optional{number}": _optional for number, column in enumerate(inputs) if column.nullable}
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


@njit(**_NUMBA_OPTIONS)
def _optional(value, valid, row):
    """`value`, or None where the row is null."""
    if valid.size != 0 and valid[row] == 0:
        return None
    return value
