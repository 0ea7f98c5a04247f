"""The only use of numba's decorators: flags, array types, explicit signatures, the cache on disk, warm-up.

An entry kernel has one explicit signature and is compiled, or loaded from the cache, at its first call or by `warm`:

    @kernel(i64(u8_in, i64, i64))
    def find_newline(data, start, stop): ...

The cache directory's name is a hash of everything that decides the machine code: all sources of this package, the
versions of numba, llvmlite, numpy and Python, and the CPU with its features; numba itself would notice only a change
of the file a kernel is in, not of a helper elsewhere. One process compiles at a time, under a file lock: two that
compile different signatures at once can leave an index that serves the wrong machine code. `sums.json` in the directory
holds a checksum of each file, for numba would run what a torn write or a bad disk left.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import importlib
import json
import os
import pkgutil
import platform
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
import xxhash
from llvmlite import binding as llvm
from numba import njit, types
from numba.core.typing.templates import Signature

from kernelmill.kernels._quickload import symbols_called, without_registries

_config: Any = numba.config  # its names come from the environment when it is imported: no type checker sees them
JIT_DISABLED = bool(_config.DISABLE_JIT)
BOUNDS_CHECKED = bool(_config.BOUNDSCHECK)

i64, u64, u32, f64, boolean, void = types.int64, types.uint64, types.uint32, types.float64, types.boolean, types.void


def _array(element: Any, *, readonly: bool, dimensions: int = 1) -> Any:
    return types.Array(element, dimensions, "C", readonly=readonly)


# Declared read-only, an input takes writable arrays too: one overload serves both.
u8_in, i32_in, i64_in = (_array(t, readonly=True) for t in (types.uint8, types.int32, types.int64))
u16_in, u32_in, u64_in, f64_in = (
    _array(t, readonly=True) for t in (types.uint16, types.uint32, types.uint64, types.float64)
)
u8_out, i32_out, i64_out = (_array(t, readonly=False) for t in (types.uint8, types.int32, types.int64))
u16_out, u32_out, u64_out, f64_out = (
    _array(t, readonly=False) for t in (types.uint16, types.uint32, types.uint64, types.float64)
)
u64_2d_in, u64_2d_out = (_array(types.uint64, readonly=r, dimensions=2) for r in (True, False))

_FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

Function = TypeVar("Function", bound=Callable[..., Any])
OnCompile = Callable[[str], None]
"""Called with a kernel's name before it is compiled: this takes a second, so whoever waits wants to know."""


class KernelCacheWarning(UserWarning):
    """The kernel cache cannot be used as it should; kernels still run."""


