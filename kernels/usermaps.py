"""A user's map as machine code: what it is called with, what it stages, and its place in the kernel cache.

    drive(columns..., row, last, arena, stage, state) -> the first row not done

calls the map for the records of a batch. It stops before `last` when a record was rejected or the stage is nearly full.
A record that raises makes it fail, with state[ROW] and state[MARK] naming the record and the rows staged before it;
state[OVERFULL], and the arena's WANTED, tell whether it only lacked room.

A row is staged in 8-byte words: column c of row r lies in stage[(2 c + k) * capacity + r], k = 0, 1:

    text     its address, its bytes; bytes -1 for None
    number   int64, float64 or bool as its bits; the second word is 1 for None, else 0

Staged texts point into the input and the arena. Compiling is `kernels/functions`, which brings numba; a process that
finds the code in the cache does without.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from kernelmill.kernels import _jit
from kernelmill.kernels._cache import Code
from kernelmill.kernels._loader import bind, can_run
from kernelmill.kernels._signature import Signature

COUNT, CAPACITY, ROW, MARK, REJECTED, OVERFULL, COUNTERS_END, COUNTERS = 0, 1, 2, 3, 4, 5, 6, 8
"""Places in the state: rows staged, room for them, the record at work, rows staged before it, 1 if it was rejected, 1
if it emitted more than fits, where the counters end; from COUNTERS on each counter's (kept, pending) pair."""

COUNTERS_MAX = 32
STATE_SIZE = COUNTERS + 2 * COUNTERS_MAX
STAGE_SPARE_ROWS = 64
"""With less room than this the driver stops after a record, so that few records are begun in vain."""

ARENA_USED, ARENA_WANTED = 2, 3
_NAMELESS = itertools.count()
TEXT_SLACK_BYTES = 64


class Input(NamedTuple):
    """A column of the records: its name, its kind (text int64 float64 boolean), and whether it may hold None."""

    name: str
    kind: str
    nullable: bool


class Output(NamedTuple):
    """A column of what is emitted: its kind, and whether None is emitted."""

    kind: str
    nullable: bool


@dataclass(frozen=True)
class CompiledMap:
    """`drive` as above; the columns that it stages; the counters' names by their numbers in the state.

    shape: for the key, and for the value where there is one, the length of the tuple that is emitted, -1 for a scalar.
    """

    drive: Callable[..., int]
    outputs: tuple[Output, ...]
    shape: tuple[int, ...]
    counters: tuple[str, ...]


class Compiled(NamedTuple):
    """What the compiler made: code and its signature, or a function of numba's where the code needs numba's runtime."""

    code: Code | None
    signature: Signature
    function: Callable[..., int] | None
    outputs: tuple[Output, ...]
    shape: tuple[int, ...]
    counters: tuple[str, ...]


class CannotCompileError(Exception):
    """A function is beyond the compiler: `line` is the user's, where it is known, the text why."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


def compiled_map(
    function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any], on_compile: Any = None
) -> CompiledMap:
    """The map as machine code, from the cache or compiled now. Raises CannotCompileError.

    `on_compile(name)` is called before it is compiled.
    """
    name = fingerprint(function, inputs, keywords)
    cache = _jit.opened_cache() if name is not None else None
    if cache is not None and name is not None:
        found = _stored(cache, name)
        if found is not None:
            return found
    if on_compile is not None:
        on_compile(function.__name__)
    compiler = importlib.import_module("kernelmill.kernels.functions.maps")
    try:
        symbol = name or f"map-{next(_NAMELESS)}"  # one linker serves all: each a name of its own
        made: Compiled = compiler.compile_map(function, inputs, keywords, symbol)
    except CannotCompileError:
        raise
    except Exception as problem:  # numba lets out what its own insides raise: whatever it is, there is no code
        why = str(problem).strip().partition("\n")[0]
        raise CannotCompileError(f"{type(problem).__name__}: {why}") from problem
    if made.code is None:
        assert made.function is not None
        return CompiledMap(made.function, made.outputs, made.shape, made.counters)
    if cache is not None and name is not None:
        about = {"outputs": made.outputs, "shape": made.shape, "counters": made.counters, "inputs": inputs}
        cache.write(f"{name}.json", Code(json.dumps(about).encode(), []))
        cache.write(name, made.code)
    drive = bind(made.code.object_file, symbol, function.__name__, made.signature)
    assert drive is not None  # it was compiled under that name
    return CompiledMap(drive, made.outputs, made.shape, made.counters)


def _stored(cache: Any, name: str) -> CompiledMap | None:
    about, code = cache.read(f"{name}.json"), cache.read(name)
    if about is None or code is None or not can_run(code.calls):
        return None
    read = json.loads(about.object_file)
    signature = map_signature([Input(*one) for one in read["inputs"]])
    outputs = tuple(Output(*one) for one in read["outputs"])
    drive = bind(code.object_file, name, name, signature)
    return None if drive is None else CompiledMap(drive, outputs, tuple(read["shape"]), tuple(read["counters"]))


def map_signature(inputs: Sequence[Input]) -> Signature:
    """The driver's: for text its bytes, offsets, validity and whether all is ASCII; for numbers values and validity."""
    parameters = [one for column in inputs for one in _PARAMETERS[column.kind]]
    signature: Signature = _jit.i64(*parameters, _jit.i64, _jit.i64, _jit.i64_out, _jit.i64_out, _jit.i64_out)
    return signature


_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "text": (_jit.u8_in, _jit.i32_in, _jit.u8_in, _jit.boolean),
    "int64": (_jit.i64_in, _jit.u8_in),
    "float64": (_jit.f64_in, _jit.u8_in),
    "boolean": (_jit.u8_in, _jit.u8_in),
}


# What decides a function's code ---------------------------------------------------------------------------------------


def fingerprint(function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any]) -> str | None:
    """Names the machine code, by code, constants, helpers and inputs; None where these cannot be told."""
    digest = hashlib.sha256()
    try:
        for part in _parts_of(function, set()):
            digest.update(part + b"\0")
        for part in _parts_of((tuple(inputs), sorted(keywords.items())), set()):
            digest.update(part + b"\0")
    except _NoBytesError:
        return None
    return f"map-{function.__name__.strip('<>')}-{digest.hexdigest()[:32]}"


class _NoBytesError(Exception):
    """A value that a function uses has no bytes that say what it is."""


def _parts_of(value: Any, seen: set[int]) -> Iterator[bytes]:
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | type():
            yield f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
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
    for name in sorted(set(_names_in(function.__code__))):
        if name in function.__globals__:
            yield name.encode()
            yield from _parts_of(function.__globals__[name], seen)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
