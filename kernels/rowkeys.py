"""Several key columns as one string a row, and back: what the key table takes when a group has more than one key.

    fixed-width column   0 for null; else 1 byte, 1 + n, and the n lowest bytes, little-endian, of the word turned by
                         zigzag (0, -1, 1, -2... are 0, 1, 2, 3...), whose other bytes are 0
    string column        0 for null; else 1 + length in 1 byte and the bytes; from 254 bytes on 255, the length in
                         4 bytes, and the bytes

Equal rows give equal bytes and no other rows do, for every piece says where it ends. Keys are short so that most rows
fit the 16 bytes that a record of the key table holds itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i32_in, i64_in, i64_out, kernel, u8_in, u8_out, u64_in, u64_out, void
from kernelmill.kernels.intrinsics import load_u32, load_u64, store_u32, store_u64

SLACK_BYTES = 16
"""Bytes that the destination has beyond its last row."""

_LONG = 254  # bytes of strings whose length needs a field
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
_SIGN_BIT = np.uint64(63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@helper
def _turned(word: Any) -> Any:
    return (word << _ONE) ^ (_ALL if (word >> _SIGN_BIT) != _ZERO else _ZERO)


@helper
def _bytes_of(turned: Any) -> Any:
    """How many bytes hold it."""
    count = 0
    while turned != _ZERO:
        turned = turned >> _EIGHT
        count += 1
    return count


@helper
def _low_bytes(count: Any) -> Any:
    """A mask of the `count` lowest bytes."""
    return _ALL if count == 8 else (_ONE << np.uint64(8 * count)) - _ONE


@kernel(void(u64_in, u8_in, i64_out))
def measure_words(values: Any, validity: Any, lengths: Any) -> None:
    """Add the bytes that a fixed-width column takes in each row."""
    for row in range(values.size):
        if validity.size != 0 and validity[row] == 0:
            lengths[row] += 1
        else:
            lengths[row] += 1 + _bytes_of(_turned(values[row]))


@kernel(void(i32_in, u8_in, i64_out))
def measure_strings(offsets: Any, validity: Any, lengths: Any) -> None:
    """Add the bytes that a string column takes in each row."""
    for row in range(offsets.size - 1):
        if validity.size != 0 and validity[row] == 0:
            lengths[row] += 1
            continue
        length = np.int64(offsets[row + 1]) - np.int64(offsets[row])
        lengths[row] += length + (1 if length < _LONG else 5)


@kernel(void(u64_in, u8_in, i64_out, u8_out))
def put_words(values: Any, validity: Any, cursors: Any, out: Any) -> None:
    """Append a fixed-width column to each row at its cursor, which moves on."""
    for row in range(values.size):
        at = cursors[row]
        if validity.size != 0 and validity[row] == 0:
            out[at] = np.uint8(0)
            cursors[row] = at + 1
            continue
        turned = _turned(values[row])
        count = _bytes_of(turned)
        out[at] = np.uint8(1 + count)
        # what lies behind may be the next row's already
        mask = _low_bytes(count)
        store_u64(out, at + 1, (load_u64(out, at + 1) & ~mask) | turned)
        cursors[row] = at + 1 + count


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
        if length < _LONG:
            out[at] = np.uint8(1 + length)
            at += 1
        else:
            out[at] = np.uint8(255)
            store_u32(out, at + 1, np.uint32(length))
            at += 5
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
        head = np.int64(data[at])
        if head == 0:
            validity[row], values[row] = 0, _ZERO
            cursors[row] = at + 1
            continue
        turned = load_u64(data, at + 1) & _low_bytes(head - 1)
        validity[row] = 1
        values[row] = (turned >> _ONE) ^ (_ALL if (turned & _ONE) != _ZERO else _ZERO)
        cursors[row] = at + head


@kernel(void(u8_in, i64_in, i64_out, u8_out))
def take_lengths(data: Any, cursors: Any, lengths: Any, validity: Any) -> None:
    """Read the lengths of a string column (0 for null); the cursors stay."""
    for row in range(lengths.size):
        at = cursors[row]
        head = np.int64(data[at])
        validity[row] = 0 if head == 0 else 1
        if head == 255:
            lengths[row] = np.int64(load_u32(data, at + 1))
        else:
            lengths[row] = max(np.int64(0), head - 1)


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
        at += 1 if length < _LONG else 5
        done = np.int64(0)
        while done + 8 <= length:
            store_u64(out, start + done, load_u64(data, at + done))
            done += 8
        while done < length:
            out[start + done] = data[at + done]
            done += 1
        cursors[row] = at + length
