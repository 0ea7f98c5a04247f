"""What compiled functions may look up in side data: `in`, [], get, keys, values and items, as Python does.

With `sideiteration` this is all that is registered, so nothing else compiles: no code changes side data.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import lower_builtin

from kernelmill.kernels.functions.sidetypes import (
    SideDictType,
    SideListType,
    SideSetType,
    SideViewType,
)
from kernelmill.kernels.text.jitting import call
from kernelmill.kernels.text.lookups import find_int, find_text, number_is_among, text_is_among
from kernelmill.kernels.text.pointers import BYTES, WORDS
from kernelmill.kernels.text.strings import string_to_arena
from kernelmill.kernels.text.texttype import TEXT, utf8_of

_WORD, _BIT = ir.IntType(64), ir.IntType(1)
_FIND_INT = BYTES, types.uint64, BYTES, types.uint64, types.int64
_FIND_TEXT = BYTES, types.uint64, BYTES, BYTES, types.uint64, BYTES, types.int64


def struct(context: Any, builder: Any, of_type: Any, value: Any = None) -> Any:
    """A value's members, or those of one to be made."""
    return cgutils.create_struct_proxy(of_type)(context, builder, value=value)


# Items of lists ------------------------------------------------------------------------------------------------------


def item_at(context: Any, builder: Any, of_type: SideListType, column: Any, place: Any) -> Any:
    """Item `place` of a list, which it has; an Optional where the list has None among its items."""
    bare = _bare_item(context, builder, of_type, column, place)
    if not of_type.nullable:
        return bare
    valid = builder.icmp_unsigned(
        "!=", builder.load(builder.gep(column.validity, [place])), ir.Constant(ir.IntType(8), 0)
    )
    return _optional(context, builder, of_type.bare, bare, valid)


def _optional(context: Any, builder: Any, bare_type: Any, bare: Any, valid: Any) -> Any:
    made = context.make_helper(builder, types.Optional(bare_type))
    made.data, made.valid = bare, valid
    return made._getvalue()


def _is_set(builder: Any, bytes_: Any, place: Any) -> Any:
    return builder.icmp_unsigned("!=", builder.load(builder.gep(bytes_, [place])), ir.Constant(ir.IntType(8), 0))


def _bare_item(context: Any, builder: Any, of_type: SideListType, column: Any, place: Any) -> Any:
    if of_type.item == "text":
        start = builder.load(builder.gep(column.offsets, [place]))
        stop = builder.load(builder.gep(column.offsets, [builder.add(place, ir.Constant(_WORD, 1))]))
        text = struct(context, builder, TEXT)
        text.data, text.size = builder.gep(column.data, [start]), builder.sub(stop, start)
        text.is_ascii, text.arena = column.is_ascii, column.arena
        return text._getvalue()
    if of_type.item == "boolean":
        return builder.icmp_unsigned(
            "!=", builder.load(builder.gep(column.data, [place])), ir.Constant(ir.IntType(8), 0)
        )
    element = context.get_data_type(of_type.bare)
    return builder.load(builder.gep(builder.bitcast(column.data, element.as_pointer()), [place]))


@infer_global(operator.getitem)
class _ListItem(AbstractTemplate):
    def generic(self, args, kws):
        values, index = args
        if isinstance(values, SideListType) and isinstance(index, types.Integer | types.Boolean):
            return signature(values.yields, values, types.int64)
        return None


@lower_builtin(operator.getitem, SideListType, types.Integer)
def _list_item(context, builder, sig, args):
    of_type, index = sig.args[0], args[1]
    column = struct(context, builder, of_type, args[0])
    is_negative = builder.icmp_signed("<", index, ir.Constant(_WORD, 0))
    place = builder.select(is_negative, builder.add(index, column.count), index)
    with builder.if_then(builder.icmp_unsigned(">=", place, column.count), likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("list index out of range",))
    return item_at(context, builder, of_type, column, place)


# Look-ups ------------------------------------------------------------------------------------------------------------


def _may_be_key(key_kind: str, given: Any) -> bool:
    """True for the type of what may be looked up in a set of such keys, None among it."""
    if isinstance(given, types.Optional):
        given = given.type
    if key_kind == "none" or isinstance(given, types.NoneType):
        return given == TEXT or isinstance(given, types.Integer | types.NoneType | types.Literal | types.UnicodeType)
    if key_kind == "text":
        return given == TEXT or utf8_of(given) is not None or isinstance(given, types.UnicodeType)
    return isinstance(given, types.Integer | types.Boolean) and types.unliteral(given) != types.uint64


