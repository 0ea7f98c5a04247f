"""Combiners with a state of their own: init, step, merge, finish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernelmill.engine.errors import Code, error
from kernelmill.engine.userfunctions import UserFunction, user_function

_PARTS = {"init": 0, "step": 2, "merge": 2, "finish": 1}


@dataclass(frozen=True)
class Combiner:
    """Combine by a state: `km.Combiner(lambda: (0.0, 0), step, merge, finish)`, as `combine=` of a job.

    init() -> state; step(state, value) -> state; merge(a, b) -> state of two tasks' states, associative and
    commutative; finish(state) -> the value, the state itself if left out. Compiled where states are numbers, or tuples
    of numbers; in plain Python any plain values: texts, lists, sets, dicts. Any object or class with such methods does.
    """

    init: Callable[[], Any]
    step: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any] | None = None


def is_combiner(given: Any) -> bool:
    """True for what has the methods of a Combiner."""
    return all(callable(getattr(given, name, None)) for name in ("init", "step", "merge"))


def combiner_function(given: Any, compiling: str) -> UserFunction:
    """A Combiner as a combine function. Raises KM0107 for methods that cannot be called as they will be."""
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    if isinstance(given, type):
        try:
            given = given()
        except TypeError as problem:
            hint = f"give an object: combine={name}(...)"
            raise error(Code.BAD_SETTING, f"{name} cannot be made: {problem}", hint=hint) from problem
    parts: list[Any] = [getattr(given, part, None) for part in _PARTS]
    checked = [
        None if one is None else user_function(one, f"{part} of combine", positional=count)
        for one, (part, count) in zip(parts, _PARTS.items(), strict=True)
    ]
    step = checked[1]
    assert step is not None
    return UserFunction(step.given, "combine", name, step.where, compile=compiling, parts=tuple(parts))
