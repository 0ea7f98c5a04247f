"""Arrays laid out for memory: records in one cache line each, large arrays in the system's large pages.

First touch of memory costs as much as the work on it. Linux gives pages of 2 MiB for arrays of 4 MiB and more, for
which numpy asks, but only where such a page lies within the array as a whole: an array of 8 MiB from anywhere has up to
512 small pages, each with a fault of its own, and as many entries in the processor's own table of pages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE_BYTES = 64
LARGE_PAGE_BYTES = 2 << 20
LARGE_FROM_BYTES = 8 << 20
"""Arrays from this size on begin where a large page does: the last page is seldom full, so a quarter may be lost."""


def uncleared(count: int, dtype: Any) -> NDArray[Any]:
    """`count` items of any content, from the start of a cache line, or of a large page if they are many."""
    return _laid_out(count, dtype, np.empty)


def zeroed(count: int, dtype: Any) -> NDArray[Any]:
    """As `uncleared`, all zero; memory is touched only as it is used."""
    return _laid_out(count, dtype, np.zeros)


def cleared(count: int, dtype: Any) -> NDArray[Any]:
    """As `zeroed`, touched at once: for arrays read here and there before they are written.

    A page that is read first is the system's own page of zeros, and its first write a second fault, which stops the
    other processors to tell them of it.
    """
    laid_out = _laid_out(count, dtype, np.empty, LARGE_PAGE_BYTES)
    laid_out.fill(0)
    return laid_out


def side_by_side(*columns: tuple[int, Any]) -> list[NDArray[Any]]:
    """Arrays of (count, dtype) of any content, in one piece of memory, which lives as long as any of them."""
    sizes = [-(-count * np.dtype(dtype).itemsize // LINE_BYTES) * LINE_BYTES for count, dtype in columns]
    room, at, made = uncleared(sum(sizes), np.uint8), 0, []
    for size, (count, dtype) in zip(sizes, columns, strict=True):
        made.append(room[at : at + size].view(dtype)[:count])
        at += size
    return made


def _laid_out(count: int, dtype: Any, make: Any, large_from_bytes: int = LARGE_FROM_BYTES) -> NDArray[Any]:
    size = count * np.dtype(dtype).itemsize
    unit = LARGE_PAGE_BYTES if size >= large_from_bytes else LINE_BYTES
    room = make(size + unit, np.uint8)
    skipped = -room.ctypes.data % unit
    laid_out: NDArray[Any] = room[skipped : skipped + size].view(dtype)
    return laid_out
