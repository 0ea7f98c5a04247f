"""`helpers.cut(line)` as `from helpers import cut` has it: what functions read of modules becomes globals of theirs.

Then a helper is compiled whichever way it is named, and constants of modules are part of what a function is: a module's
name says nothing of what is in it, and code made before an edit would be taken for code made after it.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from types import CellType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple

from kernelmill.kernels.functions.rewriting import without_generator_expressions
from kernelmill.kernels.globalnames import globals_read

_NUMBA_KNOWS = frozenset({"cmath", "kernelmill", "math", "numba", "numpy", "operator"})
"""Packages that are left as they are: they change with the versions that the kernel cache is named by."""
_DATA = (NoneType, bool, int, float, complex, str, bytes, tuple, list, set, frozenset, dict)
_ARG_MAX = 255
_NOTHING = object()


class _Read(NamedTuple):
    """A value that code reads of a module: its load is at `start`, those of attributes end at `end`, in bytes."""

    name: str
    value: Any
    start: int
    attributes: int
    end: int
    is_called: bool


def with_module_names(function: FunctionType) -> FunctionType:
    """A function that reads as globals what this one and its helpers read of modules; itself where they read nothing.

    The globals are named with the dot, as "helpers.cut". What is in a module is read now.
    """
    callees: dict[FunctionType, list[FunctionType]] = {}
    _visit(function, callees)
    changed = {one for one in callees if any(_reads(code, one.__globals__) for code in _codes(one.__code__))}
    before = -1
    while len(changed) > before:
        before = len(changed)
        changed |= {one for one, called in callees.items() if changed.intersection(called)}
    if function not in changed:
        return function
    made = {one: _copy(one) for one in callees if one in changed}
    for copy in made.values():  # only now, for they may call one another
        for name in globals_read(copy.__code__):
            value = copy.__globals__.get(name)
            if isinstance(value, FunctionType):
                copy.__globals__[name] = made.get(value, value)
        for cell, value in _filled(copy):
            if isinstance(value, FunctionType):
                cell.cell_contents = made.get(value, value)
    return made[function]


def _visit(function: FunctionType, callees: dict[FunctionType, list[FunctionType]]) -> None:
    """Note the functions of users that a function calls, and those that they call."""
    if function in callees:
        return
    names = function.__globals__
    values = [names.get(name) for name in globals_read(function.__code__)]
    values += [one.value for code in _codes(function.__code__) for one in _reads(code, names)]
    values += [value for _, value in _filled(function)]
    callees[function] = [one for one in values if isinstance(one, FunctionType) and _is_users(one.__module__ or "")]
    for one in callees[function]:
        _visit(one, callees)


def _copy(function: FunctionType) -> FunctionType:
    """The function with globals and cells of its own, which reads no modules."""
    listed = without_generator_expressions(function)  # it asks the source, so it comes first
    names = dict(listed.__globals__)
    code = _rewritten(listed.__code__, names)
    cells = tuple(CellType(*_content(cell)) for cell in listed.__closure__ or ())
    copy = FunctionType(code, names, listed.__name__, listed.__defaults__, cells)
    copy.__qualname__, copy.__kwdefaults__ = listed.__qualname__, listed.__kwdefaults__
    copy.__dict__.update(listed.__dict__)
    return copy


def _rewritten(code: CodeType, names: dict[str, Any]) -> CodeType:
    """The code with loads of globals for attributes of modules, and code in it likewise; `names` gets the globals."""
    written, co_names = bytearray(code.co_code), list(code.co_names)
    for one in _reads(code, names):
        if one.name not in co_names:
            co_names.append(one.name)
        argument = co_names.index(one.name) << 1 | one.is_called
        if argument > _ARG_MAX:
            break
        written[one.start + 1] = argument
        written[one.attributes : one.end] = bytes([dis.opmap["NOP"], 0]) * ((one.end - one.attributes) // 2)
        names[one.name] = one.value
    constants = tuple(_rewritten(one, names) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_code=bytes(written), co_names=tuple(co_names), co_consts=constants)


def _reads(code: CodeType, names: dict[str, Any]) -> list[_Read]:
    """What code itself reads of modules that are globals: the value behind all dots that lead from module to module."""
    steps, found = list(dis.get_instructions(code)), []
    for number, step in enumerate(steps):
        if step.opname != "LOAD_GLOBAL" or (step.arg or 0) & ~_ARG_MAX:
            continue
        name, value, at = str(step.argval), names.get(step.argval), number + 1
        while isinstance(value, ModuleType) and at < len(steps) and steps[at].opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attribute = str(steps[at].argval)
            owner, value = value, vars(value).get(attribute, _NOTHING)
            if not _is_read(owner, value):
                break
            name, at = f"{name}.{attribute}", at + 1
        if at > number + 1 and not isinstance(value, ModuleType) and value is not _NOTHING and _is_read(owner, value):
            end = steps[at].offset if at < len(steps) else len(code.co_code)
            is_called = _is_called(step, steps[at - 1])
            found.append(_Read(name, value, step.offset, steps[number + 1].offset, end, is_called))
    return found


def _is_called(load: dis.Instruction, last: dis.Instruction) -> bool:
    """Whether the load of the module or of the last attribute leaves a place for `self`, as before a call."""
    is_method = last.opname == "LOAD_METHOD" or (sys.version_info >= (3, 12) and bool((last.arg or 0) & 1))
    return is_method or bool((load.arg or 0) & 1)


def _is_read(owner: ModuleType, value: Any) -> bool:
    """Whether an attribute of a module may be a global instead: of Python's own modules, what is data."""
    root = owner.__name__.partition(".")[0]
    if value is _NOTHING or root in _NUMBA_KNOWS:
        return False
    return root not in sys.stdlib_module_names or isinstance(value, (*_DATA, ModuleType))


def _is_users(module: str) -> bool:
    root = module.partition(".")[0]
    return root not in _NUMBA_KNOWS and root not in sys.stdlib_module_names


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all code in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _filled(function: FunctionType) -> Iterator[tuple[CellType, Any]]:
    """The cells of a closure that have a value, with it."""
    for cell in function.__closure__ or ():
        for value in _content(cell):
            yield cell, value


def _content(cell: CellType) -> tuple[Any, ...]:
    """What is in a cell, as a tuple: of nothing where its name has no value yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()
