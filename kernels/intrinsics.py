"""Machine instructions that numba has no name for, each with a plain twin for runs without the JIT.

All take (array, offset) and use getelementptr: LLVM may miscompile integers made into pointers, and only arrays let the
twin check bounds. Only target-neutral vector code: an `llvm.x86.*` intrinsic aborts on a CPU without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernelmill.kernels._jit import JIT_DISABLED

_I1, _I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 32, 64, 128))
_V64 = ir.VectorType(_I8, 64)

SLACK_BYTES = 64
"""Bytes that must be readable past the end of any buffer whose blocks a mask or an 8-byte load touches."""


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, element: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), element.as_pointer())


def range_mask(low: int, high: int) -> Any:
    """Make `mask(data, at) -> u64`: bit i is set where low <= data[at + i] <= high, for 64 bytes from `at`."""
    if JIT_DISABLED:

        def mask_twin(data: Any, at: Any) -> Any:
            block = data[at : at + 64]
            assert block.size == 64  # a read past the slack fails here, not in production
            return np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0]

        return mask_twin

    @intrinsic
    def mask(typingctx, data, at):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            block = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _V64), align=1)
            if low:
                block = builder.sub(block, ir.Constant(_V64, [low] * 64))
            return builder.bitcast(builder.icmp_unsigned("<=", block, ir.Constant(_V64, [high - low] * 64)), _I64)

        return types.uint64(data, types.intp), codegen

    return mask


def folded_range_mask(low: int, high: int, fold: int) -> Any:
    """As `range_mask`, on bytes that were ORed with `fold` first: 0x20 makes one range of both cases of a letter."""
    if JIT_DISABLED:

        def mask_twin(data: Any, at: Any) -> Any:
            block = data[at : at + 64] | np.uint8(fold)
            assert block.size == 64
            return np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0]

        return mask_twin

    @intrinsic
    def mask(typingctx, data, at):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            block = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _V64), align=1)
            block = builder.or_(block, ir.Constant(_V64, [fold] * 64))
            block = builder.sub(block, ir.Constant(_V64, [low] * 64))
            return builder.bitcast(builder.icmp_unsigned("<=", block, ir.Constant(_V64, [high - low] * 64)), _I64)

        return types.uint64(data, types.intp), codegen

    return mask


if JIT_DISABLED:

    def load_u64(data: Any, at: Any) -> Any:
        """The 8 bytes from `at`, little-endian."""
        block = data[at : at + 8]
        assert block.size == 8
        return np.frombuffer(block.tobytes(), np.uint64)[0]

    def load_u32(data: Any, at: Any) -> Any:
        """The 4 bytes from `at`, little-endian."""
        block = data[at : at + 4]
        assert block.size == 4
        return np.frombuffer(block.tobytes(), np.uint32)[0]

    def store_u64(data: Any, at: Any, value: Any) -> None:
        """Write 8 bytes from `at`, little-endian."""
        assert 0 <= at and at + 8 <= data.size
        data[at : at + 8] = np.frombuffer(np.uint64(value).tobytes(), np.uint8)

    def store_u32(data: Any, at: Any, value: Any) -> None:
        """Write 4 bytes from `at`, little-endian."""
        assert 0 <= at and at + 4 <= data.size
        data[at : at + 4] = np.frombuffer(np.uint32(value).tobytes(), np.uint8)

    def count_trailing_zeros(bits: Any) -> int:
        """The number of the lowest set bit; `bits` must not be 0."""
        assert bits != 0
        return (int(bits) & -int(bits)).bit_length() - 1

    def prefetch(data: Any, at: Any) -> None:
        """A hint that element `at` will be read soon; never faults, so `at` may lie anywhere."""

    def multiply_fold(a: Any, b: Any) -> Any:
        """High half XOR low half of the 128-bit product."""
        product = int(a) * int(b)
        return np.uint64((product >> 64) ^ (product & 0xFFFFFFFFFFFFFFFF))

    def multiply_high(a: Any, b: Any) -> Any:
        """High half of the 128-bit product."""
        return np.uint64((int(a) * int(b)) >> 64)

else:

    def _loader(bits: ir.IntType, returned: Any) -> Any:
        @intrinsic
        def load(typingctx, data, at):  # type: ignore[no-untyped-def]
            def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
                return builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], bits), align=1)

            return returned(data, types.intp), codegen

        return load

    def _storer(bits: ir.IntType, taken: Any) -> Any:
        @intrinsic
        def store(typingctx, data, at, value):  # type: ignore[no-untyped-def]
            def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
                builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], args[1], bits), align=1)
                return context.get_dummy_value()

            return types.void(data, types.intp, taken), codegen

        return store

    load_u64, load_u32 = _loader(_I64, types.uint64), _loader(_I32, types.uint32)
    store_u64, store_u32 = _storer(_I64, types.uint64), _storer(_I32, types.uint32)

    @intrinsic
    def count_trailing_zeros(typingctx, bits):  # type: ignore[no-untyped-def]
        """The number of the lowest set bit; `bits` must not be 0."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.cttz(args[0], ir.Constant(_I1, 1))

        return types.int64(types.uint64), codegen

    @intrinsic
    def prefetch(typingctx, data, at):  # type: ignore[no-untyped-def]
        """A hint that element `at` of a 1-D array, or row `at` of a 2-D one with 4 u64 a row, will be read soon."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            offset = args[1]
            if sig.args[0].ndim == 2:
                offset = builder.mul(offset, ir.Constant(_I64, 4))
            where = _pointer(context, builder, sig.args[0], args[0], offset, _I8)
            kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
            builder.call(function, [where, ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
            return context.get_dummy_value()

        return types.void(data, types.intp), codegen

    def _wide_product(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
        product = builder.mul(builder.zext(a, _I128), builder.zext(b, _I128))
        high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
        return high, builder.trunc(product, _I64)

    @intrinsic
    def multiply_fold(typingctx, a, b):  # type: ignore[no-untyped-def]
        """High half XOR low half of the 128-bit product."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            high, low = _wide_product(builder, args[0], args[1])
            return builder.xor(high, low)

        return types.uint64(types.uint64, types.uint64), codegen

    @intrinsic
    def multiply_high(typingctx, a, b):  # type: ignore[no-untyped-def]
        """High half of the 128-bit product."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return _wide_product(builder, args[0], args[1])[0]

        return types.uint64(types.uint64, types.uint64), codegen


if JIT_DISABLED:

    def count_ones(bits: Any) -> Any:
        """The number of set bits."""
        return int(bits).bit_count()

    def trailing_zeros_or_64(bits: Any) -> Any:
        """The number of the lowest set bit; 64 if there is none."""
        return (int(bits) & -int(bits)).bit_length() - 1 if bits else 64

    def clear_lowest(bits: Any) -> Any:
        """`bits` without its lowest set bit; 0 stays 0."""
        return np.uint64(int(bits) & (int(bits) - 1)) if bits else bits

else:

    @intrinsic
    def count_ones(typingctx, bits):  # type: ignore[no-untyped-def]
        """The number of set bits."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.ctpop(args[0])

        return types.int64(types.uint64), codegen

    @intrinsic
    def trailing_zeros_or_64(typingctx, bits):  # type: ignore[no-untyped-def]
        """The number of the lowest set bit; 64 if there is none."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.cttz(args[0], ir.Constant(_I1, 0))

        return types.int64(types.uint64), codegen

    @intrinsic
    def clear_lowest(typingctx, bits):  # type: ignore[no-untyped-def]
        """`bits` without its lowest set bit; 0 stays 0."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.and_(args[0], builder.sub(args[0], ir.Constant(_I64, 1)))

        return types.uint64(types.uint64), codegen


