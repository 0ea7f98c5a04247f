"""Ints beside floats in users' functions, which numba makes floats first.

Comparisons are exact, as Python's. Where an int must become a float, as in a variable that holds the one or the other,
only one that stays what it is does: others raise, and are Python's.
Importing this module tells numba. They serve users' functions alone, before numba's own.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast

from kernelmill.kernels.text.jitting import call, compiles_users_function, helper
from kernelmill.kernels.usercode import CannotCompileError

_EXACT = 1 << 53
"""Up to here each whole number is a float."""

_INT_FIRST, _FLOAT_FIRST = (types.int64, types.float64), (types.float64, types.int64)
_FIRST = {"target": "cpu"}
"""numba tries what is for this target before what is for any."""
_TURNED = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
    operator.eq: operator.eq,
    operator.ne: operator.ne,
}


@helper
def order_of(whole: Any, other: Any) -> Any:
    """Below 0, 0 or above 0 as an int64 is below, at or above a float64; NaN where that is NaN."""
    if -_EXACT <= whole <= _EXACT or other != other:
        return float(whole) - other  # 0 only if both are the same: IEEE 754 has subnormals for that
    if other >= 9223372036854775808.0:
        return -1.0
    if other < -9223372036854775808.0:
        return 1.0
    there = np.int64(other)  # a float with a fraction is far below or above such an int
    return -1.0 if whole < there else 1.0 if whole > there else 0.0


def _register(operation: Any) -> None:
    class Template(AbstractTemplate):
        key = operation
        metadata = _FIRST

        def generic(self, args, kws):
            if kws or len(args) != 2 or not compiles_users_function():
                return None
            _refuse_lists(*args)
            _refuse_tuples(*args, are_ordered=operation not in (operator.eq, operator.ne))
            for kinds in (_INT_FIRST, _FLOAT_FIRST):
                if all(_is_passed_as(kind, one) for kind, one in zip(kinds, args, strict=True)):
                    return signature(types.boolean, *kinds)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any, compare: Any = operation, turn: bool = False) -> Any:
        values = args[::-1] if turn else args
        found = call(context, builder, order_of, _INT_FIRST, values)
        zero = context.get_constant(types.float64, 0.0)
        both = signature(types.boolean, types.float64, types.float64)
        return context.get_function(compare, both)(builder, (found, zero))

    def lower_turned(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return lower(context, builder, sig, args, _TURNED[operation], turn=True)

    infer_global(operation)(Template)
    lower_builtin(operation, *_INT_FIRST)(lower)
    lower_builtin(operation, *_FLOAT_FIRST)(lower_turned)


@helper
def _becomes_a_float(whole: Any) -> Any:
    """float(whole), if that is the same number."""
    if not -_EXACT <= whole <= _EXACT:
        raise OverflowError("beyond the whole numbers of a float")
    return float(whole)


@lower_cast(types.int64, types.float64)
def _made_a_float(context: Any, builder: Any, fromty: Any, toty: Any, val: Any) -> Any:
    is_small = isinstance(val, ir.Constant) and abs(val.constant) <= _EXACT
    if is_small or not compiles_users_function():
        return builder.sitofp(val, context.get_value_type(toty))
    return call(context, builder, _becomes_a_float, (types.int64,), (val,))


def _refuse_lists(first: Any, second: Any) -> None:
    """Raise CannotCompileError for lists of numbers that may be None, of which numba makes code that LLVM refuses."""
    for one in (first, second):
        item = one.dtype if isinstance(one, types.List) else None
        if isinstance(item, types.Optional) and isinstance(item.type, types.Number | types.Boolean):
            raise CannotCompileError(
                "comparing lists that hold a number that may be None is not supported: compare their items"
            )


def _refuse_tuples(first: Any, second: Any, *, are_ordered: bool) -> None:
    """Raise CannotCompileError for tuples whose items numba would change to compare them, or fail to."""
    if not isinstance(first, types.BaseTuple) or not isinstance(second, types.BaseTuple):
        return
    for one, other in zip(_items(first), _items(second), strict=False):
        _refuse_tuples(one, other, are_ordered=are_ordered)
        bare = [kind.type if isinstance(kind, types.Optional) else kind for kind in (one, other)]
        if are_ordered and bare != [one, other]:
            raise CannotCompileError(
                "comparing tuples that hold texts or numbers that may be None is not supported: "
                "compare their items, one by one"
            )
        if not all(isinstance(kind, types.Number | types.Boolean) for kind in bare):
            continue
        if bare != [one, other]:
            raise CannotCompileError(
                "comparing tuples that hold a number that may be None is not supported: compare their items"
            )
        if isinstance(one, types.Float) != isinstance(other, types.Float):
            raise CannotCompileError(
                "comparing tuples that hold an int and a float in one place is not supported: compare their items"
            )


def _items(kind: Any) -> tuple[Any, ...]:
    return tuple(kind)


def _is_passed_as(kind: Any, given: Any) -> bool:
    """True if it is an int or a float, as `kind` is, or may be None: of None compiled code raises."""
    bare: Any = given.type if isinstance(given, types.Optional) else given
    if kind == types.float64:
        return isinstance(bare, types.Float)
    return isinstance(bare, types.Integer) and bare != types.uint64


for _operation in _TURNED:
    _register(_operation)
