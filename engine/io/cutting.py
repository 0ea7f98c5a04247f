r"""Where records begin and end: in files around the edges of splits, in buffers around the edges of blocks.

Records are separated as `bytes.split(separator)` does it, leftmost first. From the middle of a file that is plain for
a separator that cannot overlap itself; "\n\n" can, so `_certain` goes back to where leftmost-first is certain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import ReadContext

_WINDOW_BYTES, _WINDOW_BYTES_MAX = 4 << 10, 4 << 20


@functools.lru_cache(maxsize=64)
def overlaps_itself(separator: bytes) -> bool:
    """True if the separator's end is its beginning too, so that two may share bytes."""
    return any(separator.startswith(separator[-size:]) for size in range(1, len(separator)))


def record_start(file: InputFile, at: int, stop: int, separator: bytes, context: ReadContext) -> int:
    """Find the first record that begins in [at, stop); `stop` if none does. At 0 one always begins.

    `stop` is at most the file's size; the file's end counts as a beginning, so that ranges join without a gap.
    """
    size = file.stamp.size_bytes
    if at == 0 or at >= size:
        return min(at, stop)
    place = max(0, at - len(separator))
    if overlaps_itself(separator):
        place = _certain(file, place, separator, context)
    window = _WINDOW_BYTES
    while place < stop:
        context.check_cancelled()
        data = file.read(place, window)
        base = 0
        while (found := data.find(separator, base)) >= 0:
            base = found + len(separator)
            if place + base >= at:
                return min(place + base, stop)
        if place + len(data) >= size:
            break
        place += max(base, len(data) - len(separator) + 1)
        window = min(2 * window, max(_WINDOW_BYTES_MAX, 2 * len(separator)))
    return stop


def _certain(file: InputFile, place: int, separator: bytes, context: ReadContext) -> int:
    """Go back from `place` to where no separator, wherever the leftmost ones are, reaches across."""
    reach = len(separator) - 1
    while place > 0:
        context.check_cancelled()
        begin = max(0, place - _WINDOW_BYTES_MAX)
        data = file.read(begin, place - begin + reach)
        edge = place - begin
        while (found := data.find(separator, max(0, edge - reach), edge + reach)) >= 0 and found < edge:
            edge = found
        if edge > reach or begin == 0:
            return begin + edge
        place = begin + edge
    return 0


def last_record_end(buffer: bytes | bytearray, start: int, stop: int, separator: bytes) -> int:
    """Find where the last record that ends in [start, stop) ends, its separator included; -1 if none does.

    A record must begin at `start`.
    """
    found = buffer.rfind(separator, start, stop)
    if found < 0 or not overlaps_itself(separator):
        return found + len(separator) if found >= 0 else -1
    reach, first = len(separator) - 1, found
    while (earlier := buffer.find(separator, max(start, first - reach), first + reach)) >= 0 and earlier < first:
        first = earlier
    end = first + len(separator)
    while (found := buffer.find(separator, end, stop)) >= 0:
        end = found + len(separator)
    return end


def long_piece(start: int, stop: int, last_end: Callable[[int, int], int], bytes_max: int) -> int:
    """Find where a piece begins that has more than `bytes_max` bytes, what ends it included; -1 if none does.

    A piece begins at `start`; last_end(a, b) tells where the last one that ends in [a, b) does, or -1.
    """
    while stop - start > bytes_max:
        end = last_end(start, start + bytes_max)
        if end < 0:
            return start
        start = end
    return -1


def last_token_end(data: NDArray[np.uint8], start: int, stop: int, is_separator: NDArray[np.uint8]) -> int:
    """Find the place behind the last byte of data[start:stop] that separates tokens; -1 if none does."""
    window = 256
    while stop > start:
        begin = max(start, stop - window)
        places = np.flatnonzero(is_separator[data[begin:stop]])
        if places.size:
            return begin + int(places[-1]) + 1
        stop = begin
        window = min(4 * window, _WINDOW_BYTES_MAX)
    return -1
