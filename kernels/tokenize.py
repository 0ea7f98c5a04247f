"""Bytes to token offsets, 64 at a time: a mask of word bytes, its edges, a walk over the edges' bits.

A token is a maximal run of word bytes; what a word byte is depends on the mode:

    WHITESPACE  all but 9-13 and 32: the tokens of `bytes.split()`
    WORD        A-Z a-z 0-9 _ and bytes >= 0x80, so that no UTF-8 sequence is cut
    IDENTIFIER  as WORD; tokens that start with a digit are left out whole
    TABLE       byte b separates where table[b] != 0
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelmill.kernels._jit import helper, i32_in, i32_out, i64, inlined, kernel, u8_in
from kernelmill.kernels.intrinsics import (
    SLACK_BYTES,
    SOON_BYTES,
    clear_lowest,
    count_ones,
    folded_range_mask,
    prefetch,
    range_mask,
    trailing_zeros_or_64,
)

WHITESPACE, WORD, IDENTIFIER, TABLE = 0, 1, 2, 3

_ZERO, _ONE, _TOP = np.uint64(0), np.uint64(1), np.uint64(63)
_BLOCK_TOKENS_MAX = 32  # one in two of 64 bytes; a multiple of the 8 that one step of the walk writes

_control_spaces = range_mask(9, 13)
_spaces = range_mask(32, 32)
_letters = folded_range_mask(ord("a"), ord("z"), 0x20)
_digits = range_mask(ord("0"), ord("9"))
_underscores = range_mask(ord("_"), ord("_"))
_beyond_ascii = range_mask(0x80, 0xFF)


def separator_table(mode: int, separators: bytes = b"") -> npt.NDArray[np.uint8]:
    """Make the u8[256] that has 1 where a byte separates: for TABLE the bytes of `separators`, else the mode's own."""
    if mode == WHITESPACE:
        separators = bytes([*range(9, 14), 32])
    elif mode in (WORD, IDENTIFIER):
        separators = bytes(b for b in range(128) if not (chr(b).isalnum() or b == ord("_")))
    table = np.zeros(256, dtype=np.uint8)
    table[np.frombuffer(separators, dtype=np.uint8)] = 1
    return table


def tokens_max(byte_count: int) -> int:
    """The entries that token arrays need for `byte_count` bytes."""
    return byte_count // 2 + 1


def rows_in_place(offsets: npt.NDArray[np.int32], buffer_bytes: int) -> int:
    """How many leading rows end at least SLACK_BYTES before the buffer does; copy the others into a padded buffer."""
    return max(0, int(np.searchsorted(offsets, buffer_bytes - SLACK_BYTES, side="right")) - 1)


@helper
def _table_mask(data: Any, at: Any, table: Any) -> Any:
    mask = _ZERO
    for i in range(64):
        mask |= np.uint64(table[data[at + i]] == 0) << np.uint64(i)
    return mask


@inlined
def _word_mask(data: Any, at: Any, mode: Any, table: Any) -> Any:
    if mode == WHITESPACE:
        word = ~(_control_spaces(data, at) | _spaces(data, at))
    elif mode == TABLE:
        word = _table_mask(data, at, table)
    else:
        word = _letters(data, at) | _digits(data, at) | _underscores(data, at) | _beyond_ascii(data, at)
    return word


@inlined
def _without_numbers(word: Any, digits: Any, run_carry: Any, number_carry: Any) -> Any:
    """Clear the runs of `word` that start with a digit: a one added to a run's first bit ripples through all of it."""
    first_digits = word & ~((word << _ONE) | run_carry) & digits
    rippled = word + first_digits
    carried = rippled + number_carry
    ripples_out = np.uint64(rippled < word) | np.uint64(carried < rippled)
    return word & carried, word >> _TOP, ripples_out


