"""Numbers that may be None in users' functions: their truth, and whether a range holds them.

numba has no bool of an Optional, and says of any that no range holds it. Importing this module tells it; they serve
users' functions alone, before numba's own.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.jitting import call, compiles_users_function, helper

_FIRST = {"target": "cpu"}
"""numba tries what is for this target before what is for any."""


def _bare(given: Any) -> Any:
    """The type without its None."""
    return given.type if isinstance(given, types.Optional) else given


# Truth ---------------------------------------------------------------------------------------------------------------


def _register_truth(name: Any, *, is_negated: bool) -> None:
    class Template(AbstractTemplate):
        key = name
        metadata = _FIRST

        def generic(self, args, kws):
            if kws or len(args) != 1 or not isinstance(args[0], types.Optional) or not compiles_users_function():
                return None
            return signature(types.boolean, args[0]) if isinstance(args[0].type, types.Integer | types.Float) else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0].type
        held = context.make_helper(builder, sig.args[0], args[0])
        is_there = cgutils.as_bool_bit(builder, held.valid)
        zero = ir.Constant(held.data.type, 0)
        compared = builder.fcmp_unordered if isinstance(kind, types.Float) else builder.icmp_unsigned
        found = builder.and_(is_there, compared("!=", held.data, zero))  # a NaN is true, as in Python
        return builder.not_(found) if is_negated else found

    infer_global(name)(Template)
    lower_builtin(name, types.Optional)(lower)


for _name in (bool, operator.truth, operator.not_):
    _register_truth(_name, is_negated=_name is operator.not_)


# Ranges --------------------------------------------------------------------------------------------------------------


@helper
def _holds_whole(numbers: Any, value: Any) -> Any:
    """True if a range holds this int64."""
    if numbers.step > 0:
        if value < numbers.start or value >= numbers.stop:
            return False
        past, step = np.uint64(value) - np.uint64(numbers.start), np.uint64(numbers.step)
    else:
        if value > numbers.start or value <= numbers.stop:
            return False
        past, step = np.uint64(numbers.start) - np.uint64(value), np.uint64(0) - np.uint64(numbers.step)
    return past % step == np.uint64(0)


@helper
def _holds_float(numbers: Any, value: Any) -> Any:
    """True if a range holds the int that this float64 is."""
    if not (-9223372036854775808.0 <= value < 9223372036854775808.0):
        return False
    whole = np.int64(value)
    return np.float64(whole) == value and _holds_whole(numbers, whole)


@infer_global(operator.contains)
class _InRange(AbstractTemplate):
    metadata = _FIRST

    def generic(self, args, kws):
        if kws or len(args) != 2 or not isinstance(args[0], types.RangeType) or not compiles_users_function():
            return None
        bare = _bare(args[1])
        if bare == types.uint64 or not isinstance(bare, types.Integer | types.Boolean | types.Float):
            return None
        passed = types.float64 if isinstance(bare, types.Float) else types.int64
        may_be_none = isinstance(args[1], types.Optional)
        return signature(types.boolean, args[0], types.Optional(passed) if may_be_none else passed)


def _is_in_range(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = _bare(sig.args[1])
    holds = _holds_float if isinstance(kind, types.Float) else _holds_whole
    if kind is sig.args[1]:
        return call(context, builder, holds, sig.args, args)
    held = context.make_helper(builder, sig.args[1], args[1])
    found = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(1), 0))
    with builder.if_then(cgutils.as_bool_bit(builder, held.valid)):  # no range holds None
        builder.store(call(context, builder, holds, (sig.args[0], kind), (args[0], held.data)), found)
    return builder.load(found)


for _kind in (types.int64, types.float64, types.Optional(types.int64), types.Optional(types.float64)):
    lower_builtin(operator.contains, types.RangeType, _kind)(_is_in_range)
