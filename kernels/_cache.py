"""Machine code on disk: one file a kernel, checked before it is believed, written whole or not at all.

The directory's name is a hash of everything that decides the machine code: all sources of this package, the versions of
numba, llvmlite, numpy and Python, numba's settings, and the CPU with its features. A file is

    checksum of the names of directory and file and of all that follows, 32 hex digits
    the names that the code calls, by spaces
    the object file

One process compiles at a time, under a file lock, so that two that start together do not do the same work twice. The
lock saves work and keeps nothing right: a process does without it where it cannot be had, or is held for too long.

A checksum is no seal, and cached code is run: so folders and files count only where this user alone may write.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import llvmlite
import numpy as np
import xxhash

from kernelmill.kernels._llvm import llvm

_CACHES_KEPT = 7
_NUMBA_SETTINGS = ("CPU_FEATURES", "CPU_NAME", "DEBUGINFO", "ENABLE_AVX", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
_GIVEN_ROOT: list[str] = []
_LOOK_EVERY_S, _SAY_AFTER_S, _WAIT_S_MAX = 0.02, 2.0, 60.0
"""While another process compiles: how often to look, when to say so, and how long it may take without any result."""


class KernelCacheWarning(UserWarning):
    """The kernel cache cannot be used as it should; kernels still run."""


class Code(NamedTuple):
    """An object file, and the names that it leaves to the linker."""

    object_file: bytes
    calls: list[str]


def cache_root() -> Path:
    """Where kernels are kept: as `use_cache_root` said, KERNELMILL_CACHE_DIR, XDG_CACHE_HOME/kernelmill, ~/.cache."""
    given = _GIVEN_ROOT[-1] if _GIVEN_ROOT else os.environ.get("KERNELMILL_CACHE_DIR")
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "kernelmill"


def give_root(root: str) -> bool:
    """Keep kernels below `root` from now on; returns whether this changes anything."""
    before = cache_root()
    _GIVEN_ROOT[:] = [root]
    return cache_root() != before


def cache_key() -> str:
    """Names the machine code that this process would make: equal keys, equal kernels."""
    digest = xxhash.xxh3_128()
    for name, path in _sources():
        with open(path, "rb", buffering=0) as source:
            digest.update(name.encode() + b"\0" + source.read() + b"\0")
    versions = [_numba_version(), llvmlite.__version__, np.__version__, sys.version, sys.abiflags]
    machine = llvm().machine()
    settings = [os.environ.get(f"NUMBA_{name}", "") for name in _NUMBA_SETTINGS]
    for part in [*versions, *machine, *settings]:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:24]


def _sources() -> Iterator[tuple[str, str]]:
    """Name and path of each source, always in one order. Not by pathlib, which takes longer: all processes ask."""
    for folder, below, files in os.walk(os.path.dirname(os.path.realpath(__file__))):
        below.sort()
        yield from ((name, os.path.join(folder, name)) for name in sorted(files) if name.endswith(".py"))


def _numba_version() -> str:
    """The text that says it: numba's import takes 0.1 s, and so does asking for its metadata."""
    found = importlib.util.find_spec("numba")
    place = found.origin if found is not None else None
    return (Path(place).parent / "_version.py").read_text() if place else ""


