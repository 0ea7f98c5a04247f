"""A user's function as numba takes it: keywords bound, the functions it calls compiled too."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

from numba import njit

from kernelmill.kernels.functions.hashes import user_hash

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "python", "boundscheck": True}


def compiled_helpers(function: Callable[..., Any], keywords: Mapping[str, Any]) -> Callable[..., Any]:
    """A copy of `function` of (record, emit): functions it calls are compiled, its keywords constants."""
    linked: Callable[..., Any] = _linked(function, {}, keywords)
    return linked


def _linked(function: Any, made: dict[Any, Any], keywords: Mapping[str, Any]) -> Any:
    cells = tuple(CellType(_compiled(cell.cell_contents, made)) for cell in function.__closure__ or ())
    names = dict(function.__globals__)
    for name in _names_in(function.__code__):
        if name in names:
            names[name] = _compiled(names[name], made)
        elif name == "hash":
            names[name] = user_hash
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    return _bound(copy, keywords) if keywords else copy


def _bound(function: Any, keywords: Mapping[str, Any]) -> Any:
    """`function(record, emit)` with its keywords bound to constants."""
    parameters = list(inspect.signature(function).parameters)[:2]
    inner = njit(**_OPTIONS)(function)
    given = ", ".join(f"{name}={name}_" for name in keywords)
    source = f"def bound({', '.join(parameters)}):\n    inner({', '.join(parameters)}, {given})\n"
    namespace: dict[str, Any] = {"inner": inner, **{f"{name}_": value for name, value in keywords.items()}}
    exec(source, namespace)
    return namespace["bound"]


def _compiled(value: Any, made: dict[Any, Any]) -> Any:
    if not isinstance(value, FunctionType):
        return value
    if value not in made:
        made[value] = None  # it may call itself: numba then finds the dispatcher below
        made[value] = njit(**_OPTIONS)(_linked(value, made, {}))
    return made[value] if made[value] is not None else value


def _names_in(code: CodeType):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
