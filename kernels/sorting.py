"""Stable sort of result-sized data: columns to an order of rows, least significant key first.

Fixed-width values become words whose unsigned order is theirs, sorted by an LSD radix sort with 11-bit digits; more
rows than stay in the cache are first split by their top bits. Strings sort by 8 big-endian bytes at a time: rows that
tie are mended, a short run of them by merging, a long one by sorting on the next 8 bytes. Zero padding makes b"a" and
b"a\\0" tie to the end, where the length decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelmill.kernels._jit import helper, i32_in, i64, i64_out, kernel, u8_in, u32_in, u32_out, u64_out, void
from kernelmill.kernels.intrinsics import byte_swapped, load_u64, prefetch
from kernelmill.kernels.orderedwords import Words, ordered_words

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS
_PASSES_MAX = 6  # 66 bits
_SPLIT_ROWS = 1 << 18  # keys and rows of so many, twice, are 6 MiB: 12 ns a row up to here, 35 ns at 3 million
_SPLIT_BITS = 8
_INSERTION_ROWS = 12
_AHEAD = 16  # rows that are fetched before they are needed
_LONG_RUN_ROWS = 4096  # a run's cost in Python, some 50 us, is small against sorting so many rows
_ZERO, _EIGHT, _ALL = np.uint64(0), np.uint64(8), np.uint64(0xFFFFFFFFFFFFFFFF)
_DIGIT_MASK, _WORD_BITS = np.uint64(_DIGITS - 1), np.uint64(64)

_ALL_VALID: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

Order = npt.NDArray[np.uint32]
Strings = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


class SortKey(NamedTuple):
    """One column to sort by.

    `values` are integers, bools or floats, or the (bytes, int32 offsets) of strings, n + 1 offsets and no slack needed.
    `validity` has one byte a row, 0 for null, or none if no row is null. Floats: -0.0 equals 0.0, NaN is greater than
    any number. Nulls come first unless `nulls_last`, in either direction.
    """

    values: npt.NDArray[Any] | Strings
    validity: npt.NDArray[np.uint8] = _ALL_VALID
    descending: bool = False
    nulls_last: bool = False

    @property
    def rows(self) -> int:
        """The column's length."""
        return self.values[1].size - 1 if isinstance(self.values, tuple) else self.values.size


def argsort(columns: Sequence[SortKey]) -> Order:
    """List the rows in order of the first column, ties by the second and so on, then as they came.

    All columns must have the same length, below 2^32. Memory: 24 bytes a row beside the result.
    """
    rows = columns[0].rows
    order = np.arange(rows, dtype=np.uint32)
    for column in reversed(columns):
        if rows > 1:
            order = _sorted_by(column, order)
    return order


def _sorted_by(column: SortKey, order: Order) -> Order:
    """The order sorted by one column, stable; nulls, whose bytes may be anything, are set apart."""
    if column.validity.size == 0:
        return _sorted_values(column, order)
    is_valid = column.validity[order] != 0
    nulls, valid = order[~is_valid], _sorted_values(column, order[is_valid])
    return np.concatenate([valid, nulls] if column.nulls_last else [nulls, valid])


def _sorted_values(column: SortKey, order: Order) -> Order:
    # Stable and descending: the last row first, ascending, and all turned round.
    if column.descending:
        order = order[::-1].copy()
    if isinstance(column.values, tuple):
        order = _sort_strings(*column.values, order)
    else:
        order = _sort_words(ordered_words(column.values)[order], order, _Scratch(order.size))
    return order[::-1].copy() if column.descending else order


class _Scratch:
    """A second array of keys and of rows, and the digits' counters, for sorts of up to `rows` rows."""

    def __init__(self, rows: int) -> None:
        self.keys = np.empty(rows, dtype=np.uint64)
        self.order = np.empty(rows, dtype=np.uint32)
        self.counts = np.empty(_PASSES_MAX * _DIGITS, dtype=np.int64)


