"""Users' functions as machine code, whatever they serve as: names made of all that decides the code, and its place in
the kernel cache. What a function of each kind is called with is said beside this: `usermaps`, `userpartitions`.

Compiling is `kernels/functions`, which brings numba; a process that finds the code in the cache does without.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from kernelmill.kernels import _jit
from kernelmill.kernels._cache import Code
from kernelmill.kernels._loader import bind, can_run
from kernelmill.kernels._signature import Array, Scalar, Signature
from kernelmill.kernels.globalnames import globals_read
from kernelmill.kernels.sidevalues import Bound, RefusedSide, SideRef

TEXT_SLACK_BYTES = 64
_WARMED = "text-methods"
_KEPT_MAX = 1000
"""Files of users' functions in the cache, two for each; of more the oldest go."""
_NAMELESS = itertools.count()

Entry: TypeAlias = tuple[Callable[..., int], dict[str, Any]]
"""An entry point, and what is known about it."""
_LOADED: dict[str | None, Entry] = {}  # what was linked stays until the process ends


class Input(NamedTuple):
    """A column that a function reads: its name, its kind (text int64 float64 boolean), and whether it may hold None."""

    name: str
    kind: str
    nullable: bool


class Output(NamedTuple):
    """A column of what a function gives: its kind, whether it has None, and the number in all rows if it is one."""

    kind: str
    nullable: bool
    constant: int | None = None


class Compiled(NamedTuple):
    """What the compiler made: code, or a function of numba's where the code needs numba's runtime.

    `about` is what must be known to call it, as JSON has it.
    """

    code: Code | None
    function: Callable[..., int] | None
    about: dict[str, Any]


class CannotCompileError(Exception):
    """A function is beyond the compiler: the text says why, `line` and `path` where, if that is known."""

    def __init__(self, why: str, line: int | None = None, path: str | None = None) -> None:
        super().__init__(why)
        self.line, self.path = line, path


def loaded(
    name: str | None,
    title: str,
    compile_: Callable[[str], Compiled],
    signature_of: Callable[[dict[str, Any]], Signature],
    on_compile: Callable[[str], Any] | None = None,
) -> Entry:
    """The entry point of a function and what is known about it, from the cache or compiled now.

    `name` is its fingerprint, None where it has none; `compile_(symbol)` compiles it, `on_compile(title)` is called
    before. Raises CannotCompileError.
    """
    if name in _LOADED:
        return _LOADED[name]
    made = _load(name, title, compile_, signature_of, on_compile)
    if name is not None:
        _LOADED[name] = made
    return made


def _load(
    name: str | None,
    title: str,
    compile_: Callable[[str], Compiled],
    signature_of: Callable[[dict[str, Any]], Signature],
    on_compile: Callable[[str], Any] | None,
) -> Entry:
    cache = _jit.opened_cache() if name is not None else None
    if cache is not None and name is not None:
        found = _stored(cache, name, signature_of)
        if found is not None:
            return found
    if on_compile is not None:
        on_compile(title)
    symbol = name or f"user-{next(_NAMELESS)}"  # one linker serves all: each a name of its own
    try:
        made = compile_(symbol)
    except CannotCompileError:
        raise
    except Exception as problem:  # numba lets out what its own insides raise: whatever it is, there is no code
        why = str(problem).strip().partition("\n")[0]
        raise CannotCompileError(
            f"the compiler failed with {type(problem).__name__}{': ' * bool(why)}{why}"
        ) from problem
    about = json.loads(json.dumps(made.about))  # the same whether it was stored or not
    if made.code is None:
        assert made.function is not None
        return made.function, about
    if cache is not None and name is not None:
        cache.write(f"{name}.json", Code(json.dumps(about).encode(), []))
        cache.write(name, made.code)
        cache.trim(f"{name.partition('-')[0]}-*", _KEPT_MAX)
    entry = bind(made.code.object_file, symbol, title, signature_of(about))
    assert entry is not None  # it was compiled under that name
    return entry, about


def _stored(cache: Any, name: str, signature_of: Callable[[dict[str, Any]], Signature]) -> Entry | None:
    about, code = cache.read(f"{name}.json"), cache.read(name)
    if about is None or code is None or not can_run(code.calls):
        return None
    read = json.loads(about.object_file)
    entry = bind(code.object_file, name, name, signature_of(read))
    return None if entry is None else (entry, read)


