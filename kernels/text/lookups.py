"""Look-ups of a text or a number in a read-only key table (kernels/keytable) or in a column (kernels/sidekinds).

Tables come as pointers: slots u32, `mask` their number less one; rows of 32 bytes; the bytes of long keys. Without a
key the slots are never read, and may be none. The hash is that of kernels/keytable, over pointers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.comparing import equal_bytes
from kernelmill.kernels.text.jitting import apart, helper, merged
from kernelmill.kernels.text.pointers import load_u32, load_u64, wide_product

_MIX_A, _MIX_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xE7037ED1A0B428DB)
_ZERO, _ONE, _EIGHT, _HALF, _BITS = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(32), np.uint64(64)
_LOW = np.uint64(0xFFFFFFFF)
_RECORD_BYTES, _WORD1_AT, _LENGTH_AT = 32, 8, 24


@merged
def _folded(a: Any, b: Any) -> Any:
    high, low = wide_product(a, b)
    return high ^ low


@apart
def _hash_long(data: Any, size: Any, seed: Any) -> Any:
    """Of more than 16 bytes."""
    hashed = np.uint64(size) ^ seed
    at, last = 0, size - 16
    while at < last:
        hashed = _folded(load_u64(data, at) ^ _MIX_A ^ hashed, load_u64(data, at + 8) ^ _MIX_B ^ seed)
        at += 16
    return _folded(load_u64(data, last) ^ _MIX_A ^ hashed, load_u64(data, last + 8) ^ _MIX_B ^ seed)


@merged
def _low_bytes(word: Any, count: Any) -> Any:
    """The first `count` bytes of a word, 0 to 8, the others made zeros."""
    kept = word << ((_BITS - _EIGHT * np.uint64(count)) & np.uint64(63))
    kept >>= (_BITS - _EIGHT * np.uint64(count)) & np.uint64(63)
    return kept if count > 0 else _ZERO


@helper
def find_text(slots: Any, mask: Any, rows: Any, long_keys: Any, seed: Any, data: Any, size: Any) -> Any:
    """The number of the key of these bytes, -1 if there is none; 16 bytes from `data` on must be readable."""
    length = np.uint64(size)
    if size <= 16:
        word0 = _low_bytes(load_u64(data, 0), min(size, 8))
        word1 = _low_bytes(load_u64(data, 8), max(size - 8, 0))
        hashed = _folded(word0 ^ _MIX_A ^ seed, word1 ^ _MIX_B ^ seed ^ length)
    else:
        word0, word1 = _ZERO, load_u64(data, size - 8)
        hashed = _hash_long(data, size, seed)
    salt = (hashed >> _HALF) & ~mask
    slot = hashed & mask
    while True:
        found = load_u32(slots, np.int64(slot << np.uint64(2)))
        if found == _ZERO:
            return -1
        if (found & ~mask) == salt:
            group = np.int64(found & mask) - 1
            at = group * _RECORD_BYTES
            if (load_u64(rows, at + _LENGTH_AT) & _LOW) == length and load_u64(rows, at + _WORD1_AT) == word1:
                if size <= 16:
                    if load_u64(rows, at) == word0:
                        return group
                elif equal_bytes(long_keys, np.int64(load_u64(rows, at)), data, 0, size - 8):
                    return group
        slot = (slot + _ONE) & mask


@helper
def find_int(slots: Any, mask: Any, rows: Any, seed: Any, value: Any) -> Any:
    """The number of an int64 key, -1 if there is none."""
    word = np.uint64(value)
    hashed = _folded(word ^ _MIX_A ^ seed, _MIX_B ^ seed ^ _EIGHT)
    salt = (hashed >> _HALF) & ~mask
    slot = hashed & mask
    while True:
        found = load_u32(slots, np.int64(slot << np.uint64(2)))
        if found == _ZERO:
            return -1
        if (found & ~mask) == salt:
            group = np.int64(found & mask) - 1
            if load_u64(rows, group * _RECORD_BYTES) == word:
                return group
        slot = (slot + _ONE) & mask


@helper
def text_is_among(values: Any, offsets: Any, count: Any, data: Any, size: Any) -> Any:
    """True if a column of texts has one of these bytes."""
    for i in range(count):
        if offsets[i + 1] - offsets[i] == size and equal_bytes(values, offsets[i], data, 0, size):
            return True
    return False


@helper
def number_is_among(values: Any, count: Any, value: Any) -> Any:
    """True if a column of numbers has one that equals `value`."""
    for i in range(count):  # noqa: SIM110 - numba has no any()
        if values[i] == value:
            return True
    return False
