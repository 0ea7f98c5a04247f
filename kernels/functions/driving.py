"""What the drivers of all kinds of functions share: columns as values, types of results, object code."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.core import errors
from numba.core.registry import cpu_target

from kernelmill.kernels._cache import Code
from kernelmill.kernels._compile import Compiler
from kernelmill.kernels._loader import headers_are_known, missing_names
from kernelmill.kernels._signature import Signature
from kernelmill.kernels.functions import (  # noqa: F401 - they tell numba
    builtins,
    extremes,
    formats,
    keptiterators,
    maybenumbers,
    mixed,
    splitlists,
    strings,
    whole,
)
from kernelmill.kernels.functions.keeping import keep_helpers
from kernelmill.kernels.functions.reasons import explained
from kernelmill.kernels.functions.side import with_side_and_defaults
from kernelmill.kernels.functions.silent import place_of
from kernelmill.kernels.functions.titles import title_of
from kernelmill.kernels.text import jitting
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.library import TEXT, text_of_row
from kernelmill.kernels.usercode import CannotCompileError, Input, Output

KINDS = {"text": TEXT, "int64": types.int64, "float64": types.float64, "boolean": types.boolean}


def result_type(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a function that `compiled_helpers` made returns for arguments of these types. Raises CannotCompileError.

    It is compiled, for a driver to call. Where side data comes from is not among the arguments.
    """
    keep_helpers()
    cpu_target.typing_context.refresh()  # as numba's own entry does: to learn what was registered since the last time
    cpu_target.target_context.refresh()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.NumbaWarning)  # they are about numba's own ways
            return jitting.result_type(function, with_side_and_defaults(function, arguments))
    except CannotCompileError as problem:
        if problem.line is None:  # raised in the midst of numba, which was at some line of the function
            problem.path, problem.line = place_of(problem) or (None, None)
        raise
    except Exception as problem:  # numba lets out what its own insides raise, too
        raise explained(problem, function, arguments) from problem


def entry_point(driver: Callable[..., Any], signature: Signature, symbol: str) -> tuple[Code | None, Any]:
    """The driver's code, or a function of numba's where ours cannot be called. Raises CannotCompileError.

    It does so too where the code calls a name that nothing here has: linking it would end the process.
    """
    try:
        code = Code(*Compiler({}).object_code(driver, signature, symbol))
        missing = missing_names(code.calls)
        if missing:
            raise CannotCompileError(f"its machine code lacks what it calls: {', '.join(missing)[:200]}")
        return (code, None) if headers_are_known() else (None, Compiler({}).dispatcher(driver, signature))
    except errors.NumbaError as problem:
        raise explained(problem, None) from problem


def column_type(column: Input) -> Any:
    """The numba type of a column's values."""
    return types.Optional(KINDS[column.kind]) if column.nullable else KINDS[column.kind]


def record_type(inputs: Sequence[Input], *, is_row: bool) -> Any:
    """The numba type of a record: a named tuple of columns, or the value of the only one."""
    kinds = [column_type(one) for one in inputs]
    return types.NamedTuple(kinds, row_class(inputs)) if is_row else kinds[0]


def row_class(inputs: Sequence[Input]) -> Any:
    """The class of records of several columns."""
    return namedtuple("Row", [one.name for one in inputs], rename=True)


def tuple_type(inputs: Sequence[Input], *, is_tuple: bool) -> Any:
    """The numba type of a key or value: that of an only column, or a tuple of all."""
    kinds = [column_type(one) for one in inputs]
    return types.BaseTuple.from_types(kinds) if is_tuple else kinds[0]


def tuple_text(values: Sequence[str], *, is_tuple: bool) -> str:
    """The expression for a key or value made of these."""
    return f"({', '.join(values)},)" if is_tuple else values[0]


def column_values(inputs: Sequence[Input], stem: str = "") -> tuple[list[str], list[str], dict[str, Any]]:
    """For a driver's source: its parameters for the columns, the expression of each column at `row`, its names.

    Places are unsigned, for numba looks at each signed one whether it counts from the end.
    """
    names: list[str] = []
    values: list[str] = []
    for number, column in enumerate(inputs):
        at = f"{stem}{number}"
        if column.kind == "text":
            names += [f"data{at}", f"starts{at}", f"ends{at}", f"valid{at}", f"told{at}"]
            value = f"text_of_row(data{at}, starts{at}[u64(row)], ends{at}[u64(row)], told{at}, arena)"
        else:
            names += [f"values{at}", f"valid{at}"]
            value = f"values{at}[u64(row)]" + (" != 0" if column.kind == "boolean" else "")
        values.append(f"optional{at}({value}, valid{at}, row)" if column.nullable else value)
    # a function for each column: one alone would have one type of value
    namespace: dict[str, Any] = {f"optional{stem}{n}": _optional for n, one in enumerate(inputs) if one.nullable}
    return names, values, {"text_of_row": text_of_row, "u64": np.uint64, **namespace}


def unified(kinds: Iterable[Any], place: str) -> Output:
    """The column for values of all these types; CannotCompileError, which begins with `place`, if there is none."""
    kinds = list(kinds)
    nullable = any(isinstance(kind, types.NoneType | types.Optional) for kind in kinds)
    bare = {types.unliteral(kind.type if isinstance(kind, types.Optional) else kind) for kind in kinds}
    bare = {kind for kind in bare if not isinstance(kind, types.NoneType)}
    if bare == {TEXT}:
        return Output("text", nullable)
    if bare == {types.boolean}:
        return Output("boolean", nullable)
    if bare and all(isinstance(kind, types.Integer) for kind in bare):
        return Output("int64", nullable)
    if bare and all(isinstance(kind, types.Integer | types.Float) for kind in bare):
        return Output("float64", nullable)
    names = sorted({_title_in_place(kind) for kind in bare})
    together = " in one place" if len(names) > 1 else ""
    raise CannotCompileError(f"{place} {' and '.join(names) or 'nothing but None'}{together}")


def _title_in_place(kind: Any) -> str:
    return "a tuple in a tuple" if isinstance(kind, types.BaseTuple) else title_of(kind)


@helper
def _optional(value, valid, row):
    """`value`, or None where the row is null."""
    if valid.size != 0 and valid[row] == 0:
        return None
    return value