class Kernel:
    """An entry kernel: calls `function` as machine code for `signature`."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.function, self.signature = function, signature
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__, self.__name__, self.__module__ = function.__doc__, function.__name__, function.__module__
        self._dispatcher: Any = None

    def __call__(self, *args: Any) -> Any:
        if self._dispatcher is None:
            self.load()
        return self._dispatcher(*args)

    def __repr__(self) -> str:
        return f"<kernel {self.name}{self.signature}>"

    @property
    def is_loaded(self) -> bool:
        """True once it can be called without compiling or reading the cache."""
        return self._dispatcher is not None

    def load(self, on_compile: OnCompile | None = None) -> float:
        """Load from the cache, or compile and store; returns the seconds spent compiling (0.0 from the cache)."""
        with _LOCK:
            if self._dispatcher is not None:
                return 0.0
            self._dispatcher, seconds = _load(self, on_compile)
            return seconds

    def assembly(self) -> str:
        """The machine code as text, for tests of code generation."""
        self.load()
        (text,) = self._dispatcher.inspect_asm().values()
        return str(text)


REGISTRY: dict[str, Kernel] = {}
_LOCK = threading.RLock()


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
    """A function that kernels call; compiled into each of them."""
    return function if JIT_DISABLED else cast(Function, njit(**_FLAGS)(function))


def inlined(function: Function) -> Function:
    """A small function whose body is put into its callers before types are known."""
    return function if JIT_DISABLED else cast(Function, njit(inline="always", **_FLAGS)(function))


# The cache on disk ---------------------------------------------------------------------------------------------------


def cache_root() -> Path:
    """Where kernels are kept: as `use_cache_root` said, KERNELMILL_CACHE_DIR, XDG_CACHE_HOME/kernelmill, ~/.cache."""
    given = _GIVEN_ROOT[-1] if _GIVEN_ROOT else os.environ.get("KERNELMILL_CACHE_DIR")
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "kernelmill"


def use_cache_root(root: str) -> None:
    """Keep kernels below `root` from now on; those already loaded stay as they are."""
    with _LOCK:
        if not _GIVEN_ROOT or _GIVEN_ROOT[-1] != root:
            _GIVEN_ROOT[:] = [root]
            _CACHE.clear()


def cache_key() -> str:
    """Names the machine code that this process would make: equal keys, equal kernels.

    The package's place is part of it, for numba names a subfolder after it: two installs would void each other's sums.
    """
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256(os.fsencode(package) + b"\0")
    for source in sorted(package.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    cpu = _config.CPU_NAME or llvm.get_host_cpu_name()
    features = _config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()
    versions = [numba.__version__, llvmlite.__version__, np.__version__, sys.version, platform.machine()]
    for part in [*versions, cpu, features, f"boundscheck={BOUNDS_CHECKED}", f"opt={_config.OPT}"]:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:24]


class _Cache:
    """One directory of numba's files, their checksums, and the lock under which they change."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sums_file = directory / "sums.json"

    @classmethod
    def open(cls) -> _Cache | None:
        """The cache for this process, or None (with one warning) where nothing can be written."""
        root = cache_root()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if root.stat().st_uid != os.getuid():
                raise PermissionError(f"it belongs to another user than {getpass.getuser()}")
            directory = root / f"kernels-{cache_key()}"
            if not directory.is_dir():
                _prune(root)
            directory.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as problem:
            text = f"no kernel cache in {root}: {problem}; kernels are compiled anew in each process"
            warnings.warn(text, KernelCacheWarning, stacklevel=2)
            return None
        return cls(directory)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time compiles and writes."""
        with open(self.directory / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sums(self) -> dict[str, str]:
        """Checksum by file name; unreadable sums mean that nothing is believed."""
        try:
            found = json.loads(self._sums_file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def files_of(self, kernel: Kernel) -> list[Path]:
        """numba's index and data files of one kernel."""
        stem = f"{kernel.function.__module__.rpartition('.')[2]}.{kernel.function.__qualname__}-"
        return sorted(file for file in self.directory.glob("*/*.nb[ic]") if file.name.startswith(stem))

    def holds(self, kernel: Kernel) -> bool:
        """True if every file of the kernel is as it was written; index and data both."""
        files, sums = self.files_of(kernel), self.sums()
        try:
            intact = all(sums.get(file.name) == xxhash.xxh3_128_hexdigest(file.read_bytes()) for file in files)
        except OSError:
            return False
        return intact and {file.suffix for file in files} == {".nbi", ".nbc"}

    def forget(self, kernel: Kernel) -> None:
        """Delete the kernel's files, whatever state they are in. Call it under the lock."""
        for file in self.files_of(kernel):
            file.unlink(missing_ok=True)

    def symbols(self, kernel: Kernel) -> list[str] | None:
        """The names that the kernel's code calls; None if they were not recorded."""
        found = self.sums().get(_symbols_key(kernel))
        return None if found is None else found.split()

    def seal(self, kernel: Kernel, dispatcher: Any) -> None:
        """Record the checksums of the files just written, and what their code calls. Call it under the lock."""
        sums = self.sums()
        sums.update({f.name: xxhash.xxh3_128_hexdigest(f.read_bytes()) for f in self.files_of(kernel)})
        sums[_symbols_key(kernel)] = " ".join(symbols_called(dispatcher))
        fresh = self._sums_file.with_suffix(".new")
        fresh.write_text(json.dumps(sums, indent=0, sort_keys=True))
        fresh.replace(self._sums_file)


