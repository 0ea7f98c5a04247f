"""`chr` in users' functions: numba's own says of the characters 128 to 255 that they are ASCII."""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import overload

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
