"""Why a function is not compiled, in plain words: found in its code, for numba's own words are about numba.

Also what must not be compiled though numba would: what is random, for numba's numbers are others than Python's.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from kernelmill.kernels.functions.compilerwords import NOT, SILENT, plain_words
from kernelmill.kernels.functions.formats import as_slices
from kernelmill.kernels.functions.mistakes import mistake_in
from kernelmill.kernels.functions.rewriting import source_is_at_hand, without_generator_expressions
from kernelmill.kernels.functions.silent import place_of, words_of
from kernelmill.kernels.functions.unbound import unbound_reads
from kernelmill.kernels.functions.walruses import with_loads
from kernelmill.kernels.globalnames import globals_read
from kernelmill.kernels.plainvalues import why_not_plain
from kernelmill.kernels.sidevalues import RefusedSide, SideRef
from kernelmill.kernels.usercode import CannotCompileError

_WHICH_NOT = "which is not supported in compiled functions for what it calls"
_KNOWN_MODULES = ("math", "cmath", "operator", "numpy")
_KNOWN_BUILTINS = frozenset(
    "abs all any bool chr complex dict divmod enumerate filter float format frozenset hash int iter len list map max "
    "min next ord pow range reversed round set slice sorted str sum tuple zip".split()
)
_RANDOM = ("random", "numpy.random", "secrets")


class Found(NamedTuple):
    """A place that numba does not take: where, and why.

    `is_certain`: it must not be compiled, whatever numba says. `may_work`: numba takes such in some places, so it is
    the reason only if numba speaks of that line, or has no words.
    """

    path: str
    line: int
    why: str
    is_certain: bool = False
    may_work: bool = False


def refuse_at_once(function: FunctionType) -> None:
    """Raise CannotCompileError for what numba would compile to something else than Python does."""
    for found in _places(function, set()):
        if found.is_certain:
            raise CannotCompileError(found.why, found.line, found.path)


def explained(
    problem: Exception, function: Callable[..., Any] | None, arguments: Sequence[Any] = ()
) -> CannotCompileError:
    """What the function's code tells, at the line that numba speaks of if it can; else numba's first useful line.

    `arguments`: the numba types that it is called with, of which the first may be a record's.
    """
    place = getattr(problem, "loc", None)
    line = getattr(place, "line", None) or None
    path = getattr(place, "filename", None) if line else None
    if line is None:
        path, line = _lowered(str(problem)) or place_of(problem) or (None, None)
    said = mistake_in(str(problem), function, arguments)
    if said and line:
        return CannotCompileError(said, line, path)
    if isinstance(function, FunctionType):
        found = list(_places(function, set()))
        here = [one for one in found if one.line == line]
        here = here or [one for one in found if not one.may_work or (not str(problem) and line is None)]
        if here:
            return CannotCompileError(here[0].why, here[0].line, here[0].path)
        inner = _in_helper(str(problem), _helpers(function, set()))
        if inner is not None:
            return inner
        if line is None or path != function.__code__.co_filename:
            line, path = function.__code__.co_firstlineno, function.__code__.co_filename
    why = plain_words(str(problem))
    return CannotCompileError(words_of(problem) if why in ("", SILENT) else why, line, path)


def _lowered(text: str) -> tuple[str, int] | None:
    """The file and line of the statement that numba made machine code of, if its `text` says so."""
    found = re.search(r"During: lowering .* at (.+) \((\d+)\)", text)
    return (found[1], int(found[2])) if found else None


def _in_helper(text: str, helpers: set[str]) -> CannotCompileError | None:
    """What is wrong in one of these functions, which the user's calls, and where; None if it is not in one."""
    helper = re.search(r"No implementation of function Function\(<function ([\w.<>]+) at 0x[0-9a-f]+>\)", text)
    if helper is None or helper[1] not in helpers:
        return None
    rest = text[helper.end() :]
    inner = re.search(r"Rejected as the implementation raised a specific error:\n\s*(\w+: )?(.*)", rest, re.DOTALL)
    place = re.search(r"During: typing of .* at (.+) \((\d+)\)", rest)  # that of what is wrong comes first
    if inner is None or place is None:
        return None
    return _in_helper(inner[2], helpers) or CannotCompileError(plain_words(inner[2]), int(place[2]), place[1])


def _helpers(function: FunctionType, seen: set[FunctionType]) -> set[str]:
    """The names of the functions that it calls, and that these call."""
    seen.add(function)
    names = set()
    called = [function.__globals__.get(name) for name in globals_read(function.__code__)]
    for one in (*called, *dict(_cells_of(function)).values()):
        if isinstance(one, FunctionType) and one not in seen:
            names |= {one.__qualname__} | _helpers(one, seen)
    return names


