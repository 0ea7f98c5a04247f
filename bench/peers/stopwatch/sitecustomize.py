"""Times checksums and the journal in every process of a measured cluster: cluster_checks.py puts this folder into their
PYTHONPATH, and Python imports a module of this name at its start. What is measured runs as it is; only these calls go
through a wrapper of half a microsecond.

    blocks    the xxh3 of shuffle blocks and their indexes, written, on arrival and before they are decoded
    rows      the checksums of the rows that a map task makes
    journal   records appended to the journal and synced, its mark moved, and its log copied into the main file

Totals are in a file of the process's number below the folder that BENCH_STOPWATCH names, kept by mmap, so that they
outlive a kill -9: for each kind nanoseconds by the clock and of the calling thread, bytes or rows, and calls. How long
each append of the journal took is in PID.journal, 8 bytes each.

Where BENCH_UNCHECKED is set too, the same calls do nothing, and are still counted: a checksum is the same whatever it
is of, wherever it is made or compared, and of the journal no byte is written. A job with and without them, in turn,
shows what they take of it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

FOLDER_VARIABLE = "BENCH_STOPWATCH"
UNCHECKED_VARIABLE = "BENCH_UNCHECKED"
_IS_UNCHECKED = UNCHECKED_VARIABLE in os.environ
KINDS = ("blocks", "rows", "journal")
FIELDS = struct.Struct("<4Q")
_ROWS, _JOURNAL = "kernelmill.engine.exec.rowsums", "kernelmill.cluster.journal.store"
_MARK = "kernelmill.cluster.journal.head"
_WATCHED = (_ROWS, _JOURNAL, _MARK, "kernelmill.engine.shuffle.", "kernelmill.cluster.data.")
_PAGES: dict[int, mmap.mmap] = {}


def _page() -> mmap.mmap:
    """This process's totals; made at the first call, for a process may be forked before it."""
    pid = os.getpid()
    if pid not in _PAGES:
        path = os.path.join(os.environ[FOLDER_VARIABLE], str(pid))
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, mmap.PAGESIZE)
        _PAGES[pid] = mmap.mmap(handle, mmap.PAGESIZE)
        os.close(handle)
    return _PAGES[pid]


def timed(
    kind: str, function: Callable[..., Any], size_of: Callable[..., int], nothing: Callable[..., Any]
) -> Callable[..., Any]:
    """The function, with its times added up; `size_of` tells from its arguments how much it had to do.

    `nothing` is called in its place where nothing is to be checked or recorded.
    """
    at = KINDS.index(kind) * FIELDS.size
    called = nothing if _IS_UNCHECKED else function

    def call(*arguments: Any, **named: Any) -> Any:
        wall, own = time.perf_counter_ns(), time.thread_time_ns()
        try:
            return called(*arguments, **named)
        finally:
            took = time.perf_counter_ns() - wall
            page, size = _page(), size_of(*arguments, **named)
            before = FIELDS.unpack_from(page, at)
            added = took, time.thread_time_ns() - own, size, 1
            FIELDS.pack_into(page, at, *(a + b for a, b in zip(before, added, strict=True)))
            if kind == "journal" and size and not _IS_UNCHECKED:
                with open(os.path.join(os.environ[FOLDER_VARIABLE], f"{os.getpid()}.journal"), "ab") as file:
                    file.write(took.to_bytes(8, "little"))

    return call


class _Hashes:
    """The module xxhash, its 64-bit xxh3 timed."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.xxh3_64_intdigest = timed("blocks", module.xxh3_64_intdigest, len, lambda data: 0)

    def xxh3_64(self) -> Any:
        hasher = self._module.xxh3_64()
        update = timed("blocks", hasher.update, lambda data: memoryview(data).nbytes, lambda data: None)
        return _Hasher(update, hasher.intdigest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Hasher:
    def __init__(self, update: Callable[..., Any], intdigest: Callable[[], int]) -> None:
        self.update, self.intdigest = update, intdigest


def _append_nothing(file: Any, rows: Sequence[Any]) -> int:
    """As `JournalFile.append`, of which the next numbers are all that is left."""
    file._seq += len(rows)
    return int(file._seq)


def _watch(module: ModuleType) -> None:
    """Put the timed functions into a module that was just imported, before others take them from it."""
    own: Any = module
    if module.__name__ == _ROWS:
        own.row_sums = timed(
            "rows", own.row_sums, lambda batch: batch.num_rows, lambda batch: own.RowSums(batch.num_rows)
        )
    elif module.__name__ == _JOURNAL:
        file = own.JournalFile
        file.append = timed("journal", file.append, lambda _, rows: len(rows), _append_nothing)
        file.checkpoint_if_long = timed("journal", file.checkpoint_if_long, lambda _: 0, lambda _: None)
    elif module.__name__ == _MARK:
        own.Head.move = timed("journal", own.Head.move, lambda *_, **__: 0, lambda *_, **__: None)
    elif hasattr(own, "xxhash"):
        own.xxhash = _Hashes(own.xxhash)


class _Loader(importlib.abc.Loader):
    """A loader that lets `_watch` see the module."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _watch(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are watched as Python does, and gives them that loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(_WATCHED):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


if FOLDER_VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder())