def _symbols_key(kernel: Kernel) -> str:
    return f"symbols of {kernel.name}"


def _prune(root: Path) -> None:
    """Remove all but the newest caches: each version of the package leaves one behind."""
    caches = sorted(root.glob("kernels-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in caches[_CACHES_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)  # a process that still loads from it compiles anew


_CACHES_KEPT = 7
_GIVEN_ROOT: list[str] = []
_CACHE: list[_Cache | None] = []  # opened at first use, not at import: nothing is written by importing


def _cache() -> _Cache | None:
    if not _CACHE:
        _CACHE.append(_Cache.open())
    return _CACHE[0]


def _compiled(kernel: Kernel, directory: Path | None) -> Any:
    """The dispatcher for the kernel's one signature, with numba's cache in `directory` if there is one."""
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(directory or "")  # read while decorating only; the user's own numba code keeps its place
    try:
        dispatcher = njit(cache=directory is not None, **_FLAGS)(kernel.function)
    finally:
        _config.CACHE_DIR = before
    dispatcher.compile(kernel.signature)
    dispatcher.disable_compile()  # other types raise TypeError instead of adding an overload
    return dispatcher


def _load(kernel: Kernel, on_compile: OnCompile | None) -> tuple[Any, float]:
    cache = _cache()
    if cache is not None and cache.holds(kernel):
        try:
            with without_registries(cache.symbols(kernel)):
                return _compiled(kernel, cache.directory), 0.0
        except Exception as problem:  # numba lets pickle's and LLVM's own exceptions out; the answer is to compile
            warnings.warn(f"cached kernel {kernel.name} does not load: {problem!r}", KernelCacheWarning, stacklevel=3)
            with cache.locked():
                cache.forget(kernel)
    if cache is None:
        return _compile_and_time(kernel, None, on_compile)
    try:
        with cache.locked():
            if cache.holds(kernel):  # another process was first
                return _compiled(kernel, cache.directory), 0.0
            cache.forget(kernel)
            made = _compile_and_time(kernel, cache.directory, on_compile)
            cache.seal(kernel, made[0])
            return made
    except OSError as problem:  # a full or vanished cache disk must not stop a job
        warnings.warn(f"kernel {kernel.name} was not cached: {problem}", KernelCacheWarning, stacklevel=3)
        return _compile_and_time(kernel, None, on_compile)


def _compile_and_time(kernel: Kernel, directory: Path | None, on_compile: OnCompile | None) -> tuple[Any, float]:
    if on_compile is not None:
        on_compile(kernel.name)
    began = time.perf_counter()
    dispatcher = _compiled(kernel, directory)
    return dispatcher, time.perf_counter() - began


def load(kernels: Iterable[Callable[..., Any]], on_compile: OnCompile | None = None) -> float:
    """Make these kernels ready to call, compiling what the cache lacks; returns the seconds spent compiling.

    Python functions, which is what kernels are with the JIT disabled, are ready.
    """
    return sum((one.load(on_compile) for one in kernels if isinstance(one, Kernel)), 0.0)


def all_kernels() -> list[Kernel]:
    """Every entry kernel of the package, in the order of their names."""
    package = importlib.import_module(__package__ or "kernelmill.kernels")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return [REGISTRY[name] for name in sorted(REGISTRY)]


def warm(on_compile: OnCompile | None = None) -> tuple[int, float]:
    """Make every kernel ready: returns how many there are and the seconds spent compiling."""
    kernels = all_kernels()
    return len(kernels), load(kernels, on_compile)


def cache_directory() -> Path | None:
    """The directory of this process's kernels, or None where none can be written."""
    cache = _cache()
    return cache.directory if cache is not None else None
