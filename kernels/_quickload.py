"""Load cached machine code without filling numba's registries, which takes 0.11 s of a 0.6 s start.

Before numba loads a function from its cache it imports and indexes all it knows of typing and lowering (the `refresh`
of its two contexts). Machine code needs none of it: only the symbols it calls must be known to LLVM. So their names are
kept beside the code, and only if each resolves is the refresh left out; LLVM would abort the process on one that does
not. Whoever compiles later gets the refresh then: nothing is switched off for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys


def symbols_called(dispatcher: Any) -> list[str]:
    """The names that a compiled function's code leaves to the linker, sorted."""
    names: set[str] = set()
    for overload in dispatcher.overloads.values():
        for function in overload.library._final_module.functions:
            if function.is_declaration and not function.name.startswith("llvm."):
                names.add(function.name)
    return sorted(names)


@contextmanager
def without_registries(symbols: Sequence[str] | None) -> Iterator[None]:
    """Load cached functions that call `symbols` in this block; does nothing if one is unknown, or if they are None.

    numba's own lock is held, so that no other thread compiles meanwhile.
    """
    if symbols is None:
        yield
        return
    target = cpu_target.target_context
    with global_compiler_lock:
        rtsys.initialize(target)  # its memory functions, which most kernels call on paths they never take
        if any(llvm.address_of_symbol(name) is None for name in symbols):
            yield
            return
        contexts: tuple[Any, ...] = (target, cpu_target.typing_context)
        for context in contexts:
            context.refresh = _nothing
        try:
            yield
        finally:
            for context in contexts:
                del context.refresh


def _nothing() -> None:
    """Stands in for a context's refresh."""