if JIT_DISABLED:

    def byte_swapped(bits: Any) -> Any:
        """The 8 bytes in the other order."""
        return np.uint64(bits).byteswap()

    def copy_lower_ascii(data: Any, at: Any, out: Any, to: Any) -> Any:
        """Copy 64 bytes, A-Z made a-z; `out` may be `data`. Bit i of the result is set where data[at + i] >= 0x80."""
        block = data[at : at + 64].copy()
        assert block.size == 64 and out[to : to + 64].size == 64
        out[to : to + 64] = np.where((block >= 65) & (block <= 90), block | 0x20, block)
        return np.packbits(block >= 0x80, bitorder="little").view(np.uint64)[0]

else:

    @intrinsic
    def byte_swapped(typingctx, bits):  # type: ignore[no-untyped-def]
        """The 8 bytes in the other order."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.bswap(args[0])

        return types.uint64(types.uint64), codegen

    @intrinsic
    def copy_lower_ascii(typingctx, data, at, out, to):  # type: ignore[no-untyped-def]
        """Copy 64 bytes, A-Z made a-z; `out` may be `data`. Bit i of the result is set where data[at + i] >= 0x80."""

        def splat(byte: int) -> Any:
            return ir.Constant(_V64, [byte] * 64)

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            block = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _V64), align=1)
            is_upper = builder.icmp_unsigned("<", builder.sub(block, splat(ord("A"))), splat(26))
            lowered = builder.or_(block, builder.select(is_upper, splat(0x20), splat(0)))
            builder.store(lowered, _pointer(context, builder, sig.args[2], args[2], args[3], _V64), align=1)
            return builder.bitcast(builder.icmp_unsigned(">=", block, splat(0x80)), _I64)

        return types.uint64(data, types.intp, out, types.intp), codegen