class Cache:
    """One directory of kernels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._has_warned = self._has_said = self._waits_no_more = False

    @classmethod
    def open(cls) -> Cache | None:
        """The cache for this process, or None (with a warning) where there can be none."""
        root = cache_root()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(root.stat(), root)
            directory = root / f"kernels-{cache_key()}"
            if not directory.is_dir():
                _prune(root)
            directory.mkdir(mode=0o700, exist_ok=True)
            _require_own(directory.lstat(), directory)
        except OSError as problem:
            text = f"no kernel cache in {root}: {problem}; kernels are compiled anew in each process"
            warnings.warn(text, KernelCacheWarning, stacklevel=2)
            return None
        return cls(directory)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Only one process at a time compiles and writes; where there can be no lock, each for itself.

        Waiting for another ends when it has written the kernel `name` too, so look for that again; or after a minute
        in which it has written none, with a warning: it may have been stopped.
        """
        try:
            file = open(self.directory / "lock", "a+b", buffering=0)  # noqa: SIM115 - it may not open at all
        except OSError as problem:
            self._warn_unkept(problem)
            yield
            return
        with file:
            try:
                self._wait_for(file, name)
            except OSError as problem:  # a network's file system may have no locks
                self._warn(f"no lock in {self.directory}: {problem}; processes may compile the same kernels")
            yield

    def _wait_for(self, file: FileIO, name: str) -> None:
        """Return with the lock, or without it if the kernel is there or nothing comes."""
        began = changed = time.monotonic()
        content = self._changed_ns()
        while not _lock_now(file):
            if self._waits_no_more or self.read(name) is not None:
                return
            now = time.monotonic()
            if (found := self._changed_ns()) != content:
                content, changed = found, now
            if now - began >= _SAY_AFTER_S and not self._has_said:
                self._has_said = True
                text = "waiting for another process that compiles kernels: %s, by the lock in %s"
                logging.getLogger("kernelmill.kernels").warning(text, _holder(file), self.directory)
            if now - changed >= _WAIT_S_MAX:
                self._waits_no_more = True
                self._warn(
                    f"{_holder(file)} holds the lock in {self.directory} and has compiled nothing "
                    f"for {_WAIT_S_MAX:.0f} s; this process compiles for itself"
                )
                return
            time.sleep(_LOOK_EVERY_S)

    def _changed_ns(self) -> int:
        return self.directory.stat().st_mtime_ns

    def read(self, name: str) -> Code | None:
        """The code of a kernel if it is here, this user's alone to write, and as it was written."""
        try:
            data = _own_bytes(self.directory / name)
        except OSError:
            return None
        checksum, _, content = data.partition(b"\n")
        if checksum != self._checksum(name, content):
            return None
        calls, _, object_file = content.partition(b"\n")
        return Code(object_file, calls.decode().split())

    def write(self, name: str, code: Code) -> None:
        """Keep a kernel's code. A full or vanished disk costs a warning: it must not stop a job."""
        content = " ".join(code.calls).encode() + b"\n" + code.object_file
        fresh = self.directory / f"{name}.{os.getpid()}"
        try:
            with open(fresh, "wb", opener=_created) as file:
                file.write(self._checksum(name, content) + b"\n" + content)
            fresh.replace(self.directory / name)
        except OSError as problem:
            with suppress(OSError):
                fresh.unlink()
            self._warn_unkept(problem)

    def trim(self, pattern: str, files_max: int) -> None:
        """Remove the oldest files of names like `pattern` if there are more than `files_max`: then a fifth of them."""
        found = list(self.directory.glob(pattern))
        if len(found) <= files_max:
            return
        with suppress(OSError):  # another process may be trimming too
            found.sort(key=lambda path: max(path.stat().st_atime, path.stat().st_mtime))
            for path in found[: len(found) - files_max * 4 // 5]:
                path.unlink()

    def _checksum(self, name: str, content: bytes) -> bytes:
        """Of what this file must be: a kernel's code under another's name, or for another machine, is none."""
        place = os.fsencode(f"{self.directory.name}/{name}\n")
        return xxhash.xxh3_128_hexdigest(place + content).encode()

    def _warn_unkept(self, problem: OSError) -> None:
        self._warn(f"kernels are not kept in {self.directory}: {problem}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(text, KernelCacheWarning, stacklevel=5)


def _require_own(status: os.stat_result, path: Path) -> None:
    """PermissionError unless this user alone may write there: what is cached is run, and helpers are unpickled."""
    if stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"{path} is a link")
    if status.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"other users may write to {path}: chmod go-w it")


def _own_bytes(path: Path) -> bytes:
    """What a file of this user's has. OSError for other files; what is no file, a FIFO for example, holds up nobody."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(opened, "rb") as file:
        status = os.fstat(opened)
        _require_own(status, path)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is no file")
        return file.read()


def _created(path: str, flags: int) -> int:
    """Open a new file that this user alone may read and write, whatever the umask is."""
    return os.open(path, flags, 0o600)


def _lock_now(file: FileIO) -> bool:
    """Take the lock and leave a name in it, unless another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with suppress(OSError):  # on a full disk the lock is nameless
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
    return True


def _holder(file: FileIO) -> str:
    """What the process that has the lock says it is."""
    file.seek(0)
    return file.read(200).decode(errors="replace") or "a process"


def _prune(root: Path) -> None:
    """Remove all but the newest caches: each version of the package leaves one behind."""
    caches = sorted(root.glob("kernels-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in caches[_CACHES_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)  # a process that still loads from it compiles anew
