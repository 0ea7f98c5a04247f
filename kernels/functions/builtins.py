"""Builtins that numba lacks, for users' functions: any, all, reversed of pieces and lists, `is` of a bool or None.

Importing this module tells numba. The functions take pieces, lists, and tuples of one type.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import operator
from itertools import product

from numba import types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, overload

from kernelmill.kernels.text.optionals import equal_or_none
from kernelmill.kernels.text.pieces import PiecesType

_SEQUENCES = (PiecesType, types.List, types.UniTuple)


@overload(any)
def _any(items):
    if not isinstance(items, _SEQUENCES):
        return None

    def found(items):
        for one in items:  # noqa: SIM110 - this is what any() becomes
            if one:
                return True
        return False

    return found


@overload(all)
def _all(items):
    if not isinstance(items, _SEQUENCES):
        return None

    def found(items):
        for one in items:  # noqa: SIM110 - this is what all() becomes
            if not one:
                return False
        return True

    return found


@overload(reversed)
def _reversed(items):
    return (lambda items: items[::-1]) if isinstance(items, PiecesType | types.List) else None


def _is(context, builder, sig, args):
    """`flag is True` where flag may be None: numba's own says that no such flag is."""

    def equals(kinds, values):
        flags = [context.cast(builder, *one, types.boolean) for one in zip(values, kinds, strict=True)]
        both = signature(types.boolean, types.boolean, types.boolean)
        return context.get_function(operator.eq, both)(builder, flags)

    return equal_or_none(context, builder, sig.args, args, equals)


for _pair in product((types.Optional(types.boolean), types.Boolean), repeat=2):
    if _pair != (types.Boolean, types.Boolean):
        lower_builtin(operator.is_, *_pair)(_is)
