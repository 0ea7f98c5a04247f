"""Take rows of a column in a given order: fixed widths, and strings by lengths first, then bytes.

Row numbers are uint32, offsets int32: a column of strings is below 2 GiB. Validity, as one byte a row, is gathered by
`gather_u8`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    helper,
    i32_in,
    i32_out,
    i64,
    i64_in,
    kernel,
    u8_in,
    u8_out,
    u16_in,
    u16_out,
    u32_in,
    u32_out,
    u64_in,
    u64_out,
    void,
)
from kernelmill.kernels.intrinsics import load_u64, prefetch, store_u64

SLACK_BYTES = 16
"""How much longer the output bytes must be than the strings they hold: each gets 16 at once, the next overwrites."""

PLACED_BYTES_MIN = 8
"""The least width of values that `gather_fixed_at` takes."""

_ONE, _WORD_BYTES = np.uint64(1), 8
_AHEAD = 16  # rows; measured against 8 and 32 on arrays of 160 MB


@helper
def _gather(values: Any, rows: Any, out: Any) -> None:
    near = max(0, rows.size - _AHEAD)
    for i in range(near):
        prefetch(values, rows[i + _AHEAD])
        out[i] = values[np.uint64(rows[i])]
    for i in range(near, rows.size):
        out[i] = values[np.uint64(rows[i])]


@kernel(void(u64_in, u32_in, u64_out))
def gather_u64(values: Any, rows: Any, out: Any) -> None:
    """Set out[i] = values[rows[i]] for 8-byte values. Shapes: rows u32[n], each within values; out u64[n]."""
    _gather(values, rows, out)


@kernel(void(u32_in, u32_in, u32_out))
def gather_u32(values: Any, rows: Any, out: Any) -> None:
    """Set out[i] = values[rows[i]] for 4-byte values. Shapes: rows u32[n], each within values; out u32[n]."""
    _gather(values, rows, out)


@kernel(void(u16_in, u32_in, u16_out))
def gather_u16(values: Any, rows: Any, out: Any) -> None:
    """Set out[i] = values[rows[i]] for 2-byte values. Shapes: rows u32[n], each within values; out u16[n]."""
    _gather(values, rows, out)


@kernel(void(u8_in, u32_in, u8_out))
def gather_u8(values: Any, rows: Any, out: Any) -> None:
    """Set out[i] = values[rows[i]] for 1-byte values. Shapes: rows u32[n], each within values; out u8[n]."""
    _gather(values, rows, out)


@helper
def _copy(values: Any, start: Any, width: Any, out: Any, to: Any) -> None:
    """Copy `width` bytes and touch no others: whole words, the last of which may lie over the one before it."""
    if width < _WORD_BYTES:
        for k in range(width):
            out[to + k] = values[start + k]
        return
    last = width - _WORD_BYTES
    for k in range(0, last, _WORD_BYTES):
        store_u64(out, to + k, load_u64(values, start + k))
    store_u64(out, to + last, load_u64(values, start + last))


@kernel(void(u8_in, i64, u32_in, u8_out))
def gather_fixed(values: Any, width: Any, rows: Any, out: Any) -> None:
    """Copy the rows, `width` bytes each, one behind the other. Shapes: rows u32[n]; out u8[n * width]; width > 0."""
    last = rows.size - 1
    for i in range(rows.size):
        far = np.int64(rows[min(i + _AHEAD, last)]) * width
        prefetch(values, far)
        prefetch(values, far + width - 1)
        _copy(values, np.int64(rows[i]) * width, width, out, i * width)


@kernel(void(u8_in, i64_in, i64, u32_in, u8_out))
def gather_fixed_at(base: Any, places: Any, width: Any, rows: Any, out: Any) -> None:
    """The same for rows that lie anywhere: row r's bytes are at base's address plus places[r].

    Shapes: places i64[m]; rows u32[n], each below m; out u8[n * width]; width >= PLACED_BYTES_MIN.
    """
    last = rows.size - 1
    for i in range(rows.size):
        prefetch(places, rows[min(i + 2 * _AHEAD, last)])
        far = places[np.uint64(rows[min(i + _AHEAD, last)])]
        prefetch(base, far)
        prefetch(base, far + width - 1)
        _copy(base, places[np.uint64(rows[i])], width, out, i * width)


@kernel(i64(i32_in, u32_in, i64, i64, i32_out))
def gather_string_lengths(offsets: Any, rows: Any, first: Any, last: Any, out_offsets: Any) -> Any:
    """Fill the output's offsets for the strings of rows[first:last]; returns their bytes.

    Shapes: offsets i32[m + 1]; rows u32[n]; out_offsets i32[last - first + 1]. If the result is over 2^31 - 1, the
    offsets have wrapped: gather fewer rows.
    """
    total = np.int64(0)
    out_offsets[0] = 0
    for i in range(first, last):
        prefetch(offsets, rows[min(i + _AHEAD, last - 1)])
        row = np.uint64(rows[i])
        total += np.int64(offsets[row + _ONE]) - np.int64(offsets[row])
        out_offsets[i - first + 1] = np.int32(total & 0x7FFFFFFF)
    return total


@kernel(void(u8_in, i32_in, u32_in, i64, i64, i32_in, u8_out))
def gather_strings(
    data: Any, offsets: Any, rows: Any, first: Any, last: Any, out_offsets: Any, out: Any
) -> None:  # fmt: skip
    """Copy the strings of rows[first:last] one behind the other.

    Shapes: data u8, no slack needed; offsets i32[m + 1]; rows u32[n]; out_offsets i32[last - first + 1] as
    `gather_string_lengths` filled it; out u8 with SLACK_BYTES more than the strings take, which may be overwritten.
    """
    for i in range(first, last):
        # The bytes of a row further on are fetched once its offset is here, its offset earlier still.
        prefetch(offsets, rows[min(i + 2 * _AHEAD, last - 1)])
        prefetch(data, np.int64(offsets[np.uint64(rows[min(i + _AHEAD, last - 1)])]))
        start = np.int64(offsets[np.uint64(rows[i])])
        to = np.int64(out_offsets[i - first])
        length = np.int64(out_offsets[i - first + 1]) - to
        if start + length + SLACK_BYTES <= data.size:
            # Most strings are done with these two words, whatever their length: no branch to guess wrong.
            store_u64(out, to, load_u64(data, start))
            store_u64(out, to + 8, load_u64(data, start + 8))
            for k in range(16, length, 8):
                store_u64(out, to + k, load_u64(data, start + k))
        else:  # a foreign buffer ends where it ends
            for k in range(length):
                out[to + k] = data[start + k]
