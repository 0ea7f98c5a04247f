"""Kernels: how they are declared, and how they become machine code at their first call or by `warm`.

An entry kernel has one explicit signature:

    @kernel(i64(u8_in, i64, i64))
    def find_newline(data, start, stop): ...

Its code comes from the cache (`kernels/_cache.py`) or is compiled (`kernels/_compile.py`), and is linked and called
without numba (`kernels/_loader.py`): numba is imported only where something must be compiled. Under NUMBA_DISABLE_JIT
everything here is plain Python; under NUMBA_BOUNDSCHECK kernels are compiled and called by numba itself, uncached.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from kernelmill.kernels import _cache, _loader
from kernelmill.kernels._cache import Cache, Code, KernelCacheWarning, cache_key, cache_root
from kernelmill.kernels._signature import (
    Signature,
    boolean,
    f64,
    f64_in,
    f64_out,
    i32_in,
    i32_out,
    i64,
    i64_in,
    i64_out,
    u8_in,
    u8_out,
    u16_in,
    u16_out,
    u32,
    u32_in,
    u32_out,
    u64,
    u64_2d_in,
    u64_2d_out,
    u64_in,
    u64_out,
    void,
)

__all__ = [
    "BOUNDS_CHECKED",
    "JIT_DISABLED",
    "REGISTRY",
    "Kernel",
    "KernelCacheWarning",
    "all_kernels",
    "boolean",
    "cache_directory",
    "cache_key",
    "cache_root",
    "f64",
    "f64_in",
    "f64_out",
    "helper",
    "i32_in",
    "i32_out",
    "i64",
    "i64_in",
    "i64_out",
    "inlined",
    "kernel",
    "load",
    "u8_in",
    "u8_out",
    "u16_in",
    "u16_out",
    "u32",
    "u32_in",
    "u32_out",
    "u64",
    "u64_2d_in",
    "u64_2d_out",
    "u64_in",
    "u64_out",
    "use_cache_root",
    "void",
    "warm",
]


def _is_set(name: str) -> bool:
    """True if the environment has a number other than 0 under that name, as numba reads it."""
    try:
        return bool(int(os.environ.get(name, "0")))
    except ValueError:
        return False


JIT_DISABLED = _is_set("NUMBA_DISABLE_JIT")
BOUNDS_CHECKED = _is_set("NUMBA_BOUNDSCHECK")

Function = TypeVar("Function", bound=Callable[..., Any])
OnCompile = Callable[[str], None]
"""Called with a kernel's name before it is compiled: this takes a second, so whoever waits wants to know."""

REGISTRY: dict[str, Kernel] = {}
_HELPERS: dict[Callable[..., Any], bool] = {}  # whether it is put into its callers before types are known
_OPENING = threading.Lock()
_OPENED: list[Cache | None] = []  # at first use, not at import: nothing is written by importing
_LOCK = threading.RLock()


class Kernel:
    """An entry kernel: calls `function` as machine code for `signature`."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.function, self.signature = function, signature
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__, self.__name__, self.__module__ = function.__doc__, function.__name__, function.__module__
        self._call: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._call is None:
            self.load()
            assert self._call is not None
        return self._call(*args)

    def prepared(self, *args: Any) -> tuple[int, bytes] | None:
        """A call for other machine code to make, see `_loader.bind`: address and frame; None where there is no such."""
        if self._call is None:
            self.load()
        address = getattr(self._call, "address", None)
        return None if address is None else (address, self._call.frame_of(*args))  # type: ignore[union-attr]

    def __repr__(self) -> str:
        return f"<kernel {self.name}{self.signature}>"

    @property
    def is_loaded(self) -> bool:
        """True once it can be called without compiling or reading the cache."""
        return self._call is not None

    @property
    def symbol(self) -> str:
        """The name of its entry point and of its file; another source or signature has another.

        The cache's directory knows the sources of this package, but not those of tests.
        """
        source = _source(self.function.__code__.co_filename)
        return f"{self.name}-{xxhash.xxh3_64_hexdigest(source + str(self.signature).encode())}"

    def load(self, on_compile: OnCompile | None = None) -> float:
        """Load from the cache, or compile and store; returns the seconds spent compiling (0.0 from the cache)."""
        with _LOCK:
            if self._call is not None:
                return 0.0
            self._call, seconds = _load(self, on_compile)
            return seconds

    def assembly(self) -> str:
        """The machine code as text, compiled anew, for tests of code generation."""
        return str(_compiler().assembly(self.function, self.signature, self.symbol))


def kernel(signature: Signature) -> Callable[[Callable[..., Any]], Any]:
    """Register an entry kernel with its one signature; with the JIT disabled the Python function itself."""

    def register(function: Callable[..., Any]) -> Any:
        if JIT_DISABLED:
            return function
        made = Kernel(function, signature)
        REGISTRY[made.name] = made
        return made

    return register


def helper(function: Function) -> Function:
    """A function that kernels call; compiled into each of them. Called from Python it is the Python function."""
    _HELPERS[function] = False
    return function


def inlined(function: Function) -> Function:
    """A small function whose body is put into its callers before types are known."""
    _HELPERS[function] = True
    return function


def use_cache_root(root: str) -> None:
    """Keep kernels below `root` from now on; those already loaded stay as they are."""
    with _LOCK:
        if _cache.give_root(root):
            _OPENED.clear()


def cache_directory() -> Path | None:
    """The directory of this process's kernels, or None where there can be none."""
    opened = opened_cache()
    return opened.directory if opened is not None else None


