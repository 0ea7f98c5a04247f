"""Parts of pyarrow that are dear to import and that many jobs never use, or only at their end: loaded at the first use.

Importing pyarrow.compute and pyarrow.parquet takes a third as long as all else that a job imports.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

__all__ = ["imported", "load_parquet", "pc", "pq"]

if TYPE_CHECKING:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:

    class _Lazy:
        """Stands for a module; what is used of it stays here, so that it is looked for once."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            found = getattr(importlib.import_module(self._name), name)
            setattr(self, name, found)
            return found

    pc, pq = _Lazy("pyarrow.compute"), _Lazy("pyarrow.parquet")


_BLAS_SPINS = "OPENBLAS_THREAD_TIMEOUT"
_BLAS_SPINS_POWER = "20"


@contextmanager
def _idle_blas_sleeps() -> Iterator[None]:
    """Let the threads that numpy's OpenBLAS starts with itself sleep after 2^20 ticks without work, not after 2^26.

    They wait in a loop, and nothing here gives them work: 0.04 to 0.08 CPU-seconds of each process. A user's products
    still find them awake after one another. The environment is as it was afterwards, and holds where it says a number.
    """
    if "numpy" in sys.modules or _BLAS_SPINS in os.environ:
        yield
        return
    os.environ[_BLAS_SPINS] = _BLAS_SPINS_POWER
    try:
        yield
    finally:
        os.environ.pop(_BLAS_SPINS, None)


_ROOTS = sys.stdlib_module_names | {
    "_distutils_hack", "cloudpickle", "kernelmill", "msgspec", "numpy", "pyarrow", "typing_extensions", "xxhash",
}  # fmt: skip
"""Where the classes come from whose instances are there when only modules are."""
_WRITERS = io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom
_RUNS = FrameType, TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType
_OBJECTS_MAX = 60_000


def imported(name: str) -> ModuleType:
    """Import a module that brings many others, while Python looks for no cycles among what they make.

    Nothing of that ever goes, and looking at all of it took an eighth of a job's start and a thirtieth of a short job
    when the process ends. So where nothing else is there yet it stays out of all collections (`gc.freeze`); else all
    objects count as old, as after a full collection, unless somebody has frozen some.
    """
    if name in sys.modules:  # asked for by each job: what follows looks at all objects that there are
        return importlib.import_module(name)  # which waits, where another thread is about it
    is_on, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    stays = _only_modules_stand()
    gc.disable()
    try:
        with _idle_blas_sleeps():
            return importlib.import_module(name)
    finally:
        if stays:
            gc.freeze()
        elif not was_frozen:
            gc.freeze()
            gc.unfreeze()
        if is_on:
            gc.enable()


def _only_modules_stand() -> bool:
    """Whether the objects that Python watches are what modules consist of, and no more: these may all stay for good.

    An instance of a class from elsewhere may be part of a cycle that is to go, as may what a function holds that an
    error has left or that waits; and a file in a cycle is to be written out.
    """
    objects = gc.get_objects()  # without the frozen ones
    if len(objects) > _OBJECTS_MAX:
        return False
    kinds = set(map(type, objects))
    homes: set[object] = {kind.__module__ for kind in kinds}  # of few types a descriptor
    if not all(isinstance(home, str) and home.partition(".")[0] in _ROOTS for home in homes):
        return False
    if any(issubclass(kind, _RUNS) for kind in kinds):
        return False
    standard = _standard_streams()
    return all(id(found) in standard for found in objects if isinstance(found, _WRITERS))


def _standard_streams() -> set[int]:
    """The ids of the process's own streams and their buffers."""
    known: set[int] = set()
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        known.add(id(stream))
        with suppress(AttributeError, ValueError):  # None without a console; a script may have taken the buffer away
            known.add(id(stream.buffer))  # type: ignore[union-attr]
    return known


def load_parquet() -> None:
    """Load what reads and writes Parquet, at a time when nobody waits for it."""
    imported("pyarrow.parquet")