def warm(on_compile: Callable[[str], Any] | None = None) -> tuple[int, float]:
    """Compile what users' functions may do with texts into the cache, if it is not there: (how many methods, seconds).

    A function is then compiled in a fifth of the time. `on_compile(title)` is called before.
    """
    cache = _jit.opened_cache()
    done = cache.read(_WARMED) if cache is not None else None
    if done is not None or cache is None or _jit.JIT_DISABLED:
        return int(done.object_file) if done is not None else 0, 0.0
    if on_compile is not None:
        on_compile("methods of texts")
    keeping = importlib.import_module("kernelmill.kernels.functions.keeping")
    with cache.locked(_WARMED):
        began = time.perf_counter()
        count: int = keeping.warm_helpers()
        cache.write(_WARMED, Code(str(count).encode(), []))
    return count, time.perf_counter() - began


def require_bound(bound: Bound) -> None:
    """Raise CannotCompileError where side= names arguments of what is no plain function."""
    if bound.keywords:
        raise CannotCompileError(f"side= binds {', '.join(bound.keywords)}: to a plain function only, without * or **")


def column_parameters(inputs: Sequence[Input]) -> list[Scalar | Array]:
    """What a driver takes for columns: of numbers their values, of texts the bytes, where each begins, where it ends;
    validity; and of texts whether the bits of where each begins tell if it is ASCII: `text.views.text_of_row`.
    """
    return [one for column in inputs for one in _PARAMETERS[column.kind]]


_PARAMETERS: dict[str, tuple[Scalar | Array, ...]] = {
    "text": (_jit.u8_in, _jit.i32_in, _jit.i32_in, _jit.u8_in, _jit.boolean),
    "int64": (_jit.i64_in, _jit.u8_in),
    "float64": (_jit.f64_in, _jit.u8_in),
    "boolean": (_jit.u8_in, _jit.u8_in),
}


# What decides a function's code ---------------------------------------------------------------------------------------


def fingerprint(kind: str, function: Callable[..., Any], *others: Any) -> str | None:
    """Names the machine code of a function that serves as `kind`, by code, constants and helpers, and by `others`.

    None where these cannot be told.
    """
    digest = hashlib.sha256()
    try:
        for part in _parts_of((function, *others), set()):
            digest.update(part + b"\0")
    except _NoBytesError:
        return None
    title = getattr(function, "__name__", kind).strip("<>")
    return f"{kind}-{title}-{digest.hexdigest()[:32]}"


class _NoBytesError(Exception):
    """A value that a function uses has no bytes that say what it is."""


def _parts_of(value: Any, seen: set[int]) -> Iterator[bytes]:
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | type():
            yield f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
        case SideRef() | RefusedSide():
            yield repr(value).encode()
        case re.Pattern():
            yield f"pattern {value.pattern!r} {value.flags}".encode(errors="surrogatepass")
        case tuple() | list() | frozenset():
            yield f"{type(value).__name__} {len(value)}".encode()
            for one in sorted(value, key=repr) if isinstance(value, frozenset) else value:
                yield from _parts_of(one, seen)
        case ModuleType():
            yield f"module {value.__name__} {getattr(value, '__version__', '')}".encode()
        case FunctionType() if id(value) in seen:
            yield b"a function named before"
        case FunctionType():
            seen.add(id(value))
            yield from _parts_of_function(value, seen)
        case CodeType():
            yield from _parts_of_code(value, seen)
        case _ if type(value).__name__ == "builtin_function_or_method":
            yield f"builtin {value.__qualname__}".encode()
        case _:
            raise _NoBytesError


def _parts_of_code(code: CodeType, seen: set[int]) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)).encode()
    yield code.co_exceptiontable
    for constant in code.co_consts:
        yield from _parts_of(constant, seen)


def _parts_of_function(function: FunctionType, seen: set[int]) -> Iterator[bytes]:
    yield from _parts_of_code(function.__code__, seen)
    yield from _parts_of(function.__defaults__, seen)
    yield from _parts_of(tuple(sorted((function.__kwdefaults__ or {}).items())), seen)
    for cell in function.__closure__ or ():
        yield from _parts_of(cell.cell_contents, seen)
    for name in globals_read(function.__code__):
        if name in function.__globals__:
            yield name.encode()
            yield from _parts_of(function.__globals__[name], seen)