def load(kernels: Iterable[Callable[..., Any]], on_compile: OnCompile | None = None) -> float:
    """Make these kernels ready to call, compiling what the cache lacks; returns the seconds spent compiling.

    Python functions, which is what kernels are with the JIT disabled, are ready.
    """
    return sum((one.load(on_compile) for one in kernels if isinstance(one, Kernel)), 0.0)


def all_kernels() -> list[Kernel]:
    """Every entry kernel of the package, in the order of their names."""
    package = importlib.import_module(__package__ or "kernelmill.kernels")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):  # those have none, and one imports numba
            importlib.import_module(f"{package.__name__}.{module.name}")
    return [REGISTRY[name] for name in sorted(REGISTRY)]


def warm(on_compile: OnCompile | None = None) -> tuple[int, float]:
    """Make every kernel ready: returns how many there are and the seconds spent compiling."""
    kernels = all_kernels()
    return len(kernels), load(kernels, on_compile)


def opened_cache() -> Cache | None:
    """The cache of this process, opened at first use; None where there can be none."""
    if not _OPENED:
        with _OPENING:  # else two threads open it, and both warn
            if not _OPENED:
                _OPENED.append(Cache.open())
    return _OPENED[0]


@cache
def _source(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # from an archive, or typed at a prompt
        return b""


@cache
def _compiler() -> Any:
    """What compiles, imported at its first use: it brings numba."""
    return importlib.import_module("kernelmill.kernels._compile").Compiler(_HELPERS)


def _load(kernel: Kernel, on_compile: OnCompile | None) -> tuple[Callable[..., Any], float]:
    if not BOUNDS_CHECKED:
        symbol = kernel.symbol
        code, seconds = _code_of(kernel, symbol, on_compile)
        bound = None
        if _loader.can_run(code.calls):
            bound = _loader.bind(code.object_file, symbol, kernel.name, kernel.signature)
        if bound is not None:
            return bound, seconds
    return _timed(kernel, on_compile, lambda compiler: compiler.dispatcher(kernel.function, kernel.signature))


def _code_of(kernel: Kernel, symbol: str, on_compile: OnCompile | None) -> tuple[Code, float]:
    def compile_(compiler: Any) -> Code:
        return Code(*compiler.object_code(kernel.function, kernel.signature, symbol))

    opened = opened_cache()
    if opened is None:
        return _timed(kernel, on_compile, compile_)
    code = opened.read(symbol)
    if code is not None:
        return code, 0.0
    with opened.locked(symbol):
        code = opened.read(symbol)
        if code is not None:  # another process was first
            return code, 0.0
        code, seconds = _timed(kernel, on_compile, compile_)
        opened.write(symbol, code)
        return code, seconds


def _timed(kernel: Kernel, on_compile: OnCompile | None, work: Callable[[Any], Any]) -> tuple[Any, float]:
    """What `work` makes with the compiler, and the seconds it takes; numba's import is not counted."""
    if on_compile is not None:
        on_compile(kernel.name)
    compiler = _compiler()
    began = time.perf_counter()
    made = work(compiler)
    return made, time.perf_counter() - began
