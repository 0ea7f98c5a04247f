"""Parts of pyarrow that are dear to import and that many jobs never use, or only at their end: loaded at the first use.

Importing pyarrow.compute and pyarrow.parquet takes a third as long as all else that a job imports.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
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


def imported(name: str) -> ModuleType:
    """Import a module that brings many others, while Python looks for no cycles among what they make.

    Nothing of that ever goes, and looking at all of it took an eighth of a job's start. Then all objects count as old,
    as after a full collection, unless somebody has frozen some: `gc.freeze` and `unfreeze` do that without a look.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        with _idle_blas_sleeps():
            return importlib.import_module(name)
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if is_on:
            gc.enable()


def load_parquet() -> None:
    """Load what reads and writes Parquet, at a time when nobody waits for it."""
    imported("pyarrow.parquet")