def _places(function: FunctionType, seen: set[FunctionType]) -> Iterator[Found]:
    """What numba does not take in the function and in those that it calls."""
    if function in seen:
        return
    seen.add(function)
    function = without_generator_expressions(function)
    code = function.__code__
    if code.co_flags & inspect.CO_VARKEYWORDS:
        yield Found(code.co_filename, code.co_firstlineno, f"**kwargs are {NOT}")
    if code.co_flags & inspect.CO_VARARGS:
        yield Found(code.co_filename, code.co_firstlineno, f"{code.co_name} takes *args, which are {NOT}")
    is_ours = (function.__module__ or "").startswith("kernelmill.")  # what stands for a builtin
    if code.co_kwonlyargcount and len(seen) > 1 and not is_ours:  # of a helper: the user's own are bound before
        kept = code.co_varnames[code.co_argcount]
        yield Found(
            code.co_filename, code.co_firstlineno, f"{code.co_name} takes {kept} by name alone (*), {_WHICH_NOT}"
        )
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if why_not_plain(default):
            why = f"a default of {code.co_name} {why_not_plain(default)}"
            yield Found(code.co_filename, code.co_firstlineno, why, is_certain=True)
    names = dict(_cells_of(function))
    for name, value in names.items():
        why, is_certain = _of_value(name, value, None)
        if why:
            yield Found(code.co_filename, code.co_firstlineno, why, is_certain)
    yield from _places_in(code, function.__globals__)
    for value in (*names.values(), *(function.__globals__.get(name) for name in globals_read(code))):
        if isinstance(value, FunctionType):
            yield from _places(value, seen)


def _cells_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it has no value yet
            yield name, cell.cell_contents


def _places_in(code: CodeType, names: dict[str, Any]) -> Iterator[Found]:
    line = code.co_firstlineno
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_kwonlyargcount:  # before the dict of its defaults
            name, kept = constant.co_name, constant.co_varnames[constant.co_argcount]
            why = f"{name} takes {kept} by name alone (*), which is {NOT} for what is made inside a function"
            yield Found(code.co_filename, constant.co_firstlineno, why)
    steps = list(dis.get_instructions(with_loads(as_slices(code))))
    for step, after, third in zip(steps, [*steps[1:], None], [*steps[2:], None, None], strict=False):
        line = (step.positions.lineno if step.positions else None) or line
        why, is_certain = _of_step(step, after, names)
        if _is_walrus(step, after, third):
            why = f"an assignment in an expression (:=) is {NOT}: give it a line of its own"
        if why:
            yield Found(code.co_filename, line, why, is_certain, may_work=_may_work(step))
        if step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in code.co_freevars:
            why = _WALRUS if _is_comprehension(code) else f"assigning {step.argval!r} of an outer function is {NOT}"
            yield Found(code.co_filename, line, why, True)
    assigned = _assigned_in_comprehensions(code)
    recursive = {one.co_name for one in code.co_consts if isinstance(one, CodeType) and one.co_name in one.co_freevars}
    for name, at in unbound_reads(code):
        why = (
            f"{name} calls itself, which is {NOT}"
            if name in recursive
            else f"{name} may have no value here, which is {NOT}"
        )
        yield Found(code.co_filename, at, _WALRUS if name in assigned else why, True)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_name == "<genexpr>":
                why = f"a generator expression is {NOT} here"
                if not source_is_at_hand(code):
                    why = "a generator expression takes the function's source, which is not at hand: write [...] for it"
                yield Found(code.co_filename, constant.co_firstlineno, why)
            yield from _places_in(constant, names)


_WALRUS = f"an assignment in an expression (:=) is {NOT} within a comprehension"


