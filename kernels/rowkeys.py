"""Several key columns as one string a row, and back: what the key table takes when a group has more than one key.

    fixed-width column   1 byte (1 valid, 0 null), 8 bytes little-endian (0 for null)
    string column        1 byte (1 valid, 0 null), then 4 bytes length and the bytes if valid

Equal rows give equal bytes and no other rows do, for every piece says where it ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import i32_in, i64_in, i64_out, kernel, u8_in, u8_out, u64_in, u64_out, void
from kernelmill.kernels.intrinsics import load_u32, load_u64, store_u32, store_u64

FIXED_BYTES = 9
STRING_HEAD_BYTES = 5
SLACK_BYTES = 16
"""Bytes that the destination has beyond its last row."""


@kernel(void(u64_in, u8_in, i64_out, u8_out))
def put_words(values: Any, validity: Any, cursors: Any, out: Any) -> None:
    """Append a fixed-width column to each row at its cursor, which moves on."""
    for row in range(values.size):
        at = cursors[row]
        valid = validity.size == 0 or validity[row] != 0
        out[at] = np.uint8(1) if valid else np.uint8(0)
        store_u64(out, at + 1, values[row] if valid else np.uint64(0))
        cursors[row] = at + FIXED_BYTES


@kernel(void(u8_in, i32_in, u8_in, i64_out, u8_out))
def put_strings(data: Any, offsets: Any, validity: Any, cursors: Any, out: Any) -> None:
    """Append a string column to each row at its cursor, which moves on."""
    for row in range(offsets.size - 1):
        at = cursors[row]
        if validity.size != 0 and validity[row] == 0:
            out[at] = np.uint8(0)
            cursors[row] = at + 1
            continue
        start = np.int64(offsets[row])
        length = np.int64(offsets[row + 1]) - start
        out[at] = np.uint8(1)
        store_u32(out, at + 1, np.uint32(length))
        at += STRING_HEAD_BYTES
        done = np.int64(0)
        while done + 8 <= length:
            store_u64(out, at + done, load_u64(data, start + done))
            done += 8
        while done < length:
            out[at + done] = data[start + done]
            done += 1
        cursors[row] = at + length


@kernel(void(u8_in, i64_out, u64_out, u8_out))
def take_words(data: Any, cursors: Any, values: Any, validity: Any) -> None:
    """Read a fixed-width column back; the cursors move on."""
    for row in range(values.size):
        at = cursors[row]
        validity[row] = data[at]
        values[row] = load_u64(data, at + 1)
        cursors[row] = at + FIXED_BYTES


@kernel(void(u8_in, i64_in, i64_out, u8_out))
def take_lengths(data: Any, cursors: Any, lengths: Any, validity: Any) -> None:
    """Read the lengths of a string column (0 for null); the cursors stay."""
    for row in range(lengths.size):
        at = cursors[row]
        validity[row] = data[at]
        lengths[row] = np.int64(load_u32(data, at + 1)) if data[at] != 0 else np.int64(0)


@kernel(void(u8_in, i64_out, i32_in, u8_in, u8_out))
def take_strings(data: Any, cursors: Any, offsets: Any, validity: Any, out: Any) -> None:
    """Read the bytes of a string column to their `offsets`; the cursors move on. `out` has 16 slack bytes."""
    for row in range(validity.size):
        at = cursors[row]
        if validity[row] == 0:
            cursors[row] = at + 1
            continue
        start = np.int64(offsets[row])
        length = np.int64(offsets[row + 1]) - start
        at += STRING_HEAD_BYTES
        done = np.int64(0)
        while done + 8 <= length:
            store_u64(out, start + done, load_u64(data, at + done))
            done += 8
        while done < length:
            out[start + done] = data[at + done]
            done += 1
        cursors[row] = at + length
