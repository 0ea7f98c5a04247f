"""Where cached code that makes lists and strings finds numba's runtime, without numba itself.

Such code leaves names to the linker that numba makes known when it is imported: those of its runtime (`NRT_...`, the
allocator with reference counts) and of its C helpers (`numba_...`). Both live in extension modules, which load by
themselves: 1 ms where numba's import takes 200.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from kernelmill.kernels._llvm import llvm

_MODULES = {"NRT_": "numba.core.runtime._nrt_python", "numba_": "numba._helperlib"}


def provide(names: Iterable[str]) -> None:
    """Make those of `names` known to LLVM's linker that numba's runtime defines; leaves all others as they are."""
    for name in names:
        for prefix in _MODULES:
            address = _helpers(prefix).get(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if address:
                llvm().add_symbol(name, address)


@cache
def _helpers(prefix: str) -> dict[str, int]:
    """The addresses of C functions by their names without the prefix, as numba's own start would register them."""
    module = _extension(_MODULES[prefix])
    return {} if module is None else dict(module.c_helpers)


def _extension(name: str) -> Any:
    """numba's extension module of that name, loaded from its file; None where there is none such."""
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("numba")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent.joinpath(*name.split(".")[1:-1])
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"{name.rpartition('.')[2]}{suffix}"
        if path.exists():
            # Under its own name: numba, if it is imported later, gets the module that was set up here, not a second
            # one whose set-up would reset the runtime's state.
            loader = importlib.machinery.ExtensionFileLoader(name, str(path))
            spec = importlib.util.spec_from_file_location(name, path, loader=loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
            return module
    return None
