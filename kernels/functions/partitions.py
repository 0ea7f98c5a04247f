"""Compile a user's partition(key, n): a driver that asks it for each key of a batch. See `kernels/userpartitions`."""
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import types

from kernelmill.kernels.functions.callables import plain_function
from kernelmill.kernels.functions.driving import (
    column_values,
    entry_point,
    result_type,
    tuple_text,
    tuple_type,
)
from kernelmill.kernels.functions.side import side_of, side_text
from kernelmill.kernels.functions.titles import title_of
from kernelmill.kernels.text.arena import USED
from kernelmill.kernels.usercode import CannotCompileError, Compiled, Input
from kernelmill.kernels.userpartitions import ROW, SIDE, partition_signature


def compile_partition(function: Callable[..., Any], keys: Sequence[Input], is_tuple: bool, symbol: str) -> Compiled:
    """Compile `function` for keys of these columns; its entry point is `symbol`. Raises CannotCompileError."""
    user = plain_function(function, 2)
    returned = types.unliteral(result_type(user, (tuple_type(keys, is_tuple=is_tuple), types.int64)))
    if str(returned) not in ("int64", "int32"):  # not bool, which Python refuses too
        raise CannotCompileError(f"it returns {title_of(returned)}, and a partition is an int")
    parameters, values, namespace = column_values(keys)
    key = tuple_text(values, is_tuple=is_tuple)
    source = _DRIVER.format(columns=", ".join(parameters), key=key, side=side_text(user))
    namespace |= {"user": user, "side_of": side_of, "ROW": ROW, "SIDE": SIDE, "USED": USED}
    exec(compile(source, "<driver of a partition function>", "exec"), namespace)
    code, made = entry_point(namespace["drive"], partition_signature(keys), symbol)
    return Compiled(code, made, {})


_DRIVER = """
def drive({columns}, n, row, last, arena, parts, state):
    side = side_of(state[SIDE], arena)
    while row < last:
        state[ROW] = row
        arena[USED] = 0
        part = user({side}{key}, n)
        if part < 0 or part >= n:
            return row
        parts[row] = part
        row += 1
    return row
"""