@helper
def _find_tokens(
    data: Any, start: Any, stop: Any, origin: Any, mode: Any, table: Any, starts: Any, ends: Any, count: Any
) -> Any:
    """Append the tokens of data[start:stop] from entry `count` on, offsets from `origin`; returns the new count."""
    carry, run_carry, number_carry = _ZERO, _ZERO, _ZERO
    opened, closed = count, count
    for at in range(start, stop, 64):
        prefetch(data, at + SOON_BYTES)
        word = _word_mask(data, at, mode, table)
        if stop - at < 64:
            word &= (_ONE << np.uint64(stop - at)) - _ONE
        if mode == IDENTIFIER:
            word, run_carry, number_carry = _without_numbers(word, _digits(data, at), run_carry, number_carry)
        edge = word ^ ((word << _ONE) | carry)
        carry = word >> _TOP
        first, last = edge & word, edge & ~word
        firsts, lasts = count_ones(first), count_ones(last)
        base = at - origin
        if opened + _BLOCK_TOKENS_MAX <= starts.size and opened + _BLOCK_TOKENS_MAX <= ends.size:
            # Eight entries of each a step, whether or not so many bits are left: the next block overwrites what is too
            # much, and the loop's end is guessed right far more often than with one bit a step.
            for step in range(0, max(firsts, lasts), 8):
                for i in range(8):
                    starts[opened + step + i] = base + trailing_zeros_or_64(first)
                    first = clear_lowest(first)
                    ends[closed + step + i] = base + trailing_zeros_or_64(last)
                    last = clear_lowest(last)
        else:
            for i in range(firsts):
                starts[opened + i] = base + trailing_zeros_or_64(first)
                first = clear_lowest(first)
            for i in range(lasts):
                ends[closed + i] = base + trailing_zeros_or_64(last)
                last = clear_lowest(last)
        opened += firsts
        closed += lasts
    if closed < opened:
        ends[closed] = stop - origin
    return opened


@helper
def _ends_to_lengths(starts: Any, ends: Any, count: Any) -> None:
    for i in range(count):
        ends[i] -= starts[i]


@helper
def tokenize_block(data: Any, start: Any, stop: Any, mode: Any, table: Any, starts: Any, lengths: Any) -> Any:
    """Find the tokens of data[start:stop]; returns how many.

    `start` and `stop` must be token boundaries, or the text's ends. Shapes: data u8, readable for 64 bytes past `stop`;
    table u8[256]; starts and lengths i32 with at least tokens_max(stop - start) entries each. Units: bytes, starts
    counted from `start`. Entries past the last token may be overwritten with anything.
    """
    count = _find_tokens(data, start, stop, start, mode, table, starts, lengths, 0)
    _ends_to_lengths(starts, lengths, count)
    return count


@kernel(i64(u8_in, i32_in, u8_in, i64, i64, i64, u8_in, i32_out, i32_out, i32_out))
def tokenize_rows(
    data: Any, offsets: Any, validity: Any, first_row: Any, last_row: Any, mode: Any, table: Any,
    tokens_of_row: Any, starts: Any, lengths: Any,
) -> Any:  # fmt: skip
    """Find the tokens of the rows first_row..last_row of a string column; returns the row that was not done any more.

    Shapes: data u8 with 64 readable bytes past each row done (`rows_in_place`); offsets i32[n + 1]; validity u8[n], 0
    for null, or empty if no row is null; table u8[256]; tokens_of_row i32[last_row - first_row], filled for the rows
    done, 0 for null. Units: bytes, starts counted from data[0]. Stops before a row of k bytes when fewer than
    tokens_max(k) entries are left in starts or lengths, or when data has no 64 bytes past it; the tokens found are the
    first sum(tokens_of_row).
    """
    count, row = 0, first_row
    room = min(starts.size, lengths.size)
    while row < last_row:
        start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        before = count
        if validity.size == 0 or validity[row] != 0:
            if stop + SLACK_BYTES > data.size or room - count < (stop - start) // 2 + 1:
                break
            count = _find_tokens(data, start, stop, 0, mode, table, starts, lengths, count)
        tokens_of_row[row - first_row] = count - before
        row += 1
    _ends_to_lengths(starts, lengths, count)
    return row
