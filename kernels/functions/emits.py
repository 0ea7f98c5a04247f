"""The numba type of `emit`: what a compiled map calls to stage a row, to count, to reject its record.

What is emitted is known from typing: each call's argument types are noted in the type (`emitted`), its counters' names
in `counters`. `kernels/usermaps` says how rows are staged.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, signature
from numba.extending import intrinsic, models, register_model

from kernelmill.kernels.functions.emitted import TUPLE, Emitted, EmittedTo
from kernelmill.kernels.text.jitting import call
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.text.strings import string_to_arena
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.usermaps import (
    CAPACITY,
    COUNT,
    COUNTERS,
    COUNTERS_MAX,
    NAMED,
    NAMED_MAX,
    NAMED_WORDS,
    OVERFULL,
    REJECTED,
    TO_ADDRESS,
    TO_CAPACITY,
    TO_COUNT,
)

_WORD = ir.IntType(64)
COUNTED_MAX = 1 << 32
"""More is added to a counter by Python: so the sums of a batch stay far from the end of an int64."""


class EmitType(Emitted, types.Callable):
    """The type of one function's `emit`, and what its calls give. `to` has what those of emit.to give, by name.

    has_arena: texts that are made where it is an argument find room.
    leaves: some call of emit.to does not say in the code what its output is called, so `to` is not all.
    """

    has_arena = True

    def __init__(
        self, name: str, columns: tuple[Any, ...] | None = None, to: dict[str, tuple[Any, ...]] | None = None
    ) -> None:
        self.counters: list[str] = []
        self.to = {name: EmittedTo(columns) for name, columns in (to or {}).items()}
        self.leaves = False
        Emitted.__init__(self, columns)
        types.Callable.__init__(self, name=f"Emit({name})")

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
        self.note(self.emitted(args))
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

    def all_wanted(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, ...]]]:
        """The types of what is to be staged: those for calls of emit, () without any, and those for emit.to."""
        return self.wanted() if self.seen else (), {name: calls.wanted() for name, calls in self.to.items()}

    def all_staged(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, ...]]]:
        """The types of what is staged, from now on, in the same form."""
        return self.staged() if self.seen else (), {name: calls.staged() for name, calls in self.to.items()}

    def place_of(self, name: Any) -> int | None:
        """The number of a named output; None if its name is not in the code, or it is one too many."""
        if not isinstance(name, types.StringLiteral):
            return None
        names, text = list(self.to), name.literal_value
        if text not in names:
            if len(names) == NAMED_MAX:
                return None
            names.append(text)
            self.to[text] = EmittedTo()
        return names.index(text)


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
    values = list(_flat_values(context, builder, kinds, given))
    capacity = builder.load(_at(builder, me.state, CAPACITY))
    _stage(context, builder, me, _Place(me.stage, COUNT, capacity, 1), of_type.staged(), values)
    return context.get_dummy_value()


class _Place(NamedTuple):
    """Where rows of an output are staged: the stage, the place of their count in the state, the room, its number."""

    stage: Any
    count_at: int
    capacity: Any
    number: int


def _stage(context, builder, me, place, columns, values) -> None:
    """Code that stages a row of such columns; without room it fails, with the output's number in the state."""
    count, capacity = builder.load(_at(builder, me.state, place.count_at)), place.capacity
    with builder.if_then(builder.icmp_signed(">=", count, capacity), likely=False):
        builder.store(ir.Constant(_WORD, place.number), _at(builder, me.state, OVERFULL))
        context.call_conv.return_user_exc(builder, MemoryError, ("more rows than fit",))
    staged = ((one, wanted) for one, wanted in zip(values, columns, strict=True) if wanted is not None)
    for number, ((given, value), wanted) in enumerate(staged):
        has_none = isinstance(wanted, types.Optional)
        kind = wanted.type if has_none else wanted
        first, second = _words_of(context, builder, given, kind, value, me.arena)
        base = builder.add(builder.mul(capacity, ir.Constant(_WORD, 2 * number)), count)
        builder.store(first, _at(builder, place.stage, base))
        if has_none or kind == TEXT:
            builder.store(second, _at(builder, place.stage, builder.add(base, capacity)))
    builder.store(builder.add(count, ir.Constant(_WORD, 1)), _at(builder, me.state, place.count_at))


def _flat_values(context, builder, kinds, values):
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(kind, TUPLE):
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
    """emit.count(name, n), whose name must be a literal; emit.reject(why), which leaves the record to Python."""

    prefer_literal = True
    key = ""
    this: Any = None

    def generic(self, args, kws):
        if kws or len(args) > 2:
            return None
        if self.key == _COUNT and _place_in(self.this.counters, args[0] if args else None) is None:
            return None
        if self.key == _COUNT and len(args) > 1 and not isinstance(args[1], types.Integer | types.Boolean):
            return None  # Python says what is wrong with it
        return signature(types.void, *args, recvr=self.this)


_COUNT, _REJECT, _TO = "kernelmill.emit.count", "kernelmill.emit.reject", "kernelmill.emit.to"


class _CountTemplate(_MethodTemplate):
    key = _COUNT


class _RejectTemplate(_MethodTemplate):
    key = _REJECT


class _ToTemplate(_MethodTemplate):
    """emit.to(name, key, value): with a name that the code does not say, it leaves the record to Python."""

    key = _TO

    def generic(self, args, kws):
        if kws or not 2 <= len(args) <= 3:
            return None
        if self.this.place_of(args[0]) is None:
            self.this.leaves = True
        else:
            self.this.to[args[0].literal_value].note(args[1:])
        return signature(types.void, *args, recvr=self.this)


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
        is_large = builder.icmp_unsigned(
            ">", builder.add(added, ir.Constant(_WORD, COUNTED_MAX)), ir.Constant(_WORD, 2 * COUNTED_MAX)
        )
        with builder.if_then(is_large, likely=False):
            context.call_conv.return_user_exc(builder, OverflowError, ("a sum of such counts may be no int64",))
    place = _at(builder, me.state, COUNTERS + 2 * number + 1)
    builder.store(builder.add(builder.load(place), added), place)
    return context.get_dummy_value()


@lower_builtin(_REJECT, EmitType, types.VarArg(types.Any))
def _reject(context, builder, sig, args):
    me = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    _leave_to_python(builder, me)
    return context.get_dummy_value()


def _leave_to_python(builder, me) -> None:
    builder.store(ir.Constant(_WORD, 1), _at(builder, me.state, REJECTED))


@lower_builtin(_TO, EmitType, types.VarArg(types.Any))
def _emit_to(context, builder, sig, args):
    of_type = sig.args[0]
    me = cgutils.create_struct_proxy(of_type)(context, builder, value=args[0])
    number = of_type.place_of(sig.args[1])
    columns = () if number is None else of_type.to[sig.args[1].literal_value].staged()
    values = list(_flat_values(context, builder, sig.args[2:], args[2:]))
    if number is None or len(columns) != len(values):
        _leave_to_python(builder, me)
        return context.get_dummy_value()
    place = NAMED + NAMED_WORDS * number
    capacity = builder.load(_at(builder, me.state, place + TO_CAPACITY))
    with builder.if_else(builder.icmp_signed("<", capacity, ir.Constant(_WORD, 0)), likely=False) as (none, some):
        with none:
            _leave_to_python(builder, me)
        with some:
            address = builder.load(_at(builder, me.state, place + TO_ADDRESS))
            stage = builder.inttoptr(address, _WORD.as_pointer())
            _stage(context, builder, me, _Place(stage, place + TO_COUNT, capacity, 2 + number), columns, values)
    return context.get_dummy_value()
