"""The numba type of `emit`: what a compiled map calls to stage a row, to count, to reject its record.

What is emitted is known from typing: each call's argument types are noted in the type (`seen`, whole numbers of the
code as literals), its counters' names in `counters`, and which of key and value are tuples (`shapes`).
`kernels/usermaps` says how rows are staged.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, signature
from numba.extending import intrinsic, models, register_model

from kernelmill.kernels.functions.driving import KINDS, unified
from kernelmill.kernels.text.jitting import call
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.text.strings import string_to_arena
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.usercode import CannotCompileError, Output
from kernelmill.kernels.usermaps import CAPACITY, COUNT, COUNTERS, COUNTERS_MAX, OVERFULL, REJECTED

_WORD = ir.IntType(64)
_TUPLE: Any = types.BaseTuple


class EmitType(types.Callable):
    """The type of one function's `emit`.

    columns: the numba types of what is staged, None for what is not, if they are known. Else they follow from the calls
    seen when the first of them is compiled: that is before all are seen only where a helper of the function emits too.
    """

    def __init__(self, name: str, columns: tuple[Any, ...] | None = None) -> None:
        self.columns = columns
        self.seen: list[tuple[Any, ...]] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.counters: list[str] = []
        super().__init__(name=f"Emit({name})")

    @property
    def key(self):
        """Two functions' emits are never one type, though their names may agree."""
        return self.name, id(self)

    def get_call_type(self, context, args, kws):
        """A call emits a row; its key and value may each be a tuple."""
        if kws:
            raise errors.TypingError("emit takes its key and value in order, without names")
        if not 1 <= len(args) <= 2:
            raise errors.TypingError("emit takes a key and a value, or a key alone")
        emitted = self.emitted(args)
        self.shapes.add(tuple(len(one) if isinstance(one, _TUPLE) else -1 for one in emitted))
        self.seen.append(tuple(map(_seen, _flat(emitted))))
        return signature(types.void, *args, recvr=self)

    def emitted(self, args):
        """The types of the key, and of the value if there is one, that a call with these arguments emits."""
        return args

    def get_call_signatures(self):
        """Any arguments."""
        return (), True

    def get_impl_key(self, sig):
        """Each emit type has an implementation of its own."""
        return type(self)

    def outputs(self) -> tuple[Output, ...]:
        """The columns for all calls seen. Raises CannotCompileError where there are none."""
        if not self.seen:
            raise CannotCompileError("it never calls emit")
        if len(self.shapes) > 1:
            raise CannotCompileError("its calls of emit differ in how many values they give")
        return tuple(map(_column, zip(*self.seen, strict=True)))

    def wanted(self) -> tuple[Any, ...]:
        """The numba types of what is to be staged for all calls seen, as `columns`."""
        return tuple(KINDS[one.kind] if one.constant is None else None for one in self.outputs())

    def staged(self) -> tuple[Any, ...]:
        """The numba types of what is staged, from now on."""
        if self.columns is None:
            self.columns = self.wanted()
        return self.columns


def _column(kinds) -> Output:
    column = unified(kinds, "emit is called with")
    values = {kind.literal_value if isinstance(kind, types.IntegerLiteral) else None for kind in kinds}
    return column._replace(constant=values.pop()) if column.kind == "int64" and len(values) == 1 else column


def _flat(args):
    for one in args:
        if isinstance(one, _TUPLE):
            yield from _flat(one)
        else:
            yield one


def _seen(kind):
    if isinstance(kind, types.Optional):
        return types.Optional(_seen(kind.type))
    if isinstance(kind, types.StringLiteral | types.UnicodeType):
        return TEXT
    return kind if isinstance(kind, types.IntegerLiteral) else types.unliteral(kind)


@register_model(EmitType)
class _EmitModel(models.StructModel):
    def __init__(self, manager, of_type):
        super().__init__(manager, of_type, [("stage", WORDS), ("state", WORDS), ("arena", WORDS)])


def make_emit(emit_type: EmitType) -> Any:
    """Make `emit(stage, state, arena)`: the emit of that type over three arrays, in compiled code."""

    @intrinsic
    def emit(typingctx, stage, state, arena):
        def codegen(context, builder, sig, args):
            made = cgutils.create_struct_proxy(emit_type)(context, builder)
            made.stage = context.make_array(sig.args[0])(context, builder, args[0]).data
            made.state = context.make_array(sig.args[1])(context, builder, args[1]).data
            made.arena = context.make_array(sig.args[2])(context, builder, args[2]).data
            return made._getvalue()

        return emit_type(stage, state, arena), codegen

    return emit


def _at(builder, pointer, place):
    place = ir.Constant(_WORD, place) if isinstance(place, int) else place
    return builder.gep(pointer, [place])


@lower_builtin(EmitType, types.VarArg(types.Any))
def _emit_row(context, builder, sig, args):
    of_type = sig.recvr if sig.recvr is not None else sig.args[0]
    me = cgutils.create_struct_proxy(of_type)(context, builder, value=args[0])
    kinds = sig.args[1:] if sig.recvr is None else sig.args
    return stage_row(context, builder, of_type, me, kinds, args[1:])


