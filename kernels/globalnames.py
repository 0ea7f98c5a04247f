"""The globals that a function's code reads: `co_names` tells attributes as well, and `line.count(...)` reads none."""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType


@lru_cache(maxsize=1024)
def globals_read(code: CodeType) -> tuple[str, ...]:
    """The names of globals that code reads, that of functions in it too, each once, in order of the alphabet."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(globals_read(constant))
    return tuple(sorted(names))
