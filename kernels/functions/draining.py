"""A stage that is full, drained by the driver itself: calls of machine code that the state tells of."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernelmill.kernels.staged import LAST_ARGUMENT
from kernelmill.kernels.usermaps import (
    ARENA_USED,
    COUNT,
    DRAIN,
    DRAIN_FRAME,
    DRAINED,
    FOLD,
    FOLD_FRAME,
    FOLD_LAST,
    FOLDED,
)

_WORD = ir.IntType(64)
_WORDS = _WORD.as_pointer()
_CALL = ir.FunctionType(_WORD, [_WORDS, _WORDS]).as_pointer()
_ZERO, _FAILED = ir.Constant(_WORD, 0), ir.Constant(_WORD, -1)


@intrinsic
def drained(typingctx: Any, state, arena):
    """Have the staged rows taken, and forget them and their texts; False if nothing does so, or rows are left."""

    def codegen(context, builder, sig, args):
        words, texts = (
            context.make_array(kind)(context, builder, array).data for kind, array in zip(sig.args, args, strict=True)
        )

        def place(number: int) -> Any:
            return builder.gep(words, [ir.Constant(_WORD, number)])

        def call(function, frame_at: int, last_at, last, taken_at: int) -> Any:
            frame = builder.inttoptr(builder.load(place(frame_at)), _WORDS)
            builder.store(last, builder.gep(frame, [last_at]))
            builder.call(builder.inttoptr(function, _CALL), [frame, place(taken_at)])
            return builder.load(place(taken_at))  # a call that fails leaves it as it was

        drain, fold = builder.load(place(DRAIN)), builder.load(place(FOLD))
        are_gone = cgutils.alloca_once_value(builder, cgutils.false_bit)
        with builder.if_then(builder.icmp_unsigned("!=", drain, _ZERO)):
            count = builder.load(place(COUNT))
            taken = call(drain, DRAIN_FRAME, ir.Constant(_WORD, LAST_ARGUMENT), count, DRAINED)
            builder.store(builder.icmp_unsigned("==", taken, count), are_gone)
            with builder.if_then(builder.icmp_unsigned("!=", fold, _ZERO)):
                builder.store(_FAILED, place(FOLDED))
                folded = call(fold, FOLD_FRAME, builder.load(place(FOLD_LAST)), taken, FOLDED)
                builder.store(builder.icmp_unsigned("==", folded, count), are_gone)
            with builder.if_then(builder.load(are_gone)):
                for forgotten in (
                    place(COUNT), place(DRAINED), place(FOLDED), builder.gep(texts, [ir.Constant(_WORD, ARENA_USED)]),
                ):  # fmt: skip
                    builder.store(_ZERO, forgotten)
        return builder.load(are_gone)

    return types.boolean(state, arena), codegen