def stage_row(context, builder, of_type, me, kinds, given):
    """Code that stages a row of a key and a value of these types; `me` is the emit."""
    count = builder.load(_at(builder, me.state, COUNT))
    capacity = builder.load(_at(builder, me.state, CAPACITY))
    with builder.if_then(builder.icmp_signed(">=", count, capacity), likely=False):
        builder.store(ir.Constant(_WORD, 1), _at(builder, me.state, OVERFULL))
        context.call_conv.return_user_exc(builder, MemoryError, ("more rows than fit",))
    values = list(_flat_values(context, builder, kinds, given))
    staged = ((one, wanted) for one, wanted in zip(values, of_type.staged(), strict=True) if wanted is not None)
    for number, ((given, value), wanted) in enumerate(staged):
        first, second = _words_of(context, builder, given, wanted, value, me.arena)
        base = builder.add(builder.mul(capacity, ir.Constant(_WORD, 2 * number)), count)
        builder.store(first, _at(builder, me.stage, base))
        builder.store(second, _at(builder, me.stage, builder.add(base, capacity)))
    builder.store(builder.add(count, ir.Constant(_WORD, 1)), _at(builder, me.state, COUNT))
    return context.get_dummy_value()


def _flat_values(context, builder, kinds, values):
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(kind, _TUPLE):
            parts = [builder.extract_value(value, i) for i in range(len(kind))]
            yield from _flat_values(context, builder, kind, parts)
        else:
            yield kind, value


def _words_of(context, builder, given, wanted, value, arena):
    """The two words of one value, cast to the column's type; one of numba's own strings is copied to the arena."""
    zero, one = ir.Constant(_WORD, 0), ir.Constant(_WORD, 1)
    if isinstance(given, types.NoneType):
        return zero, ir.Constant(_WORD, -1) if wanted == TEXT else one
    if isinstance(given, types.Optional):
        held = context.make_helper(builder, given, value)
        none = ir.Constant(_WORD, -1) if wanted == TEXT else one
        words = [cgutils.alloca_once_value(builder, word) for word in (zero, none)]
        with builder.if_then(held.valid):
            for place, word in zip(
                words, _words_of(context, builder, given.type, wanted, held.data, arena), strict=True
            ):
                builder.store(word, place)
        return builder.load(words[0]), builder.load(words[1])
    if isinstance(given, types.UnicodeType):
        value, given = call(context, builder, string_to_arena, (given, WORDS), (value, arena)), TEXT
    value = context.cast(builder, value, given, wanted)
    if wanted == TEXT:
        text = cgutils.create_struct_proxy(TEXT)(context, builder, value=value)
        return builder.ptrtoint(text.data, _WORD), text.size
    if wanted == types.float64:
        return builder.bitcast(value, _WORD), zero
    if wanted == types.boolean:
        return builder.zext(value, _WORD), zero
    return value, zero


# emit.count, emit.reject, emit.to -------------------------------------------------------------------------------------


def _place_in(names: list[str], name: Any) -> int | None:
    """The number of a literal name, noted if it is new; None if it is no literal or one too many."""
    if not isinstance(name, types.StringLiteral):
        return None
    if name.literal_value not in names:
        if len(names) == COUNTERS_MAX:
            return None
        names.append(name.literal_value)
    return names.index(name.literal_value)


class _MethodTemplate(AbstractTemplate):
    """emit.count(name, n), whose name must be a literal, and what leaves the record to Python.

    That is emit.reject(why), for Python tells why, and emit.to(name, key, value), for Python stages it.
    """

    prefer_literal = True
    key = ""
    this: Any = None

    def generic(self, args, kws):
        if kws or len(args) > (3 if self.key == _TO else 2):
            return None
        if self.key == _COUNT and _place_in(self.this.counters, args[0] if args else None) is None:
            return None
        return signature(types.void, *args, recvr=self.this)


_COUNT, _REJECT, _TO = "kernelmill.emit.count", "kernelmill.emit.reject", "kernelmill.emit.to"


class _CountTemplate(_MethodTemplate):
    key = _COUNT


class _RejectTemplate(_MethodTemplate):
    key = _REJECT


class _ToTemplate(_MethodTemplate):
    key = _TO


@infer_getattr
class _EmitAttributes(AttributeTemplate):
    key = EmitType

    def resolve_count(self, emit):
        return types.BoundFunction(_CountTemplate, emit)

    def resolve_reject(self, emit):
        return types.BoundFunction(_RejectTemplate, emit)

    def resolve_to(self, emit):
        return types.BoundFunction(_ToTemplate, emit)


@lower_builtin(_COUNT, EmitType, types.VarArg(types.Any))
def _count(context, builder, sig, args):
    me = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    number = sig.args[0].counters.index(sig.args[1].literal_value)
    added = ir.Constant(_WORD, 1)
    if len(args) > 2:
        added = context.cast(builder, args[2], sig.args[2], types.int64)
    place = _at(builder, me.state, COUNTERS + 2 * number + 1)
    builder.store(builder.add(builder.load(place), added), place)
    return context.get_dummy_value()


@lower_builtin(_TO, EmitType, types.VarArg(types.Any))
@lower_builtin(_REJECT, EmitType, types.VarArg(types.Any))
def _reject(context, builder, sig, args):
    me = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    builder.store(ir.Constant(_WORD, 1), _at(builder, me.state, REJECTED))
    return context.get_dummy_value()
