"""`hash` in users' functions: the same number as kernelmill's own in interpreted ones, in every process.

Of texts it is XXH64, of numbers and tuples what CPython makes of them, of None and NaN, which Python hashes by their
address, 0. numba's own `hash` needs its runtime, and gives a random number for NaN.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.comparing import hashed
from kernelmill.kernels.text.jitting import call, helper
from kernelmill.kernels.text.pointers import instruction
from kernelmill.kernels.text.texttype import TEXT, utf8_of

_MODULUS = np.uint64((1 << 61) - 1)
_P1, _P2, _P5 = (np.uint64(prime) for prime in (11400714785074694791, 14029467366897019727, 2870177450012600261))
_LENGTH_MIX = np.uint64(2870177450012600261 ^ 3527539)
_HELD: Any = (types.Integer, types.Boolean, types.Float, types.NoneType)


def user_hash(value: Any) -> int:
    """hash(value): in compiled functions as said above, in Python as `engine/userfunctions` has it."""
    return hash(value)


def _items(kind: Any) -> tuple[Any, ...]:
    return tuple(kind)


def _may_be_hashed(kind: Any) -> bool:
    if isinstance(kind, types.BaseTuple):
        return all(map(_may_be_hashed, _items(kind)))
    if isinstance(kind, types.Optional):
        return _may_be_hashed(kind.type)
    return kind == TEXT or utf8_of(kind) is not None or isinstance(kind, _HELD)


@infer_global(user_hash)
class _HashTemplate(AbstractTemplate):
    key = user_hash

    def generic(self, args, kws):
        """An int64 of one value."""
        if kws or len(args) != 1 or not _may_be_hashed(args[0]):
            return None
        return signature(types.int64, TEXT if utf8_of(args[0]) is not None else types.unliteral(args[0]))


@lower_builtin(user_hash, types.Any)
def _hash(context, builder, sig, args):
    return _hash_of(context, builder, sig.args[0], args[0])


def _hash_of(context, builder, kind, value):
    if isinstance(kind, types.NoneType):
        return context.get_constant(types.int64, 0)
    if isinstance(kind, types.Optional):
        held = context.make_helper(builder, kind, value)
        made = cgutils.alloca_once_value(builder, context.get_constant(types.int64, 0))
        with builder.if_then(held.valid):
            builder.store(_hash_of(context, builder, kind.type, held.data), made)
        return builder.load(made)
    if isinstance(kind, types.BaseTuple):
        lanes = context.get_constant(types.uint64, int(_P5))
        for number, item in enumerate(_items(kind)):
            lane = _hash_of(context, builder, item, builder.extract_value(value, number))
            lanes = call(context, builder, _mixed, (types.uint64, types.int64), (lanes, lane))
        count = context.get_constant(types.uint64, len(_items(kind)))
        return call(context, builder, _ended, (types.uint64, types.uint64), (lanes, count))
    if kind == TEXT:
        return call(context, builder, hashed, (TEXT,), (value,))
    wide, function = (types.float64, _of_float) if isinstance(kind, types.Float) else (types.int64, _of_int)
    return call(context, builder, function, (wide,), (context.cast(builder, value, kind, wide),))


@helper
def _of_int(value: Any) -> Any:
    """CPython's hash of an int: its remainder by the modulus, with its sign."""
    if value >= 0:
        return np.int64(np.uint64(value) % _MODULUS)
    rest = -np.int64((np.uint64(~value) + np.uint64(1)) % _MODULUS)
    return np.int64(-2) if rest == -1 else rest


@instruction
def _bits_of(typingctx, value):
    """The bits of a float64."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), codegen


@helper
def _of_float(value: Any) -> Any:
    """CPython's hash of a float, equal to that of the int where it is one: mantissa times 2^exponent by the modulus."""
    if value != value:
        return np.int64(0)
    bits = _bits_of(value)
    mantissa = bits & np.uint64((1 << 52) - 1)
    power = np.int64((bits >> np.uint64(52)) & np.uint64(0x7FF))
    is_negative = (bits >> np.uint64(63)) != np.uint64(0)
    if power == 0x7FF:
        return np.int64(-314159 if is_negative else 314159)
    if power == 0:
        power = np.int64(1)
    else:
        mantissa |= np.uint64(1 << 52)
    turn = np.uint64((power - 1075) % 61)
    rest = np.int64(((mantissa << turn) & _MODULUS) | (mantissa >> (np.uint64(61) - turn)))
    if is_negative:
        rest = -rest
    return np.int64(-2) if rest == -1 else rest


@helper
def _mixed(lanes: Any, lane: Any) -> Any:
    """CPython's tuple hash, one item on: see Objects/tupleobject.c, after xxHash."""
    lanes += np.uint64(lane) * _P2
    return ((lanes << np.uint64(31)) | (lanes >> np.uint64(33))) * _P1


@helper
def _ended(lanes: Any, count: Any) -> Any:
    """The hash of a tuple of so many items."""
    made = np.int64(lanes + (count ^ _LENGTH_MIX))
    return np.int64(1546275796) if made == -1 else made