def _find(context: Any, builder: Any, set_type: SideSetType, table: Any, given: Any, value: Any) -> Any:
    """The number of the key that equals a value, -1 if none does."""
    nowhere = ir.Constant(_WORD, -1)
    if set_type.key_kind == "none" or isinstance(given, types.NoneType):
        return nowhere
    if isinstance(given, types.Optional):
        held = context.make_helper(builder, given, value)
        found = cgutils.alloca_once_value(builder, nowhere)
        with builder.if_then(held.valid):
            builder.store(_find(context, builder, set_type, table, given.type, held.data), found)
        return builder.load(found)
    keys = struct(context, builder, set_type, table)
    if set_type.key_kind == "int64":
        key = context.cast(builder, value, given, types.int64)
        return call(context, builder, find_int, _FIND_INT, (keys.slots, keys.mask, keys.rows, keys.seed, key))
    data, size = _bytes_of(context, builder, given, value, keys.arena)
    values = (keys.slots, keys.mask, keys.rows, keys.long_keys, keys.seed, data, size)
    return call(context, builder, find_text, _FIND_TEXT, values)


def _bytes_of(context: Any, builder: Any, given: Any, value: Any, arena: Any) -> tuple[Any, Any]:
    """Where a text is and its size, of a string literal and one of numba's own strings too."""
    if isinstance(given, types.UnicodeType):
        value = call(context, builder, string_to_arena, (given, WORDS), (value, arena))
    elif given != TEXT:
        value = context.cast(builder, value, given, TEXT)
    text = struct(context, builder, TEXT, value)
    return text.data, text.size


@infer_global(operator.contains)
class _Contains(AbstractTemplate):
    prefer_literal = True

    def generic(self, args, kws):
        container, item = args
        if isinstance(container, SideViewType) and container.part == "keys":
            container = container.of_dict
        if isinstance(container, SideSetType | SideDictType):
            return signature(types.boolean, *args) if _may_be_key(container.key_kind, item) else None
        if isinstance(container, SideListType) and _may_be_among(container, item):
            return signature(types.boolean, *args)
        return None


