"""Checksums of rows, which tell whether a map task that ran again made the same rows: a column at a time, cheaply.

A row's checksum is begun by the caller, goes through `mix_words`, `mix_strings` or a kernel of lists for each column,
and ends in `add_rows`. One step takes 16 bytes as two words: each with the checksum so far, they are multiplied, and
the halves of the product folded by XOR. A value of 8 bytes is one step, its word and that turned by half, so that both
factors depend on it. A string begins with its length; one of up to 16 bytes is one step, zeroes behind it, a longer one
goes in steps of 16 of which the last ends with it. Which bytes a value has is the contract of `hashing`.

Memory is asked for well before its turn: of columns that are in no cache a word took 4 ns, 0.6 so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i32_in, i64, inlined, kernel, u8_in, u64, u64_in, u64_out, void
from kernelmill.kernels.intrinsics import load_u64, multiply_fold, prefetch

_MIX_A, _MIX_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_LENGTH, _PLACE, _NULL = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB), np.uint64(0x8EBC6AF09C88C6E3)
_ZERO, _HALF, _WORD_BITS, _EIGHT = np.uint64(0), np.uint64(32), np.uint64(64), np.uint64(8)
_ONE, _THREE = np.uint64(1), np.uint64(3)
_AHEAD, _BYTES_AHEAD = 256, 1024
"""How many words, offsets or bytes of strings before its turn memory is asked for."""


@inlined
def _turned(word: Any) -> Any:
    return (word << _HALF) | (word >> _HALF)


@inlined
def _step(check: Any, word0: Any, word1: Any) -> Any:
    return multiply_fold(check ^ word0 ^ _MIX_A, _turned(check) ^ word1 ^ _MIX_B)


@inlined
def _with_word(check: Any, word: Any) -> Any:
    return _step(check, word, _turned(word))


@inlined
def _with_null(check: Any) -> Any:
    return _step(check + _NULL, _ZERO, _ZERO)


@inlined
def _lowest(word: Any, bits: Any) -> Any:
    return word if bits >= _WORD_BITS else word & ((_ONE << bits) - _ONE)


@helper
def _word_at(data: Any, start: Any, stop: Any) -> Any:
    """At most 8 bytes as a word, nothing behind them read."""
    word = _ZERO
    for at in range(start, min(stop, start + 8)):
        word |= np.uint64(data[at]) << (_EIGHT * np.uint64(at - start))
    return word


@helper
def _with_bytes(check: Any, data: Any, start: Any, stop: Any) -> Any:
    length = stop - start
    check += np.uint64(length) * _LENGTH
    if length > 16:
        at = start
        while at < stop - 16:
            check = _step(check, load_u64(data, at), load_u64(data, at + 8))
            at += 16
        return _step(check, load_u64(data, stop - 16), load_u64(data, stop - 8))
    if start + 16 > data.size:
        return _step(check, _word_at(data, start, stop), _word_at(data, start + 8, stop))
    bits = np.uint64(length) << _THREE
    more = bits - _WORD_BITS if bits > _WORD_BITS else _ZERO
    return _step(check, _lowest(load_u64(data, start), bits), _lowest(load_u64(data, start + 8), more))


@inlined
def _place_seed(place: Any, seed: Any) -> Any:
    return seed + np.uint64(place) * _PLACE


@inlined
def _with_list(check: Any, length: Any, total: Any) -> Any:
    return _with_word(check + np.uint64(length) * _LENGTH, total)


@kernel(void(u64_in, u8_in, u64_out))
def mix_words(values: Any, validity: Any, checks: Any) -> None:
    """Take one column of 8-byte values into the rows' checksums.

    Shapes: values u64[n]; validity u8[n], 0 for null, or empty if no row is null; checks u64[n].
    """
    if validity.size == 0:
        for row in range(values.size):
            prefetch(values, row + _AHEAD)
            checks[row] = _with_word(checks[row], values[row])
    else:
        for row in range(values.size):
            prefetch(values, row + _AHEAD)
            check = checks[row]
            checks[row] = _with_word(check, values[row]) if validity[row] != 0 else _with_null(check)


@kernel(void(u8_in, i32_in, u8_in, u64_out))
def mix_strings(data: Any, offsets: Any, validity: Any, checks: Any) -> None:
    """Take one column of strings into the rows' checksums.

    Shapes: data u8, no slack needed; offsets i32[n + 1] into data; validity and checks as `mix_words`.
    """
    for row in range(offsets.size - 1):
        start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        prefetch(offsets, row + _AHEAD)
        prefetch(data, start + _BYTES_AHEAD)
        if validity.size != 0 and validity[row] == 0:
            checks[row] = _with_null(checks[row])
        else:
            checks[row] = _with_bytes(checks[row], data, start, stop)


@kernel(void(i32_in, i64, u64_in, u8_in, u8_in, u64, u64_out))
def mix_word_lists(
    offsets: Any, first: Any, values: Any, value_validity: Any, validity: Any, seed: Any, checks: Any
) -> None:
    """Take one column of lists of 8-byte values into the rows' checksums, as the three kernels for any items would.

    Shapes: offsets i32[n + 1], `first` of them the place of values[0]; values u64[m]; value_validity u8[m], validity
    u8[n], 0 for null, or empty; seed: where an item's checksum begins; checks u64[n].
    """
    for row in range(offsets.size - 1):
        if validity.size != 0 and validity[row] == 0:
            checks[row] = _with_null(checks[row])
            continue
        start, stop = np.int64(offsets[row]) - first, np.int64(offsets[row + 1]) - first
        total = _ZERO
        prefetch(offsets, row + _AHEAD)
        for at in range(start, stop):
            prefetch(values, at + _AHEAD)
            begun = _place_seed(at - start, seed)
            is_null = value_validity.size != 0 and value_validity[at] == 0
            total += _with_null(begun) if is_null else _with_word(begun, values[at])
        checks[row] = _with_list(checks[row], stop - start, total)


@kernel(void(i32_in, i64, u64, u64_out))
def begin_items(offsets: Any, first: Any, seed: Any, checks: Any) -> None:
    """Begin the checksums of lists' items, which are of what they are and of their place in their list.

    Shapes: offsets i32[n + 1], `first` of them the place of checks[0]; seed as there; checks u64[m].
    """
    for row in range(offsets.size - 1):
        start, stop = np.int64(offsets[row]) - first, np.int64(offsets[row + 1]) - first
        for at in range(start, stop):
            checks[at] = _place_seed(at - start, seed)


@kernel(void(i32_in, i64, u64_in, u8_in, u64_out))
def mix_lists(offsets: Any, first: Any, items: Any, validity: Any, checks: Any) -> None:
    """Take one column of lists into the rows' checksums: their lengths, and the sums of their items' checksums.

    Shapes: offsets i32[n + 1], `first` of them the place of items[0]; items u64[m]; validity and checks as `mix_words`.
    """
    for row in range(offsets.size - 1):
        if validity.size != 0 and validity[row] == 0:
            checks[row] = _with_null(checks[row])
            continue
        start, stop = np.int64(offsets[row]) - first, np.int64(offsets[row + 1]) - first
        total = _ZERO
        prefetch(offsets, row + _AHEAD)
        for at in range(start, stop):
            prefetch(items, at + _AHEAD)
            total += items[at]
        checks[row] = _with_list(checks[row], stop - start, total)


@kernel(void(u64_in, u64_out))
def add_rows(checks: Any, totals: Any) -> None:
    """Add the finished checksums of rows to totals[0] modulo 2^64, and to totals[1] by XOR."""
    total, xor = totals[0], totals[1]
    for row in range(checks.size):
        prefetch(checks, row + _AHEAD)
        check = _step(checks[row], _ZERO, _ZERO)
        total += check
        xor ^= check
    totals[0], totals[1] = total, xor
