"""XXH64 and the partition hash: which bytes of a row are hashed is a contract, frozen with golden vectors.

    a column's type                      the bytes hashed
    int8..int64, date, time, timestamp   the value as int64, little-endian, so that int32 and int64 keys meet
    bool                                 0 or 1 as int64
    uint8..uint32                        the value as int64; uint64 its own 8 bytes
    float32, float64                     as float64, -0.0 made 0.0 and every NaN the one of `canonical_floats`
    string, binary                       its bytes, those of a fixed width too
    decimal128                           its low word, then its high one, each as a column
    null                                 a null
    dictionary                           those of the value

The first column is hashed with PARTITION_SEED, each further one with the hash so far as its seed. A null is the empty
input under the complemented seed. XXH64: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelmill.kernels._jit import helper, i32_in, inlined, kernel, u8_in, u64_in, u64_out, void
from kernelmill.kernels.intrinsics import load_u32, load_u64

PARTITION_SEED = np.uint64(0x6B65726E656C6D69)
"""The seed of a row's first column: the bytes "kernelmi" read as a big-endian number."""

_P1, _P2, _P3 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_P4, _P5 = np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)
_P1_PLUS_P2 = np.uint64((int(_P1) + int(_P2)) % 2**64)
_LOW_HALF, _LOW_BYTE, _HALF_BITS = np.uint64(0xFFFFFFFF), np.uint64(0xFF), np.uint64(32)
_BITS, _EIGHT, _ZERO = np.uint64(64), np.uint64(8), np.uint64(0)
_THREE, _FOUR, _SIXTEEN = np.uint64(3), np.uint64(4), np.uint64(16)


@inlined
def _rotated(value: Any, by: Any) -> Any:
    return (value << np.uint64(by)) | (value >> (_BITS - np.uint64(by)))


@inlined
def _rounded(lane: Any, word: Any) -> Any:
    return _rotated(lane + word * _P2, 31) * _P1


@inlined
def _merged(hashed: Any, lane: Any) -> Any:
    return (hashed ^ _rounded(_ZERO, lane)) * _P1 + _P4


@inlined
def _avalanched(hashed: Any) -> Any:
    hashed = (hashed ^ (hashed >> np.uint64(33))) * _P2
    hashed = (hashed ^ (hashed >> np.uint64(29))) * _P3
    return hashed ^ (hashed >> np.uint64(32))


@inlined
def _with_word(hashed: Any, word: Any) -> Any:
    return _rotated(hashed ^ _rounded(_ZERO, word), 27) * _P1 + _P4


@inlined
def _with_byte(hashed: Any, byte: Any) -> Any:
    return _rotated(hashed ^ (byte * _P5), 11) * _P1


@helper
def xxh64_bytes(data: Any, start: Any, length: Any, seed: Any) -> Any:
    """XXH64 of `length` bytes of data u8 from `start`, under a u64 seed; reads no byte beyond them."""
    at, stop = start, start + length
    if length >= 32:
        a, b, c, d = seed + _P1_PLUS_P2, seed + _P2, seed, seed - _P1
        while at <= stop - 32:
            a = _rounded(a, load_u64(data, at))
            b = _rounded(b, load_u64(data, at + 8))
            c = _rounded(c, load_u64(data, at + 16))
            d = _rounded(d, load_u64(data, at + 24))
            at += 32
        hashed = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
        hashed = _merged(_merged(_merged(_merged(hashed, a), b), c), d)
    else:
        hashed = seed + _P5
    hashed += np.uint64(length)
    while at <= stop - 8:
        hashed = _with_word(hashed, load_u64(data, at))
        at += 8
    if at <= stop - 4:
        hashed = _rotated(hashed ^ (np.uint64(load_u32(data, at)) * _P1), 23) * _P2 + _P3
        at += 4
    while at < stop:
        hashed = _with_byte(hashed, np.uint64(data[at]))
        at += 1
    return _avalanched(hashed)


@helper
def xxh64_short(data: Any, start: Any, length: Any, seed: Any) -> Any:
    """As `xxh64_bytes` for fewer than 32 bytes with 8 more to read behind them: the last 7 without a branch to guess.

    Strings of mixed lengths of 2 to 23 bytes took 17.4 ns each by `xxh64_bytes`, 10.2 so.
    """
    at, stop = start, start + length
    hashed = seed + _P5 + np.uint64(length)
    while at <= stop - 8:
        hashed = _with_word(hashed, load_u64(data, at))
        at += 8
    rest = load_u64(data, at)
    if length & 4 != 0:
        hashed = _rotated(hashed ^ ((rest & _LOW_HALF) * _P1), 23) * _P2 + _P3
        rest >>= _HALF_BITS
    for i in range(3):
        longer = _with_byte(hashed, (rest >> np.uint64(8 * i)) & _LOW_BYTE)
        hashed = longer if length & 3 > i else hashed
    return _avalanched(hashed)


