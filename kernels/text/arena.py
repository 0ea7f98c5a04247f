"""Where methods write new text: scratch bytes of the driver's, taken from the front, all given back at a record's end.

The state is an i64[4] array of the driver's:

    ADDRESS    of the scratch bytes, 8-byte aligned; the last SLACK_BYTES of them are never handed out
    CAPACITY   scratch bytes
    USED       bytes handed out; the driver sets it to 0 before each record, and no text of the last one may live on
    WANTED     bytes that were missing; 0 if all fitted. The driver grows the arena by at least as many, sets it to 0
               and runs the record again

The first HEADER_BYTES that a record takes are zeroed: piecelists.py keeps there what it found out about long texts, by
their addresses. So the bytes of a text must stay as they are until the record is done, or `forget` be called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import SLACK_BYTES, address_of, bytes_at, words_at, words_of

ADDRESS, CAPACITY, USED, WANTED = 0, 1, 2, 3

HEADER_BYTES = 256
"""Bytes at the arena's front that are not for texts."""

ARENA_BYTES_MIN = HEADER_BYTES + SLACK_BYTES
"""An arena of fewer bytes cannot hold a text."""

_NO_ARENA = "a text made of string literals alone has no arena: put a text of the record into it"
_TOO_LONG = "a text cannot be that long"
_BYTES_MAX = 1 << 46


@helper
def _clear(header: Any) -> None:
    for i in range(HEADER_BYTES // 8):
        header[i] = 0


@helper
def _take_header(arena: Any) -> None:
    """Set the header up as the first thing of a record."""
    if address_of(arena) == 0:
        raise RuntimeError(_NO_ARENA)
    if arena[CAPACITY] < ARENA_BYTES_MIN:
        arena[WANTED] = ARENA_BYTES_MIN - arena[CAPACITY]
        raise MemoryError("the arena is full")
    _clear(words_at(arena[ADDRESS]))
    arena[USED] = HEADER_BYTES


@helper
def allocate(arena: Any, size: Any) -> Any:
    """The pointer to `size` fresh bytes, with SLACK_BYTES that may be overwritten behind them.

    Errors: MemoryError if they do not fit, WANTED then being set; RuntimeError without an arena.
    """
    if address_of(arena) == 0 or arena[USED] == 0:
        _take_header(arena)
    used = arena[USED]
    if size < 0 or size > _BYTES_MAX:
        raise OverflowError(_TOO_LONG)
    missing = used + size + SLACK_BYTES - arena[CAPACITY]
    if missing > 0:
        arena[WANTED] = missing
        raise MemoryError("the arena is full")
    arena[USED] = used + size
    return bytes_at(arena[ADDRESS] + used)


@helper
def give_back(arena: Any, end: Any) -> None:
    """Hand back what was allocated last, from the pointer `end` on."""
    arena[USED] = address_of(end) - arena[ADDRESS]


@helper
def allocate_words(arena: Any, count: Any) -> Any:
    """The pointer to `count` fresh i64, aligned."""
    start = address_of(allocate(arena, 8 * count + 7))
    return words_at((start + 7) & -8)


@helper
def header_of(arena: Any) -> Any:
    """The pointer to the HEADER_BYTES // 8 i64 of the header, all 0 when a record begins."""
    if address_of(arena) == 0 or arena[USED] == 0:
        _take_header(arena)
    return words_at(arena[ADDRESS])


@helper
def forget(arena_state: Any) -> None:
    """Let go of what is known of long texts, within a record: call it where bytes that texts lie in are replaced."""
    arena = words_of(arena_state)
    if arena[USED] != 0:
        _clear(words_at(arena[ADDRESS]))


def new_state() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Make the state of an arena that has no bytes yet."""
    return np.zeros(4, dtype=np.int64)
