"""A user's reduce(key, values, emit) as machine code, over groups whose rows stand side by side.

    drive(key columns..., value columns..., starts, ends, cursor, row, last, arena, stage, state)
        -> the first group not done

calls the reduce for groups [row, last): group g has the key in row g of the key columns and the rows [starts[g],
ends[g]) of the value columns. Stage, arena and state are those of a map (`usermaps`), a group standing for a record.
The cursor is where the values' iterator is, and where it ends: so there is one, whoever holds it, as in Python.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from kernelmill.kernels import _jit
from kernelmill.kernels._signature import Signature
from kernelmill.kernels.sidevalues import Bound, bind
from kernelmill.kernels.usercode import Input, Output, column_parameters, fingerprint, loaded, require_bound
from kernelmill.kernels.usermaps import CompiledMap

CURSOR_SIZE = 2


def compiled_reduce(
    function: Callable[..., Any] | Bound,
    keys: Sequence[Input],
    values: Sequence[Input],
    *,
    key_is_tuple: bool,
    value_is_tuple: bool,
    on_compile: Any = None,
) -> CompiledMap:
    """The reduce as machine code, from the cache or compiled now: what it emits is told as of a map.

    Raises CannotCompileError.
    """
    bound = function if isinstance(function, Bound) else bind([(function, 3)], {})
    require_bound(bound)
    plain = bound.function

    def compile_(symbol: str) -> Any:
        compiler = importlib.import_module("kernelmill.kernels.functions.reduces")
        return compiler.compile_reduce(plain, keys, values, key_is_tuple, value_is_tuple, symbol)

    name = fingerprint("reduce", plain, tuple(keys), tuple(values), key_is_tuple, value_is_tuple)
    title = getattr(plain, "__name__", "reduce")
    drive, about = loaded(name, title, compile_, lambda _: reduce_signature(keys, values), on_compile)
    outputs = tuple(Output(*one) for one in about["outputs"])
    return CompiledMap(drive, outputs, tuple(about["shape"]), tuple(about["counters"]), bound.side)


def reduce_signature(keys: Sequence[Input], values: Sequence[Input]) -> Signature:
    """The driver's, as above."""
    places = _jit.i64_in, _jit.i64_in, _jit.i64_out, _jit.i64, _jit.i64
    signature: Signature = _jit.i64(
        *column_parameters(keys), *column_parameters(values), *places, _jit.i64_out, _jit.i64_out, _jit.i64_out
    )
    return signature
