"""The numba type of a reduce's `values`: an iterator over rows of columns, used up once it was gone through.

Its place is in the driver's cursor. `sum`, `min` and `max` do as Python's, to the last bit; what numba does with any
iterator it does with these: for, list, set, sorted, enumerate, zip, any, all.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import RefType, iternext_impl, lower_builtin
from numba.core.types.common import SimpleIteratorType
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from kernelmill.kernels.functions.driving import column_values, tuple_text, tuple_type
from kernelmill.kernels.text.jitting import call, helper, result_type, user_function
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.usercode import Input

_WORD = ir.IntType(64)


def _read(of_type: Any) -> Any:
    return types.Array(of_type, 1, "C", readonly=True)


_COLUMN: dict[str, tuple[Any, ...]] = {
    "text": (_read(types.uint8), _read(types.int32), _read(types.int32), _read(types.uint8), types.boolean),
    "int64": (_read(types.int64), _read(types.uint8)),
    "float64": (_read(types.float64), _read(types.uint8)),
    "boolean": (_read(types.uint8), _read(types.uint8)),
}


class ValuesType(SimpleIteratorType):
    """The iterator over rows of `columns`, as tuples or as the values of an only column.

    is_used_up: it can be gone through once. held: the numba type of the columns' arrays and the arena.
    value_at(held, row): a row's value, for compiled code.
    """

    is_used_up = True

    def __init__(self, columns: Sequence[Input], *, is_tuple: bool) -> None:
        parts = [part for column in columns for part in _COLUMN[column.kind]]
        self.held = types.Tuple([*parts, types.Array(types.int64, 1, "C")])
        names, values, namespace = column_values(columns)
        self.names = names
        value = tuple_text(values, is_tuple=is_tuple)
        source = f"def value_at(held, row):\n    {', '.join(names)}, arena = held\n    return {value}\n"
        exec(source, namespace)
        self.value_at = user_function(namespace["value_at"])
        name = f"Values({[column[1:] for column in columns]}, {is_tuple})"
        super().__init__(name, tuple_type(columns, is_tuple=is_tuple))


@register_model(ValuesType)
class _ValuesModel(models.StructModel):
    def __init__(self, manager, of_type):
        super().__init__(manager, of_type, [("cursor", WORDS), ("held", of_type.held)])


def make_values(values_type: ValuesType) -> Any:
    """Make `values(cursor, held)`: the iterator of that type, in compiled code."""

    @intrinsic
    def values(typingctx, cursor, held):
        def codegen(context, builder, sig, args):
            made = cgutils.create_struct_proxy(values_type)(context, builder)
            made.cursor = context.make_array(sig.args[0])(context, builder, args[0]).data
            made.held = args[1]
            return made._getvalue()

        return values_type(cursor, values_type.held), codegen

    return values


@lower_builtin("iternext", ValuesType)
@iternext_impl(RefType.UNTRACKED)
def _next(context, builder, sig, args, result):
    (kind,) = sig.args
    me = cgutils.create_struct_proxy(kind)(context, builder, value=args[0])
    place = builder.load(me.cursor)
    end = builder.load(builder.gep(me.cursor, [ir.Constant(_WORD, 1)]))
    is_valid = builder.icmp_signed("<", place, end)
    result.set_valid(is_valid)
    with builder.if_then(is_valid):
        builder.store(builder.add(place, ir.Constant(_WORD, 1)), me.cursor)
        result.yield_(call(context, builder, kind.value_at, (kind.held, types.int64), (me.held, place)))


# sum, min, max --------------------------------------------------------------------------------------------------------


@helper
def _sum(values: Any) -> Any:
    total = 0
    for value in values:
        total += value
    return total


@helper
def _sum_compensated(values: Any) -> Any:
    """As Python 3.12 and later add floats: Neumaier's sum."""
    total = lost = 0.0
    for value in values:
        moved = total + value
        if math.fabs(total) >= math.fabs(value):
            lost += (total - moved) + value
        else:
            lost += (value - moved) + total
        total = moved
    return total + lost if lost != 0.0 and math.isfinite(lost) else total


@helper
def _least(values: Any) -> Any:
    for best in values:
        for value in values:
            if value < best:
                best = value
        return best
    raise ValueError("min() arg is an empty sequence")


@helper
def _greatest(values: Any) -> Any:
    for best in values:
        for value in values:
            if value > best:
                best = value
        return best
    raise ValueError("max() arg is an empty sequence")


def _summing(kind: Any) -> Any:
    bare = kind.type if isinstance(kind, types.Optional) else kind
    return _sum_compensated if isinstance(bare, types.Float) and sys.version_info >= (3, 12) else _sum


def _register(builtin: Any, choose: Any) -> None:
    @infer_global(builtin)
    class Template(AbstractTemplate):
        key = builtin

        def generic(self, args, kws):
            if kws or len(args) != 1 or not isinstance(args[0], ValuesType):
                return None
            return signature(result_type(choose(args[0].yield_type), (args[0],)), args[0])

    @lower_builtin(builtin, ValuesType)
    def lower(context, builder, sig, args):
        return call(context, builder, choose(sig.args[0].yield_type), (sig.args[0],), args)


_register(sum, _summing)
_register(min, lambda _: _least)
_register(max, lambda _: _greatest)
