"""Builtin functions that numba lacks, for users' functions: any, all, and reversed of pieces and lists.

Importing this module tells numba. They take pieces, lists, and tuples of one type.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from numba import types
from numba.extending import overload

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
