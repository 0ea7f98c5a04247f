"""Results of pure functions, kept by the identity of their arguments.

For what follows from a plan alone, asked for by each of its tasks: the plan's objects are the same ones each time, and
to compare them, or Arrow's schemas, by value costs as much as the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

Made = TypeVar("Made", bound=Callable[..., Any])
KEPT_MAX = 256
"""Results kept of one function; beyond that all are forgotten."""


def remembered(function: Made) -> Made:
    """Call `function` once for the same objects as positional arguments, none of which anybody ever changes."""
    known: dict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = {}

    def call(*arguments: Any) -> Any:
        key = tuple(map(id, arguments))
        found = known.get(key)
        if found is None:
            if len(known) >= KEPT_MAX:
                known.clear()
            found = known[key] = arguments, function(*arguments)  # while they are held, no others get their ids
        return found[1]

    update_wrapper(call, function)
    return call  # type: ignore[return-value]
