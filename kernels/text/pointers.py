"""Machine instructions on bytes at a pointer: loads, stores, masks of 64 bytes, bits.

As kernels/intrinsics, on (pointer, offset) in place of (array, offset): a Text has no array. Masks read 64 bytes from
`at` and loads 8, so both may read up to SLACK_BYTES past a text; whoever makes texts sees to it that this is allowed.
Only target-neutral vector code: an `llvm.x86.*` intrinsic aborts on a CPU without it.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SLACK_BYTES = 64
"""Bytes that must be readable past the end of every text, and writable past what is used of an arena."""

BYTES = types.CPointer(types.uint8)
WORDS = types.CPointer(types.int64)


def instruction(function: Callable[..., Any]) -> Any:
    """numba's `intrinsic`: the function gives a signature and how to make code of it."""
    return intrinsic(function)


_I1, _I8, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 64, 128))
_V64 = ir.VectorType(_I8, 64)

Ranges = tuple[tuple[int, int], ...]


def _block(builder, pointer, at):
    return builder.load(builder.bitcast(builder.gep(pointer, [at]), _V64.as_pointer()), align=1)


def _splat(byte: int) -> Any:
    return ir.Constant(_V64, [byte] * 64)


def _in_range(builder, block, low, high):
    if low == high:
        return builder.icmp_unsigned("==", block, _splat(low))
    if low:
        block = builder.sub(block, _splat(low))
    return builder.icmp_unsigned("<=", block, _splat(high - low))


def ranges_mask(*ranges: tuple[int, int]) -> Any:
    """Make `mask(data, at) -> u64`: bit i is set where data[at + i] lies in one of the ranges, ends included."""

    @instruction
    def mask(typingctx, data, at):
        def codegen(context, builder, sig, args):
            block = _block(builder, args[0], args[1])
            found = [_in_range(builder, block, low, high) for low, high in ranges]
            for other in found[1:]:
                found[0] = builder.or_(found[0], other)
            return builder.bitcast(found[0], _I64)

        return types.uint64(BYTES, types.intp), codegen

    return mask


@instruction
def byte_mask(typingctx, data, at, byte):
    """Bit i is set where data[at + i] == byte, for 64 bytes from `at`."""

    def codegen(context, builder, sig, args):
        block = _block(builder, args[0], args[1])
        one = builder.insert_element(ir.Constant(_V64, ir.Undefined), args[2], ir.Constant(ir.IntType(32), 0))
        all_of_it = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64))
        return builder.bitcast(builder.icmp_unsigned("==", block, all_of_it), _I64)

    return types.uint64(BYTES, types.intp, types.uint8), codegen