@lower_builtin(operator.contains, SideSetType, types.Any)
def _set_contains(context, builder, sig, args):
    group = _find(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    return builder.icmp_signed(">=", group, ir.Constant(_WORD, 0))


@lower_builtin(operator.contains, SideDictType, types.Any)
def _dict_contains(context, builder, sig, args):
    of_type = sig.args[0]
    table = struct(context, builder, of_type, args[0]).table
    group = _find(context, builder, of_type.set_type, table, sig.args[1], args[1])
    return builder.icmp_signed(">=", group, ir.Constant(_WORD, 0))


@lower_builtin(operator.contains, SideViewType, types.Any)
def _view_contains(context, builder, sig, args):
    of_type = sig.args[0]
    held = struct(context, builder, of_type, args[0]).of
    return _dict_contains(context, builder, signature(types.boolean, of_type.of_dict, sig.args[1]), (held, args[1]))


def _may_be_among(values: SideListType, given: Any) -> bool:
    """A list is searched for what it holds, without None: whatever else may equal its items.

    Python finds NaN in a list if it is the same object, so floats are not searched for.
    """
    if values.nullable or values.item == "float64":
        return False
    if values.item == "text":
        return given == TEXT or utf8_of(given) is not None or isinstance(given, types.UnicodeType)
    bare = types.unliteral(given)
    return bare == values.bare or (values.item == "int64" and isinstance(bare, types.Integer) and bare != types.uint64)


@lower_builtin(operator.contains, SideListType, types.Any)
def _list_contains(context, builder, sig, args):
    of_type, given = sig.args
    column = struct(context, builder, of_type, args[0])
    if of_type.item == "text":
        data, size = _bytes_of(context, builder, given, args[1], column.arena)
        kinds = (BYTES, WORDS, types.int64, BYTES, types.int64)
        return call(context, builder, text_is_among, kinds, (column.data, column.offsets, column.count, data, size))
    wanted = types.uint8 if of_type.item == "boolean" else of_type.bare
    pointer = types.CPointer(wanted)
    item = context.cast(builder, args[1], given, wanted)
    values = (builder.bitcast(column.data, context.get_value_type(pointer)), column.count, item)
    return call(context, builder, number_is_among, (pointer, types.int64, wanted), values)


@infer_global(operator.getitem)
class _DictItem(AbstractTemplate):
    prefer_literal = True

    def generic(self, args, kws):
        container, key = args
        if isinstance(container, SideDictType) and _may_be_key(container.key_kind, key):
            return signature(container.values_type.yields, *args)
        return None


@lower_builtin(operator.getitem, SideDictType, types.Any)
def _dict_item(context, builder, sig, args):
    of_type = sig.args[0]
    held = struct(context, builder, of_type, args[0])
    group = _find(context, builder, of_type.set_type, held.table, sig.args[1], args[1])
    with builder.if_then(builder.icmp_signed("<", group, ir.Constant(_WORD, 0)), likely=False):
        context.call_conv.return_user_exc(builder, KeyError, ("no such key",))
    values = struct(context, builder, of_type.values_type, held.values)
    return item_at(context, builder, of_type.values_type, values, group)


# get, keys, values, items --------------------------------------------------------------------------------------------

_GET, _KEYS, _VALUES, _ITEMS = (f"kernelmill.side.{name}" for name in ("get", "keys", "values", "items"))


class _GetTemplate(AbstractTemplate):
    """get(key) gives None for what is not there, get(key, default) a type that serves both."""

    prefer_literal = True
    key = _GET
    this: Any = None

    def generic(self, args, kws):
        if kws or not 1 <= len(args) <= 2 or not _may_be_key(self.this.key_kind, args[0]):
            return None
        found = self.this.values_type.yields
        given = args[1] if len(args) == 2 else types.none
        default = TEXT if utf8_of(given) is not None else types.unliteral(given)
        if self.this.key_kind == "none":  # nothing is ever found, and of no kind
            return signature(default, *args, recvr=self.this)
        if (_bare(found) == types.boolean) != (_bare(default) == types.boolean) and default != types.none:
            return None  # numba would make an int of True
        made = self.context.unify_types(found, default)
        return None if made is None else signature(made, *args, recvr=self.this)


def _bare(given: Any) -> Any:
    return given.type if isinstance(given, types.Optional) else given


class _PartTemplate(AbstractTemplate):
    key = ""
    this: Any = None

    def generic(self, args, kws):
        part = self.key.rpartition(".")[2]
        return None if args or kws else signature(SideViewType(self.this, part), recvr=self.this)


class _KeysTemplate(_PartTemplate):
    key = _KEYS


class _ValuesTemplate(_PartTemplate):
    key = _VALUES


class _ItemsTemplate(_PartTemplate):
    key = _ITEMS


@infer_getattr
class _DictMethods(AttributeTemplate):
    key = SideDictType

    def resolve_get(self, of_type):
        return types.BoundFunction(_GetTemplate, of_type)

    def resolve_keys(self, of_type):
        return types.BoundFunction(_KeysTemplate, of_type)

    def resolve_values(self, of_type):
        return types.BoundFunction(_ValuesTemplate, of_type)

    def resolve_items(self, of_type):
        return types.BoundFunction(_ItemsTemplate, of_type)


@lower_builtin(_GET, SideDictType, types.VarArg(types.Any))
def _get(context, builder, sig, args):
    of_type, wanted = sig.args[0], sig.return_type
    given = sig.args[2] if len(args) > 2 else types.none
    default = context.cast(builder, args[2] if len(args) > 2 else context.get_dummy_value(), given, wanted)
    if of_type.key_kind == "none":
        return default
    held = struct(context, builder, of_type, args[0])
    group = _find(context, builder, of_type.set_type, held.table, sig.args[1], args[1])
    made = cgutils.alloca_once_value(builder, default)
    with builder.if_then(builder.icmp_signed(">=", group, ir.Constant(_WORD, 0))):
        values = struct(context, builder, of_type.values_type, held.values)
        item = item_at(context, builder, of_type.values_type, values, group)
        builder.store(context.cast(builder, item, of_type.values_type.yields, wanted), made)
    return builder.load(made)


@lower_builtin(_KEYS, SideDictType)
@lower_builtin(_VALUES, SideDictType)
@lower_builtin(_ITEMS, SideDictType)
def _view(context, builder, sig, args):
    made = struct(context, builder, sig.return_type)
    made.of = args[0]
    return made._getvalue()
