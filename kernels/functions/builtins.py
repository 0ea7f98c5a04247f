"""Builtins that numba lacks, for users' functions: any, all, reversed, math.fmod and isqrt, `is` of a bool or None.

Importing this module tells numba. The functions take pieces, lists, and tuples of one type; any, all and sum also what
map and filter give.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
import operator
from itertools import product
from typing import Any

import numpy as np
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, overload

from kernelmill.kernels.text.optionals import equal_or_none
from kernelmill.kernels.text.pieces import PiecesType
from kernelmill.kernels.text.texttype import TEXT

_SEQUENCES = (PiecesType, types.List, types.UniTuple)


def _are_given_once(items: Any) -> bool:
    """True for iterators of numba's, such as map and filter give."""
    return isinstance(items, types.IteratorType) and not getattr(items, "is_used_up", False)


@overload(any)
def _any(items):
    if not isinstance(items, _SEQUENCES) and not _are_given_once(items):
        return None

    def found(items):
        for one in items:  # noqa: SIM110 - this is what any() becomes
            if one:
                return True
        return False

    return found


@overload(all)
def _all(items):
    if not isinstance(items, _SEQUENCES) and not _are_given_once(items):
        return None

    def found(items):
        for one in items:  # noqa: SIM110 - this is what all() becomes
            if not one:
                return False
        return True

    return found


@overload(sum)
def _sum(items, start=0):
    numbers = types.Integer | types.Boolean | types.Float
    if not _are_given_once(items) or not isinstance(items.yield_type, numbers):
        return None
    return lambda items, start=0: sum([one for one in items], start)  # noqa: C416 - numba makes it faster than list()


@overload(reversed)
def _reversed(items):
    if (items.type if isinstance(items, types.Optional) else items) == TEXT:
        return lambda items: [one for one in items][::-1]  # noqa: C416 - a list, for in Python it is no text either
    return (lambda items: items[::-1]) if isinstance(items, PiecesType | types.List) else None


@overload(math.fmod)
def _fmod(x, y):
    return lambda x, y: np.fmod(float(x), float(y))  # what raises in Python `guards` finds


@overload(math.isqrt)
def _isqrt(n):
    def root(n):
        if n < 0:
            raise ValueError("isqrt() argument must be nonnegative")
        found = int(math.sqrt(n))
        while found > 3037000499 or found * found > n:  # the root of a float beside n may be the next one
            found -= 1
        while found < 3037000499 and (found + 1) * (found + 1) <= n:
            found += 1
        return found

    bare = n.type if isinstance(n, types.Optional) else n
    return root if isinstance(bare, types.Integer) else None


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


def _of_number_or_none(operation, result):
    """Let float and int take a number or bool that may be None: of None they raise, as in Python."""

    @infer_global(operation)
    class OfOptional(AbstractTemplate):
        def generic(self, args, kws):
            kind = args[0].type if len(args) == 1 and isinstance(args[0], types.Optional) else None
            return signature(result, kind) if isinstance(kind, types.Number | types.Boolean) else None


_of_number_or_none(float, types.float64)
_of_number_or_none(int, types.int64)