@helper
def xxh64_words(word0: Any, word1: Any, length: Any, seed: Any) -> Any:
    """As `xxh64_bytes` for at most 16 bytes that lie in two words, the rest of them zero; no branch to guess.

    length: u64. The keys of a table of words of prose took 10.7 ns each by `xxh64_short`, 9.3 so.
    """
    hashed = seed + _P5 + length
    one = _with_word(hashed, word0)
    two = _with_word(one, word1)
    rest = word0 if length < _EIGHT else word1
    hashed = hashed if length < _EIGHT else (one if length < _SIXTEEN else two)
    four = _rotated(hashed ^ ((rest & _LOW_HALF) * _P1), 23) * _P2 + _P3
    hashed = four if length & _FOUR != _ZERO else hashed
    rest = rest >> ((length & _FOUR) << _THREE)  # by 32 bits, or by none
    for i in range(3):
        longer = _with_byte(hashed, (rest >> np.uint64(8 * i)) & _LOW_BYTE)
        hashed = longer if length & _THREE > np.uint64(i) else hashed
    return _avalanched(hashed)


@helper
def xxh64_word(value: Any, seed: Any) -> Any:
    """XXH64 of the 8 little-endian bytes of a u64 value, under a u64 seed."""
    return _avalanched(_with_word(seed + _P5 + _EIGHT, value))


@helper
def xxh64_null(seed: Any) -> Any:
    """The hash of a null: the empty input under the complemented seed."""
    return _avalanched(~seed + _P5)


@kernel(void(u64_in, u8_in, u64_out))
def hash_words(values: Any, validity: Any, hashes: Any) -> Any:
    """Hash one column of 8-byte values into `hashes`, which holds each row's seed and gets its hash.

    Shapes: values u64[n], the bytes of the contract (`int_words`, `canonical_floats`); validity u8[n], 0 for null, or
    empty if no row is null; hashes u64[n]: PARTITION_SEED throughout for the first column.
    """
    if validity.size == 0:
        for row in range(values.size):
            hashes[row] = xxh64_word(values[row], hashes[row])
    else:
        for row in range(values.size):
            seed = hashes[row]
            hashes[row] = xxh64_word(values[row], seed) if validity[row] != 0 else xxh64_null(seed)


@kernel(void(u8_in, i32_in, u8_in, u64_out))
def hash_strings(data: Any, offsets: Any, validity: Any, hashes: Any) -> Any:
    """Hash one column of strings into `hashes`, which holds each row's seed and gets its hash.

    Shapes: data u8, no slack needed; offsets i32[n + 1] into data; validity u8[n], 0 for null, or empty if no row is
    null; hashes u64[n]: PARTITION_SEED throughout for the first column.
    """
    for row in range(offsets.size - 1):
        seed = hashes[row]
        start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        if validity.size != 0 and validity[row] == 0:
            hashes[row] = xxh64_null(seed)
        elif stop - start < 32 and stop + 8 <= data.size:
            hashes[row] = xxh64_short(data, start, stop - start, seed)
        else:
            hashes[row] = xxh64_bytes(data, start, stop - start, seed)


def first_seeds(rows: int) -> npt.NDArray[np.uint64]:
    """Make the array that `hash_words` or `hash_strings` starts from: PARTITION_SEED for each row."""
    return np.full(rows, PARTITION_SEED, dtype=np.uint64)


def int_words(values: npt.NDArray[np.integer | np.bool_]) -> npt.NDArray[np.uint64]:
    """The contract's words of integers, bools, or dates and times as their integers; uint64 keeps its own bits."""
    if values.dtype == np.uint64:
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(values, dtype=np.int64).view(np.uint64)


def canonical_floats(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint64]:
    """The contract's words of float32 or float64: float64 bits, -0.0 as 0.0, every NaN as 0x7FF8000000000000."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is a value like others here
        wide = values.astype(np.float64) + 0.0  # -0.0 + 0.0 is 0.0
    wide[np.isnan(wide)] = np.nan
    return wide.view(np.uint64)