def _sort_words(keys: Words, order: Order, scratch: _Scratch) -> Order:
    """Sort (keys, order) by key in place; returns order."""
    if keys.size <= _SPLIT_ROWS:
        sort_words(keys, order, scratch.keys[: keys.size], scratch.order[: keys.size], scratch.counts)
        return order
    ends = np.zeros(1 << _SPLIT_BITS, dtype=np.int64)
    spare_keys, spare_order = scratch.keys[: keys.size], scratch.order[: keys.size]
    if split_words(keys, order, spare_keys, spare_order, ends) == 0:
        return order  # was sorted, or all keys are equal
    keys[:], order[:] = spare_keys, spare_order
    start = 0
    for end in ends.tolist():
        if end - start > 1:
            _sort_words(keys[start:end], order[start:end], scratch)
        start = end
    return order


def _sort_strings(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32], order: Order) -> Order:
    """Sort the order by its rows' bytes, in place; returns it."""
    keys, scratch = np.empty(order.size, dtype=np.uint64), _Scratch(order.size)
    long_runs = np.empty(2 * (order.size // _LONG_RUN_ROWS + 1), dtype=np.int64)
    runs = [(0, order.size, 0)]
    while runs:
        start, end, depth = runs.pop()
        part_keys, part = keys[start:end], order[start:end]
        depth = load_prefixes(data, offsets, part, depth, part_keys)
        _sort_words(part_keys, part, scratch)
        if depth < 0:  # no string goes on: the keys were the lengths
            continue
        spare = scratch.keys[: part.size], scratch.order[: part.size]
        found = mend_runs(data, offsets, depth + 8, part_keys, part, *spare, long_runs)
        bounds = (start + long_runs[: 2 * found]).tolist()
        runs.extend((low, high, depth + 8) for low, high in zip(bounds[::2], bounds[1::2], strict=True))
    return order


@helper
def _scan(keys: Any) -> Any:
    """(is sorted, least, greatest)."""
    least, greatest, is_sorted = keys[0], keys[0], True
    for i in range(1, keys.size):
        key = keys[i]
        is_sorted &= keys[i - 1] <= key
        least, greatest = min(least, key), max(greatest, key)
    return is_sorted, least, greatest


@kernel(void(u64_out, u32_out, u64_out, u32_out, i64_out))
def sort_words(keys: Any, order: Any, spare_keys: Any, spare_order: Any, counts: Any) -> None:
    """Sort the pairs (keys[i], order[i]) by key, stable, in place; equal keys stay as they came.

    Shapes: keys u64[n], order u32[n], the spare ones the same, overwritten; counts i64[6 * 2048], overwritten.
    Source: LSD radix sort with all histograms made in one pass, after P. Terdiman and M. Herf; digits of the distance
    to the least key, so that a small range needs few passes wherever it lies.
    """
    n = keys.size
    if n < 2:
        return
    is_sorted, least, greatest = _scan(keys)
    if is_sorted:
        return
    passes = 0
    while passes < _PASSES_MAX and (greatest - least) >> np.uint64(passes * _DIGIT_BITS) != _ZERO:
        passes += 1
        if passes * _DIGIT_BITS >= 64:
            break
    for i in range(passes * _DIGITS):
        counts[i] = 0
    for i in range(n):
        distance = keys[i] - least
        for digit in range(passes):
            counts[digit * _DIGITS + np.int64(distance & _DIGIT_MASK)] += 1
            distance >>= np.uint64(_DIGIT_BITS)
    is_spare = False
    for digit in range(passes):
        base, shift = digit * _DIGITS, np.uint64(digit * _DIGIT_BITS)
        if counts[base + np.int64(((keys[0] - least) >> shift) & _DIGIT_MASK)] == n:
            continue
        _to_starts(counts, base)
        if is_spare:
            _place(spare_keys, spare_order, least, shift, counts, base, keys, order)
        else:
            _place(keys, order, least, shift, counts, base, spare_keys, spare_order)
        is_spare = not is_spare
    if is_spare:
        for i in range(n):
            keys[i] = spare_keys[i]
            order[i] = spare_order[i]


@helper
def _to_starts(counts: Any, base: Any) -> None:
    total = np.int64(0)
    for i in range(base, base + _DIGITS):
        count = counts[i]
        counts[i] = total
        total += count


@helper
def _place(
    keys: Any, order: Any, least: Any, shift: Any, starts: Any, base: Any, out_keys: Any, out_order: Any
) -> None:  # fmt: skip
    for i in range(keys.size):
        key = keys[i]
        digit = np.uint64(base) + (((key - least) >> shift) & _DIGIT_MASK)
        to = starts[digit]
        starts[digit] = to + 1
        out_keys[np.uint64(to)] = key
        out_order[np.uint64(to)] = order[i]


@kernel(i64(u64_out, u32_out, u64_out, u32_out, i64_out))
def split_words(keys: Any, order: Any, out_keys: Any, out_order: Any, ends: Any) -> Any:
    """Split the pairs (keys[i], order[i]) by the top 8 bits in which keys differ, stable; returns 0 if they are sorted.

    Shapes: keys u64[n], order u32[n], n > 0; out_keys and out_order the same, filled with the parts one behind the
    other, unless the result is 0; ends i64[256], filled with where each part ends.
    """
    is_sorted, least, greatest = _scan(keys)
    if is_sorted:
        return 0
    shift = np.uint64(0)
    while (greatest - least) >> shift >= np.uint64(ends.size):
        shift += np.uint64(1)
    for i in range(ends.size):
        ends[i] = 0
    for i in range(keys.size):
        ends[(keys[i] - least) >> shift] += 1
    total = np.int64(0)
    for i in range(ends.size):
        count = ends[i]
        ends[i] = total
        total += count
    for i in range(keys.size):
        part = (keys[i] - least) >> shift
        to = ends[part]
        ends[part] = to + 1
        out_keys[np.uint64(to)] = keys[i]
        out_order[np.uint64(to)] = order[i]
    return 1


@helper
def prefix(data: Any, start: Any, stop: Any) -> Any:
    """The first 8 bytes of data[start:stop] as a big-endian word, zeros where there are fewer."""
    if start >= stop:
        return _ZERO
    if start + 8 <= data.size:
        word = byte_swapped(load_u64(data, start))
        if stop - start < 8:
            word &= _ALL << (_WORD_BITS - _EIGHT * np.uint64(stop - start))
        return word
    word = _ZERO
    for i in range(8):
        byte = np.uint64(data[start + i]) if start + i < stop else _ZERO
        word = (word << _EIGHT) | byte
    return word


@kernel(i64(u8_in, i32_in, u32_in, i64, u64_out))
def load_prefixes(data: Any, offsets: Any, order: Any, depth: Any, keys: Any) -> Any:
    """Fill keys with 8 bytes of each row, from `depth` on or further where all rows agree; returns that place.

    Shapes: data u8, no slack needed; offsets i32; order u32[n], the rows; keys u64[n]. Where no row goes on, keys are
    the lengths and the result is -1.
    """
    while True:
        longest, differ = np.int64(0), False
        for i in range(order.size):
            row = order[i]
            start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
            longest = max(longest, stop - start)
            keys[i] = prefix(data, start + depth, stop)
            differ |= keys[i] != keys[0]
        if differ:
            return depth
        if longest <= depth + 8:
            for i in range(order.size):
                row = order[i]
                keys[i] = np.uint64(np.int64(offsets[row + 1]) - np.int64(offsets[row]))
            return -1
        depth += 8


@helper
def _is_less(data: Any, offsets: Any, depth: Any, a: Any, b: Any) -> Any:
    """Whether row a's bytes from `depth` on are less than row b's."""
    a_stop, b_stop = np.int64(offsets[a + 1]), np.int64(offsets[b + 1])
    a_at, b_at = offsets[a] + depth, offsets[b] + depth
    while a_at < a_stop and b_at < b_stop:
        a_word, b_word = prefix(data, a_at, a_stop), prefix(data, b_at, b_stop)
        if a_word != b_word:
            return a_word < b_word
        a_at += 8
        b_at += 8
    return a_stop - offsets[a] < b_stop - offsets[b]


@helper
def _comes_before(data: Any, offsets: Any, depth: Any, a_key: Any, a: Any, b_key: Any, b: Any) -> Any:
    return a_key < b_key or (a_key == b_key and _is_less(data, offsets, depth, a, b))


@helper
def _insert(data: Any, offsets: Any, depth: Any, keys: Any, order: Any, first: Any, stop: Any) -> None:
    """Sort first..stop by insertion; `keys` are the 8 bytes before `depth`."""
    for i in range(first + 1, stop):
        key, row = keys[i], order[i]
        k = i
        while k > first and _comes_before(data, offsets, depth, key, row, keys[k - 1], order[k - 1]):
            keys[k] = keys[k - 1]
            order[k] = order[k - 1]
            k -= 1
        keys[k] = key
        order[k] = row


@helper
def _merge(
    data: Any, offsets: Any, depth: Any, keys: Any, order: Any, first: Any, middle: Any, stop: Any,
    spare_keys: Any, spare_order: Any,
) -> None:  # fmt: skip
    """Merge the sorted first..middle and middle..stop; the left part waits in the spare arrays."""
    for i in range(first, middle):
        spare_keys[i] = keys[i]
        spare_order[i] = order[i]
    left, right, to = first, middle, first
    while left < middle:
        a_key, a = spare_keys[left], spare_order[left]
        if right < stop and _comes_before(data, offsets, depth, keys[right], order[right], a_key, a):
            keys[to] = keys[right]
            order[to] = order[right]
            right += 1
        else:
            keys[to] = a_key
            order[to] = a
            left += 1
        to += 1


@helper
def _load_run(data: Any, offsets: Any, depth: Any, keys: Any, order: Any, first: Any, stop: Any) -> Any:
    """Fill keys[first:stop] with the 8 bytes from `depth` on; True if these rows are equal to the end, as words are."""
    least, greatest, differ = np.int64(1 << 40), np.int64(0), False
    for i in range(first, stop):
        row = order[i]
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        least, greatest = min(least, end - begin), max(greatest, end - begin)
        keys[i] = prefix(data, begin + depth, end)
        differ |= keys[i] != keys[first]
    return not differ and least == greatest and greatest <= depth + 8


@kernel(i64(u8_in, i32_in, i64, u64_out, u32_out, u64_out, u32_out, i64_out))
def mend_runs(
    data: Any, offsets: Any, depth: Any, keys: Any, order: Any, spare_keys: Any, spare_order: Any, long_runs: Any
) -> Any:  # fmt: skip
    """Sort each run of rows with equal keys by their bytes from `depth` on, but list the long runs; returns how many.

    Shapes: data u8, no slack needed; offsets i32; keys u64[n], sorted, overwritten; order u32[n]; the spare ones the
    same, overwritten; long_runs i64, two entries (start, stop) for each 4,096 rows and two more.
    """
    found, start, last = 0, 0, keys.size - 1
    while start < keys.size:
        stop = start
        while stop < keys.size and keys[stop] == keys[start]:
            prefetch(offsets, order[min(stop + 2 * _AHEAD, last)])
            prefetch(data, np.int64(offsets[order[min(stop + _AHEAD, last)]]) + depth)
            stop += 1
        if stop - start >= _LONG_RUN_ROWS:
            long_runs[2 * found] = start
            long_runs[2 * found + 1] = stop
            found += 1
        elif stop - start > 1 and not _load_run(data, offsets, depth, keys, order, start, stop):
            for low in range(start, stop, _INSERTION_ROWS):
                _insert(data, offsets, depth + 8, keys, order, low, min(low + _INSERTION_ROWS, stop))
            width = _INSERTION_ROWS
            while width < stop - start:
                for low in range(start, stop - width, 2 * width):
                    high = min(low + 2 * width, stop)
                    middle = low + width
                    if not _comes_before(
                        data, offsets, depth + 8, keys[middle], order[middle], keys[middle - 1], order[middle - 1]
                    ):
                        continue
                    _merge(data, offsets, depth + 8, keys, order, low, middle, high, spare_keys, spare_order)
                width *= 2
        start = stop
    return found
