"""Types that numba makes one and a user's function must not have.

Such as nest deeper with each round of a loop, as that of x in `x = [x]`, which numba would follow without end; and a
bool where a number may stand, as in `x = n > 2 and 7`, whose text would be that of a number. Also what else meets in
users' functions alone: `meet` says which type serves both.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import types
from numba.core import errors

GROWS = "a variable holds itself in a list or tuple, deeper each time: such types are not supported"
_DEPTH_MAX = 12
"""Lists in lists, tuples in tuples: deeper than any that is written out."""


@contextmanager
def bounded_types(
    context: Any, is_users: Callable[[], bool], meet: Callable[[Any, Any], Any] = lambda first, second: None
) -> Iterator[None]:
    """While it is open, a type that nests too deeply is a TypingError with the words GROWS.

    Where `is_users` says that a user's code is looked at, bools and numbers have no type in common, and two types have
    the one that `meet` gives, if it gives any.
    """
    if "unify_pairs" in vars(context):  # it is open, and a helper's caller closes it
        yield
        return
    unify = context.unify_pairs

    def unify_bounded(first, second):
        found = None
        if first != second and is_users():
            if _are_bool_and_number(first, second):
                return None
            found = meet(first, second)
        found = unify(first, second) if found is None else found
        if found is not None and _is_deeper(found, _DEPTH_MAX):
            raise errors.TypingError(GROWS)
        return found

    context.unify_pairs = unify_bounded
    try:
        yield
    finally:
        del context.unify_pairs


def _are_bool_and_number(first: Any, second: Any) -> bool:
    """Also where either may be None, or they are in one place of two tuples: numba makes a number of the bool there."""
    first, second = (one.type if isinstance(one, types.Optional) else one for one in (first, second))
    if isinstance(first, types.BaseTuple) and isinstance(second, types.BaseTuple):
        return any(_are_bool_and_number(*pair) for pair in zip(_items(first), _items(second), strict=False))
    kinds = [isinstance(one, types.Boolean) for one in (first, second)]
    numbers = [isinstance(one, types.Integer | types.Float) for one in (first, second)]
    return any(kinds) and any(numbers)


def _is_deeper(kind: Any, depth: int) -> bool:
    """True if it nests deeper; each item is looked at, but of equal ones only the first."""
    if isinstance(kind, types.Optional):
        return _is_deeper(kind.type, depth)
    inner = [kind.dtype] if isinstance(kind, types.List) else _items(kind) if isinstance(kind, types.BaseTuple) else []
    return bool(inner) and (depth == 0 or any(_is_deeper(one, depth - 1) for one in dict.fromkeys(inner)))


def _items(kind: Any) -> list[Any]:
    return list(kind)
