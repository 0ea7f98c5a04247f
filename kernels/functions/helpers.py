"""A user's function as numba takes it: keywords bound, the functions it calls compiled too."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

from numba.core.registry import cpu_target

from kernelmill.kernels.functions import inlining  # noqa: F401 - it tells numba
from kernelmill.kernels.functions.characters import user_chr
from kernelmill.kernels.functions.counting import user_enumerate
from kernelmill.kernels.functions.formats import as_slices
from kernelmill.kernels.functions.guards import guard
from kernelmill.kernels.functions.hashes import user_hash
from kernelmill.kernels.functions.reasons import refuse_at_once
from kernelmill.kernels.functions.rewriting import without_generator_expressions
from kernelmill.kernels.functions.sorts import user_sorted
from kernelmill.kernels.functions.walruses import with_loads
from kernelmill.kernels.globalnames import globals_read
from kernelmill.kernels.sidevalues import takes_side
from kernelmill.kernels.text.jitting import user_function
from kernelmill.kernels.usercode import CannotCompileError

_OWN: dict[str, Any] = {"chr": user_chr, "enumerate": user_enumerate, "hash": user_hash, "sorted": user_sorted}
"""Builtins that users' functions have from here; names that they give themselves stay theirs."""


def compiled_helpers(function: Callable[..., Any], keywords: Mapping[str, Any]) -> Callable[..., Any]:
    """A copy of `function`, for compiled code to call: functions that it calls are compiled, its keywords constants.

    function: takes what is not bound by `keywords` as arguments in order. Nothing is compiled before it is called.
    """
    made: dict[FunctionType, Any] = {}
    if not isinstance(function, FunctionType):
        raise CannotCompileError(f"a {type(function).__name__} is no plain function")
    refuse_at_once(function)
    if _calls(function, function, set()):
        raise CannotCompileError("it calls itself")
    copy = _copied(function)
    _link(copy, made)
    callable_copy: Callable[..., Any] = user_function(_bound(copy, keywords) if keywords else copy)
    return callable_copy


def _bound(function: Any, keywords: Mapping[str, Any]) -> Any:
    """`function` with its keywords bound to constants, and what has a default left to that."""
    wanted = inspect.signature(function).parameters.values()
    parameters = [one.name for one in wanted if one.name not in keywords and one.default is one.empty]
    given = ", ".join([*parameters, *(f"{name}={name}_" for name in keywords)])
    source = f"def bound({', '.join(parameters)}):\n    return inner({given})\n"
    namespace: dict[str, Any] = {"inner": user_function(function), **{f"{name}_": keywords[name] for name in keywords}}
    exec(source, namespace)
    return namespace["bound"]


def _copied(function: Any) -> FunctionType:
    """A copy with globals and cells of its own, changed where numba needs it to be."""
    function = without_generator_expressions(function)
    cells = tuple(CellType(*_content(cell)) for cell in function.__closure__ or ())
    names = dict(function.__globals__)
    code = _prepared(function.__code__)
    guard(code)
    copy = FunctionType(code, names, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    if takes_side(function):
        copy.__dict__.update(function.__dict__)  # its signature says so
    return copy  # without what wraps() left: numba would call it as it calls what is wrapped


def _prepared(code: CodeType) -> CodeType:
    """The code for the compiler: without handlers of exceptions, sets that are constants as tuples.

    A record that raises is called again as plain Python, whatever raises and whoever would catch it: so handlers run
    there, and compiled code needs none. Raises CannotCompileError for numbers beyond 64 bits.
    """
    code = with_loads(as_slices(code))
    constants = tuple(_prepared_constant(one, code.co_firstlineno) for one in code.co_consts)
    return code.replace(co_exceptiontable=b"", co_consts=constants)


def _prepared_constant(value: Any, line: int) -> Any:
    if isinstance(value, CodeType):
        return _prepared(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise CannotCompileError(f"the number {value} is beyond 64 bits", line)
    return tuple(sorted(value, key=repr)) if isinstance(value, frozenset) else value


def _content(cell: CellType) -> tuple[Any, ...]:
    """What is in a cell, as a tuple: of nothing where its name has no value yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _link(copy: FunctionType, made: dict[FunctionType, Any]) -> None:
    """Let a copy name compiled functions where it names plain ones."""
    for name in globals_read(copy.__code__):
        if name in copy.__globals__:
            copy.__globals__[name] = _compiled(copy.__globals__[name], made)
        elif name in _OWN:
            copy.__globals__[name] = _OWN[name]
    for cell in copy.__closure__ or ():
        for content in _content(cell):
            cell.cell_contents = _compiled(content, made)


def _compiled(value: Any, made: dict[FunctionType, Any]) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise CannotCompileError(f"the number {value} is beyond 64 bits")
    if not isinstance(value, FunctionType) or cpu_target.typing_context._lookup_global(value) is not None:
        return value
    if value not in made:
        if _calls(value, value, set()):  # without end it would end the process, where Python raises
            raise CannotCompileError(f"{value.__name__} calls itself", value.__code__.co_firstlineno)
        copy = _copied(value)
        _link(copy, made)
        made[value] = user_function(copy)
    return made[value]


def _calls(function: FunctionType, sought: FunctionType, seen: set[FunctionType]) -> bool:
    """True if `function` calls `sought`, itself or through others."""
    used = [function.__globals__.get(name) for name in globals_read(function.__code__)]
    used += [content for cell in function.__closure__ or () for content in _content(cell)]
    for one in used:
        if one is sought:
            return True
        if isinstance(one, FunctionType) and one not in seen:
            seen.add(one)
            if _calls(one, sought, seen):
                return True
    return False
