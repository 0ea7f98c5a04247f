"""The machine twins of `kernels/intrinsics.py`, each by the name of its plain one: what compiled kernels get.

All use getelementptr: LLVM may miscompile integers made into pointers. Only target-neutral vector code: an `llvm.x86.*`
intrinsic aborts on a CPU without it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I1, _I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 32, 64, 128))
_V64 = ir.VectorType(_I8, 64)
_V8 = ir.VectorType(_I32, 8)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, element: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), element.as_pointer())


def _splat(byte: int) -> Any:
    return ir.Constant(_V64, [byte] * 64)


def range_mask(low: int, high: int) -> Any:
    """The machine twin of `intrinsics.range_mask`."""
    return folded_range_mask(low, high, 0)


def folded_range_mask(low: int, high: int, fold: int) -> Any:
    """The machine twin of `intrinsics.folded_range_mask`."""

    @intrinsic
    def mask(typingctx, data, at):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            block = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _V64), align=1)
            if fold:
                block = builder.or_(block, _splat(fold))
            if low:
                block = builder.sub(block, _splat(low))
            return builder.bitcast(builder.icmp_unsigned("<=", block, _splat(high - low)), _I64)

        return types.uint64(data, types.intp), codegen

    return mask


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


def _prefetcher(nearness: int) -> Any:
    """nearness: 3 into all caches, 2 into all but the first."""

    @intrinsic
    def prefetch(typingctx, data, at):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            offset = args[1]
            if sig.args[0].ndim == 2:
                offset = builder.mul(offset, ir.Constant(_I64, 4))
            where = _pointer(context, builder, sig.args[0], args[0], offset, _I8)
            kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
            builder.call(function, [where, *(ir.Constant(_I32, number) for number in (0, nearness, 1))])
            return context.get_dummy_value()

        return types.void(data, types.intp), codegen

    return prefetch


prefetch, prefetch_early = _prefetcher(3), _prefetcher(2)


def _record(context: Any, builder: Any, array_type: Any, array: Any, number: Any, element: Any) -> Any:
    return _pointer(context, builder, array_type, array, builder.shl(number, ir.Constant(_I64, 2)), element)


@intrinsic
def same_key(typingctx, rows, row, keys, key):  # type: ignore[no-untyped-def]
    """True if record `row` of rows u64[n, 4] and record `key` of keys u64[4 m] agree in all but the last 4 bytes."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        one = builder.load(_record(context, builder, sig.args[0], args[0], args[1], _V8), align=8)
        other = builder.load(_record(context, builder, sig.args[2], args[2], args[3], _V8), align=8)
        agreeing = builder.bitcast(builder.icmp_unsigned("==", one, other), _I8)
        return builder.icmp_unsigned("==", builder.or_(agreeing, ir.Constant(_I8, 0x80)), ir.Constant(_I8, 0xFF))

    return types.boolean(rows, types.uint64, keys, types.uint64), codegen


@intrinsic
def add_count(typingctx, rows, row):  # type: ignore[no-untyped-def]
    """Add one to the last 4 bytes of record `row` of rows u64[n, 4]."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = builder.gep(_record(context, builder, sig.args[0], args[0], args[1], _I32), [ir.Constant(_I64, 7)])
        builder.store(builder.add(builder.load(place, align=4), ir.Constant(_I32, 1)), place, align=4)
        return context.get_dummy_value()

    return types.void(rows, types.uint64), codegen


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


@intrinsic
def byte_swapped(typingctx, bits):  # type: ignore[no-untyped-def]
    """The 8 bytes in the other order."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.bswap(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def copy_lower_ascii(typingctx, data, at, out, to):  # type: ignore[no-untyped-def]
    """Copy 64 bytes, A-Z made a-z; `out` may be `data`. Bit i of the result is set where data[at + i] >= 0x80."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        block = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _V64), align=1)
        is_upper = builder.icmp_unsigned("<", builder.sub(block, _splat(ord("A"))), _splat(26))
        lowered = builder.or_(block, builder.select(is_upper, _splat(0x20), _splat(0)))
        builder.store(lowered, _pointer(context, builder, sig.args[2], args[2], args[3], _V64), align=1)
        return builder.bitcast(builder.icmp_unsigned(">=", block, _splat(0x80)), _I64)

    return types.uint64(data, types.intp, out, types.intp), codegen