def _is_comprehension(code: CodeType) -> bool:
    return code.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def _assigned_in_comprehensions(code: CodeType) -> set[str]:
    """The variables that comprehensions in code assign by :=."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType) and _is_comprehension(one)]
    steps = [step for one in inner for step in dis.get_instructions(one)]
    return {step.argval for step in steps if step.opname == "STORE_DEREF"}.union(
        *map(_assigned_in_comprehensions, inner)
    )


def _may_work(step: dis.Instruction) -> bool:
    """Whether numba takes in some places what `_of_step` says of the instruction."""
    is_builtin = step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in ("isinstance", "getattr", "type")
    return is_builtin or step.argval == "format" or step.opname in ("CALL_FUNCTION_EX", "SET_UPDATE", "BUILD_SET")


def _is_walrus(step: dis.Instruction, after: dis.Instruction | None, third: dis.Instruction | None) -> bool:
    """Whether a value is stored and goes on being used; in a = b = value another store follows."""
    if step.opname != "COPY" or step.arg != 1 or after is None or third is None:
        return False
    return after.opname in ("STORE_FAST", "STORE_DEREF") and not third.opname.startswith(("STORE_", "LOAD_FAST_LOAD"))


def _of_step(step: dis.Instruction, after: dis.Instruction | None, names: dict[str, Any]) -> tuple[str, bool]:
    match step.opname:
        case "LOAD_GLOBAL" | "LOAD_NAME":
            attribute = after.argval if after and after.opname in ("LOAD_ATTR", "LOAD_METHOD") else None
            if step.argval in names:
                return _of_value(step.argval, names[step.argval], attribute)
            if hasattr(builtins, step.argval) and step.argval not in _KNOWN_BUILTINS:
                is_class = isinstance(getattr(builtins, step.argval), type)
                is_error = is_class and issubclass(getattr(builtins, step.argval), BaseException)
                return ("" if is_error else f"{step.argval}() is {NOT}"), step.argval in ("print", "input", "open")
        case "FORMAT_VALUE" | "CONVERT_VALUE" if (step.arg or 0) & 3:
            return f"a conversion in an f-string (!r, !a), or text % values, is {NOT}", False
        case "MATCH_CLASS" | "MATCH_MAPPING" | "MATCH_SEQUENCE" | "MATCH_KEYS":
            return f"match with such a pattern is {NOT}: use if and elif", False
        case "FORMAT_VALUE" if (step.arg or 0) & 4:
            return f"this format specification is {NOT}", False
        case "FORMAT_WITH_SPEC":
            return f"this format specification is {NOT}", False
        case "BUILD_MAP" | "BUILD_CONST_KEY_MAP" | "MAP_ADD" | "DICT_UPDATE" | "DICT_MERGE":
            return f"a dict that is made inside a function is {NOT}", False
        case "SET_UPDATE" | "BUILD_SET":
            return f"a set that is written out is {NOT} here: make it outside, as a global", False
        case "STORE_GLOBAL" | "DELETE_GLOBAL":
            return f"assigning the global {step.argval!r} is {NOT}", False
        case "CALL_FUNCTION_EX":
            return f"a call with *args or **kwargs is {NOT}", False
        case "RETURN_GENERATOR" | "YIELD_VALUE" | "ASYNC_GEN_WRAP":
            return f"a generator is {NOT} here", False
        case "BEFORE_WITH" | "LOAD_SPECIAL":
            return f"with is {NOT}", False
        case "IMPORT_NAME":
            return f"an import inside a function is {NOT}", False
        case "LOAD_BUILD_CLASS":
            return f"a class is {NOT}", False
        case "UNPACK_EX":
            return f"a starred name (a, *b = ...) is {NOT}", False
        case "LOAD_METHOD" | "LOAD_ATTR" if step.argval in ("format", "format_map"):
            return f"str.{step.argval} is {NOT}", False
    return "", False


def _of_value(name: str, value: Any, attribute: str | None) -> tuple[str, bool]:
    """Why a value of the function's module or closure is not taken, and whether it must not be; nothing if it is."""
    not_plain = why_not_plain(value)
    if not_plain:
        return f"{name} {not_plain}", True
    title = name if attribute is None else f"{name}.{attribute}"
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if isinstance(value, ModuleType) and f"{module}.{attribute}" in _RANDOM:
        module = f"{module}.{attribute}"
    if module in _RANDOM or type(getattr(value, "__self__", None)).__module__ == "random":
        return f"{title} is {NOT}: its numbers would be others", True
    if value is re and attribute in ("findall", None):
        return "", False
    if isinstance(value, ModuleType):
        return ("" if module in _KNOWN_MODULES else f"{title} is {NOT}"), False
    if isinstance(value, RefusedSide):
        return value.why, False
    if isinstance(value, dict | list | set | frozenset | bytearray):
        return f"{name} is a {type(value).__name__}, which is {NOT} here", False
    if isinstance(value, re.Pattern):
        return ("" if attribute in ("findall", None) else f"{title} is {NOT}"), False
    is_plain = isinstance(value, None | bool | int | float | complex | str | bytes | tuple | FunctionType)
    if is_plain or type(value).__module__ in ("numpy", "numba.core.registry", "builtins", SideRef.__module__):
        is_class = isinstance(value, type) and value.__module__ not in ("builtins", "numpy")
        return (f"{name} is a class, which is {NOT}" if is_class else ""), False
    return f"{name} is an instance of {type(value).__name__}, which is {NOT}", False
