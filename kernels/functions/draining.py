"""A stage that is full, drained by the driver itself: a call of machine code that the state tells of."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernelmill.kernels.staged import LAST_ARGUMENT
from kernelmill.kernels.usermaps import ARENA_USED, COUNT, DRAIN, DRAIN_FRAME, DRAINED

_WORD = ir.IntType(64)
_WORDS = _WORD.as_pointer()
_CALL = ir.FunctionType(_WORD, [_WORDS, _WORDS]).as_pointer()
_ZERO = ir.Constant(_WORD, 0)


@intrinsic
def drained(typingctx: Any, state, arena):
    """Have the staged rows counted, and forget them and their texts; False if nothing does so, or rows are left."""

    def codegen(context, builder, sig, args):
        words, texts = (
            context.make_array(kind)(context, builder, array).data for kind, array in zip(sig.args, args, strict=True)
        )

        def place(number: int) -> Any:
            return builder.gep(words, [ir.Constant(_WORD, number)])

        address = builder.load(place(DRAIN))
        are_gone = cgutils.alloca_once_value(builder, cgutils.false_bit)
        with builder.if_then(builder.icmp_unsigned("!=", address, _ZERO)):
            count = builder.load(place(COUNT))
            frame = builder.inttoptr(builder.load(place(DRAIN_FRAME)), _WORDS)
            builder.store(count, builder.gep(frame, [ir.Constant(_WORD, LAST_ARGUMENT)]))
            failed = builder.call(builder.inttoptr(address, _CALL), [frame, place(DRAINED)])
            took_all = builder.icmp_unsigned("==", builder.load(place(DRAINED)), count)
            is_done = builder.and_(took_all, builder.icmp_unsigned("==", failed, _ZERO))
            builder.store(is_done, are_gone)
            with builder.if_then(is_done):
                for forgotten in (place(COUNT), place(DRAINED), builder.gep(texts, [ir.Constant(_WORD, ARENA_USED)])):
                    builder.store(_ZERO, forgotten)
        return builder.load(are_gone)

    return types.boolean(state, arena), codegen
