"""How compiled functions go through side data: iteration, len and tests of lists, dicts and their views; tables.

Sets are not iterated over, for their order in Python is another in each process.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.core.imputils import RefType, iternext_impl
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import lower_builtin, lower_getattr

from kernelmill.kernels.functions.sideoperations import item_at, struct
from kernelmill.kernels.functions.sidetypes import (
    SideDictType,
    SideIterableType,
    SideIteratorType,
    SideListType,
    SideSetType,
    SideTableType,
    SideViewType,
)

_WORD = ir.IntType(64)
_SIZED = (SideListType, SideSetType, SideDictType, SideViewType, SideTableType)


# len, bool -----------------------------------------------------------------------------------------------------------


def _count(context: Any, builder: Any, of_type: Any, value: Any) -> Any:
    held = struct(context, builder, of_type, value)
    if isinstance(of_type, SideDictType):
        return struct(context, builder, of_type.keys_type, held.keys).count
    if isinstance(of_type, SideViewType):
        return _count(context, builder, of_type.of_dict, held.of)
    return held.count


def _sized(name: Any, returned: Any, comparison: str) -> None:
    """Let `name` tell the number of items; or compare it with 0."""

    class Template(AbstractTemplate):
        key = name

        def generic(self, args, kws):
            return signature(returned, *args) if len(args) == 1 and isinstance(args[0], _SIZED) else None

    infer_global(name)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = _count(context, builder, sig.args[0], args[0])
        return builder.icmp_signed(comparison, count, ir.Constant(_WORD, 0)) if comparison else count

    for kind in _SIZED:
        lower_builtin(name, kind)(lower)


_sized(len, types.int64, "")
_sized(bool, types.boolean, "!=")
_sized(operator.truth, types.boolean, "!=")
_sized(operator.not_, types.boolean, "==")


# Tables --------------------------------------------------------------------------------------------------------------


@infer
class _TableColumn(AbstractTemplate):
    """A constant index is found by a rewrite of numba's, which not all ways to its types apply."""

    key: Any = "static_getitem"

    def generic(self, args, kws):
        table, name = args
        name = name.literal_value if isinstance(name, types.StringLiteral) else name
        if not isinstance(table, SideTableType) or not isinstance(name, str):
            return None
        if name in table.unread:
            raise errors.TypingError(f"column {name!r} holds {table.unread[name]}: known to Python functions only")
        return signature(table.column(name), *args) if name in table.numbers else None


@infer_global(operator.getitem)
class _TableColumnByName(_TableColumn):
    key = operator.getitem
    prefer_literal = True


@lower_builtin("static_getitem", SideTableType, types.StringLiteral)
@lower_builtin(operator.getitem, SideTableType, types.StringLiteral)
def _table_column(context, builder, sig, args):
    of_type, name = sig.args
    name = name.literal_value if isinstance(name, types.StringLiteral) else args[1]
    return getattr(struct(context, builder, of_type, args[0]), f"column{of_type.numbers[name]}")


@infer_getattr
class _TableAttributes(AttributeTemplate):
    key = SideTableType

    def resolve_num_rows(self, of_type):
        return types.int64


@lower_getattr(SideTableType, "num_rows")
def _num_rows(context, builder, of_type, value):
    return struct(context, builder, of_type, value).count


# Iteration -----------------------------------------------------------------------------------------------------------


@lower_builtin("getiter", SideIterableType)
def _getiter(context, builder, sig, args):
    made = struct(context, builder, sig.return_type)
    made.source = args[0]
    made.next = cgutils.alloca_once_value(builder, ir.Constant(_WORD, 0))
    return made._getvalue()


@lower_builtin("iternext", SideIteratorType)
@iternext_impl(RefType.UNTRACKED)
def _iternext(context, builder, sig, args, result):
    source = sig.args[0].source
    iterator = struct(context, builder, sig.args[0], args[0])
    place = builder.load(iterator.next)
    is_valid = builder.icmp_signed("<", place, _count(context, builder, source, iterator.source))
    result.set_valid(is_valid)
    with builder.if_then(is_valid):
        builder.store(builder.add(place, ir.Constant(_WORD, 1)), iterator.next)
        result.yield_(_yielded(context, builder, source, iterator.source, place))


def _yielded(context: Any, builder: Any, source: Any, value: Any, place: Any) -> Any:
    """What an iteration over `source` gives at a place."""
    held = struct(context, builder, source, value)
    match source:
        case SideListType():
            return item_at(context, builder, source, held, place)
        case SideDictType():
            column = struct(context, builder, source.keys_type, held.keys)
            return item_at(context, builder, source.keys_type, column, place)
        case SideViewType(part="keys"):
            return _yielded(context, builder, source.of_dict, held.of, place)
    of_dict = source.of_dict
    values = struct(context, builder, of_dict, held.of).values
    item = _yielded(context, builder, of_dict.values_type, values, place)
    if source.part == "values":
        return item
    key = _yielded(context, builder, of_dict, held.of, place)
    return context.make_tuple(builder, source.yields, (key, item))