def case_copier(low: str, high: str) -> Any:
    """Make `copy(data, at, out, to)`: 64 bytes, those from `low` to `high` in the other case."""

    @instruction
    def copy(typingctx, data, at, out, to):
        def codegen(context, builder, sig, args):
            block = _block(builder, args[0], args[1])
            found = _in_range(builder, block, ord(low), ord(high))
            block = builder.xor(block, builder.select(found, _splat(0x20), _splat(0)))
            builder.store(block, builder.bitcast(builder.gep(args[2], [args[3]]), _V64.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(BYTES, types.intp, BYTES, types.intp), codegen

    return copy


@instruction
def copy_64(typingctx, data, at, out, to):
    """Copy 64 bytes."""

    def codegen(context, builder, sig, args):
        block = _block(builder, args[0], args[1])
        builder.store(block, builder.bitcast(builder.gep(args[2], [args[3]]), _V64.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(BYTES, types.intp, BYTES, types.intp), codegen


@instruction
def load_u64(typingctx, data, at):
    """The 8 bytes from `at`, little-endian."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.bitcast(builder.gep(args[0], [args[1]]), _I64.as_pointer()), align=1)

    return types.uint64(BYTES, types.intp), codegen


@instruction
def load_u32(typingctx, data, at):
    """The 4 bytes from `at`, little-endian."""

    def codegen(context, builder, sig, args):
        bits = ir.IntType(32)
        found = builder.load(builder.bitcast(builder.gep(args[0], [args[1]]), bits.as_pointer()), align=1)
        return builder.zext(found, _I64)

    return types.uint64(BYTES, types.intp), codegen


@instruction
def soon_read(typingctx, data, at):
    """A hint that the bytes around `at` will be read soon. It never faults, so `at` may lie anywhere."""

    def codegen(context, builder, sig, args):
        bits, pointer = ir.IntType(32), _I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, bits, bits, bits])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [builder.gep(args[0], [args[1]]), *(ir.Constant(bits, one) for one in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(BYTES, types.intp), codegen


@instruction
def moved(typingctx, data, by):
    """The pointer `by` bytes further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return BYTES(BYTES, types.intp), codegen


@instruction
def bytes_at(typingctx, address):
    """The pointer to an address."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], _I8.as_pointer())

    return BYTES(types.int64), codegen


@instruction
def words_at(typingctx, address):
    """The pointer to 8-byte integers at an address."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], _I64.as_pointer())

    return WORDS(types.int64), codegen


@instruction
def address_of(typingctx, pointer):
    """The address of a pointer as an integer; 0 for null."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(args[0], _I64)

    return types.int64(pointer), codegen


@instruction
def bytes_of(typingctx, array, at):
    """The pointer to element `at` of a u8 array."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return BYTES(array, types.intp), codegen


@instruction
def words_of(typingctx, array):
    """The pointer to the first element of an i64 array."""

    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return WORDS(array), codegen


@instruction
def copy_bytes(typingctx, data, at, out, to, size):
    """Copy `size` bytes between places that do not overlap."""

    def codegen(context, builder, sig, args):
        data, at, out, to, size = args
        cgutils.raw_memcpy(builder, builder.gep(out, [to]), builder.gep(data, [at]), size, 1)
        return context.get_dummy_value()

    return types.void(BYTES, types.intp, BYTES, types.intp, types.intp), codegen


def _bit_operation(returned: Any, make: Callable[[Any, Any], Any]) -> Any:
    @instruction
    def operation(typingctx, bits):
        def codegen(context, builder, sig, args):
            return make(builder, args[0])

        return returned(types.uint64), codegen

    return operation


count_ones = _bit_operation(types.int64, lambda builder, bits: builder.ctpop(bits))
lowest_one = _bit_operation(types.int64, lambda builder, bits: builder.cttz(bits, ir.Constant(_I1, 0)))
leading_zeros = _bit_operation(types.int64, lambda builder, bits: builder.ctlz(bits, ir.Constant(_I1, 0)))
byte_swapped = _bit_operation(types.uint64, lambda builder, bits: builder.bswap(bits))
without_lowest = _bit_operation(
    types.uint64, lambda builder, bits: builder.and_(bits, builder.sub(bits, ir.Constant(_I64, 1)))
)


_LANES = 8
PUT_WORDS = 64
"""Entries that `put_ones` and `put_ones_in_turn` may overwrite, whatever the number of bits."""


@instruction
def put_ones(typingctx, bits, base, entries, at):
    """Write base + i for each bit i that is set, in their order, to entries[at:].

    By one instruction of AVX-512 that packs bytes; elsewhere LLVM makes 200 of it, and `put_ones_in_turn` is faster.
    """

    def codegen(context, builder, sig, args):
        bits, base, entries, at = args
        of_bytes, flags, row = (ir.VectorType(_I8, 64), ir.VectorType(_I1, 64), ir.VectorType(_I64, _LANES))
        kind = ir.FunctionType(of_bytes, [of_bytes, flags, of_bytes])
        pack = cgutils.get_or_insert_function(builder.module, kind, "llvm.experimental.vector.compress.v64i8")
        undefined = ir.Constant(of_bytes, ir.Undefined)
        packed = builder.call(pack, [ir.Constant(of_bytes, list(range(64))), builder.bitcast(bits, flags), undefined])
        first = builder.insert_element(ir.Constant(row, ir.Undefined), base, ir.Constant(ir.IntType(32), 0))
        bases = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))

        def write(numbers):
            for number in numbers:
                lanes = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [number * _LANES + i for i in range(_LANES)])
                places = builder.zext(builder.shuffle_vector(packed, undefined, lanes), row)
                place = builder.gep(entries, [builder.add(at, ir.Constant(_I64, number * _LANES))])
                builder.store(builder.add(places, bases), builder.bitcast(place, row.as_pointer()), align=8)

        write(range(4))  # without a branch as many edges as 64 bytes of prose have
        with builder.if_then(builder.icmp_unsigned(">", builder.ctpop(bits), ir.Constant(_I64, 32)), likely=False):
            write(range(4, 8))
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, WORDS, types.int64), codegen


@instruction
def wide_product(typingctx, a, b):
    """The high and low 64 bits of the product of two u64."""

    def codegen(context, builder, sig, args):
        product = builder.mul(builder.zext(args[0], _I128), builder.zext(args[1], _I128))
        high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
        return context.make_tuple(builder, sig.return_type, (high, builder.trunc(product, _I64)))

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), codegen


@instruction
def float_of_bits(typingctx, bits):
    """The float64 with these bits."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), codegen


@instruction
def bits_of_float(typingctx, value):
    """The bits of a float64."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], _I64)

    return types.uint64(types.float64), codegen
