"""Whole numbers that Python makes of bools and whole numbers, and numba does not: -flag, ~flag, round(n, digits).

To numba ~flag is a bool, -flag of one that may be None 255, and round(n, digits) a float.
Importing this module tells numba. They serve users' functions alone, before numba's own.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.jitting import call, compiles_users_function, helper

_FIRST = {"target": "cpu"}
"""numba tries what is for this target before what is for any."""


def _bare(given: Any) -> Any:
    """The type without None: of None compiled code raises, and Python is asked."""
    return given.type if isinstance(given, types.Optional) else given


def _register_unary(operation: Any, of_int: Any) -> None:
    """Let `operation` of a bool be that of the int 0 or 1; `of_int(builder, value)` makes the code."""

    class Template(AbstractTemplate):
        key = operation
        metadata = _FIRST

        def generic(self, args, kws):
            is_flag = not kws and len(args) == 1 and isinstance(_bare(args[0]), types.Boolean)
            return signature(types.int64, types.boolean) if is_flag and compiles_users_function() else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.return_type == types.boolean:  # numba's own, of kernels
            return builder.not_(args[0])
        return of_int(builder, context.cast(builder, args[0], types.boolean, types.int64))

    infer_global(operation)(Template)
    lower_builtin(operation, types.boolean)(lower)


_register_unary(operator.neg, lambda builder, value: builder.neg(value))
_register_unary(operator.pos, lambda _, value: value)
_register_unary(operator.invert, lambda builder, value: builder.not_(value))
_register_unary(abs, lambda _, value: value)


@helper
def rounded(value: Any, digits: Any) -> Any:
    """round(value, digits) of whole numbers: halves go to the even neighbour. Raises where that may be no int64."""
    if digits >= 0:
        return value
    if digits < -18 or not -9000000000000000000 <= value <= 9000000000000000000:
        raise OverflowError("beyond the powers of ten of an int64")
    unit = 1
    for _ in range(-digits):
        unit *= 10
    below = value // unit
    rest = value - below * unit
    if rest > unit // 2 or (rest == unit // 2 and below % 2 == 1):
        below += 1
    return below * unit


@infer_global(round)
class _Round(AbstractTemplate):
    key = round
    metadata = _FIRST

    def generic(self, args, kws):
        are_whole = all(isinstance(_bare(one), types.Integer | types.Boolean) for one in args)
        if kws or len(args) != 2 or not are_whole or not compiles_users_function():
            return None
        return signature(types.int64, types.int64, types.int64)


@lower_builtin(round, types.int64, types.int64)
def _round(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return call(context, builder, rounded, (types.int64, types.int64), args)
