"""`chr` and `str` of an int in users' functions.

numba's own chr says of the characters 128 to 255 that they are ASCII. Its str counts digits by a logarithm, and finds
one too many in 999999999999999. Importing this module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.pythonapi import PY_UNICODE_1BYTE_KIND
from numba.cpython.unicode import _empty_string, _set_code_point
from numba.extending import overload, overload_method

from kernelmill.kernels.text.pointers import instruction


def user_chr(point: Any) -> Any:
    """chr(point)"""
    return chr(point)


@instruction
def _known_as_ascii(typingctx, string, is_ascii):
    """The same string, known to be ASCII or not to be."""

    def codegen(context, builder, sig, args):
        parts = cgutils.create_struct_proxy(types.unicode_type)(context, builder, value=args[0])
        parts.is_ascii = builder.zext(args[1], parts.is_ascii.type)
        return impl_ret_borrowed(context, builder, types.unicode_type, parts._getvalue())

    return types.unicode_type(types.unicode_type, types.boolean), codegen


@overload(user_chr)
def _user_chr(point):
    if not isinstance(point, types.Integer):
        return None

    def character(point):
        return _known_as_ascii(chr(point), point < 128)

    return character


_TEN, _ONE, _ZERO = np.uint64(10), np.uint64(1), np.uint64(0)


@overload_method(types.Integer, "__str__", target="cpu")  # numba tries what is for this target before its own
def _digits_of(number):
    def digits_of(number):
        is_negative = number < 0
        size = np.uint64(~number) + _ONE if is_negative else np.uint64(number)  # the least int has no opposite
        count = 2 if is_negative else 1
        rest = size // _TEN
        while rest > _ZERO:
            count += 1
            rest //= _TEN
        text = _empty_string(PY_UNICODE_1BYTE_KIND, count, True)
        if is_negative:
            _set_code_point(text, 0, np.uint32(45))
        for at in range(count - 1, 0 if is_negative else -1, -1):
            _set_code_point(text, at, np.uint32(48) + np.uint32(size % _TEN))
            size //= _TEN
        return text

    return digits_of
