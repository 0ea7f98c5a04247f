"""Copies of numba's own strings, such as the result of `str(5)`, as texts."""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernelmill.kernels.text.arena import allocate, give_back
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import BYTES, address_of, copy_bytes, instruction, moved
from kernelmill.kernels.text.points import decode, encode, size_at
from kernelmill.kernels.text.texttype import make_text

_PARTS = types.Tuple((BYTES, types.int64, types.int64, types.boolean))


@instruction
def _parts(typingctx, string):
    """A unicode_type's first unit, number of units, bytes of a unit, and whether all are ASCII."""

    def codegen(context, builder, sig, args):
        parts = cgutils.create_struct_proxy(types.unicode_type)(context, builder, value=args[0])
        data = builder.bitcast(parts.data, ir.IntType(8).as_pointer())
        kind = builder.zext(parts.kind, ir.IntType(64))
        is_ascii = builder.icmp_unsigned("!=", parts.is_ascii, ir.Constant(parts.is_ascii.type, 0))
        return context.make_tuple(builder, sig.return_type, (data, parts.length, kind, is_ascii))

    return _PARTS(types.unicode_type), codegen


@helper
def _unit(data: Any, i: Any, size: Any) -> Any:
    """Code point i of a string with `size` bytes for each."""
    point: Any = 0
    for part in range(size):
        point |= np.int64(data[i * size + part]) << (8 * part)
    return point


@helper
def string_to_arena(string: Any, arena: Any) -> Any:
    """The Text with the characters of a unicode_type, in the arena. Errors: ValueError for a lone surrogate."""
    data, length, kind, is_ascii = _parts(string)
    size = length if is_ascii else 4 * length
    out = allocate(arena, size)
    if is_ascii:
        copy_bytes(data, 0, out, 0, size)
        return make_text(out, size, True, arena)
    to = 0
    for i in range(length):
        point = _unit(data, i, kind)
        if 0xD800 <= point < 0xE000:
            raise ValueError("a surrogate has no UTF-8")
        to += encode(point, out, to)
    give_back(arena, moved(out, to))
    return make_text(out, to, False, arena)


@helper
def equals_string(text: Any, string: Any) -> Any:
    """True if a Text has the characters of a unicode_type; reads no byte beyond those of the latter."""
    data, length, kind, is_ascii = _parts(string)
    if is_ascii:
        if text._size != length:
            return False
        for i in range(length):  # noqa: SIM110 - numba has no all()
            if text._data[i] != data[i]:
                return False
        return True
    at = 0
    for i in range(length):
        if at >= text._size or decode(text._data, at) != _unit(data, i, kind):
            return False
        at += size_at(text._data, at)
    return at == text._size


@helper
def with_arena(one: Any, other: Any) -> Any:
    """The text that has an arena, the first if both have."""
    return one if address_of(one._arena) != 0 else other


@helper
def text_of_string(owner: Any, string: Any) -> Any:
    """The Text with the characters of a unicode_type, in the arena of the Text `owner`."""
    return string_to_arena(string, owner._arena)
