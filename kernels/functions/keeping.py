"""Helpers of texts are kept in the kernel cache, so that one machine compiles each of them once."""

from __future__ import annotations

from kernelmill.kernels import _jit
from kernelmill.kernels._cache import Code
from kernelmill.kernels.text.library import keep, warm

_KEPT_MAX = 2000
"""Files of helpers in the cache: some 250 serve nearly all functions, the rest are for tuples and rows of theirs."""


def keep_helpers() -> None:
    """From now on look for compiled helpers of texts in this process's kernel cache, and put new ones there."""
    cache = _jit.opened_cache()
    if cache is not None:
        cache.trim("text-*", _KEPT_MAX)
    keep(_read, _write)


def warm_helpers() -> int:
    """Compile the helpers behind all that users' functions do with texts into the cache; returns how many methods."""
    keep_helpers()
    return warm()


def _read(name: str) -> bytes | None:
    cache = _jit.opened_cache()
    found = cache.read(name) if cache is not None else None
    return found.object_file if found is not None else None


def _write(name: str, content: bytes) -> None:
    cache = _jit.opened_cache()
    if cache is not None:
        cache.write(name, Code(content, []))
