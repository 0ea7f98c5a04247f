"""Parts of pyarrow that are dear to import and that many jobs never use, or only at their end: loaded at the first use.

Importing pyarrow.compute and pyarrow.parquet takes a third as long as all else that a job imports.
"""

from __future__ import annotations

import gc
import importlib
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


def imported(name: str) -> ModuleType:
    """Import a module that brings many others, while Python looks for no cycles among what they make.

    Nothing of that ever goes, and looking at all of it took an eighth of a job's start. Then all objects count as old,
    as after a full collection, unless somebody has frozen some: `gc.freeze` and `unfreeze` do that without a look.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
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
