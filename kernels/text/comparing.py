"""==, <, hash, bool, str: the order of UTF-8 bytes is the order of code points."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from kernelmill.kernels.hashing import PARTITION_SEED
from kernelmill.kernels.text.jitting import apart, helper, merged
from kernelmill.kernels.text.pointers import byte_swapped, load_u64
from kernelmill.kernels.text.points import decode, length_of, size_at
from kernelmill.kernels.text.registering import STRING, JustText, function, method
from kernelmill.kernels.text.strings import equals_string
from kernelmill.kernels.text.texttype import TEXT

_ZERO, _BITS, _EIGHT = np.uint64(0), np.uint64(64), np.uint64(8)
_P1, _P2, _P3 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_P4, _P5 = np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)
_LOW_HALF, _LOW_BYTE = np.uint64(0xFFFFFFFF), np.uint64(0xFF)
_P1_PLUS_P2 = np.uint64((int(_P1) + int(_P2)) % 2**64)


@helper
def equal_bytes(a: Any, at: Any, b: Any, start: Any, size: Any) -> Any:
    """True if `size` bytes of `a` from `at` equal those of `b` from `start`; reads up to 7 past them."""
    i = 0
    while i + 8 <= size:
        if load_u64(a, at + i) != load_u64(b, start + i):
            return False
        i += 8
    if i == size:
        return True
    differing = load_u64(a, at + i) ^ load_u64(b, start + i)
    return differing << (_BITS - _EIGHT * np.uint64(size - i)) == _ZERO


@helper
def order(a: Any, b: Any) -> Any:
    """Negative if a < b, 0 if they are equal, positive if a > b."""
    common = min(a._size, b._size)
    i = 0
    while i < common:
        one, other = load_u64(a._data, i), load_u64(b._data, i)
        if one != other:
            one, other = byte_swapped(one), byte_swapped(other)
            if common - i < 8:
                rest = _BITS - _EIGHT * np.uint64(common - i)
                one, other = one >> rest, other >> rest
            if one != other:
                return -1 if one < other else 1
        i += 8
    return a._size - b._size


@function(operator.eq, JustText, JustText)
@helper
def equal(a: Any, b: Any) -> Any:
    """a == b"""
    if a._size != b._size:
        return False
    if b._size == 1:  # the byte that other tests of a character read, too: no load that would have to wait for them
        return a._data[0] == b._data[0]
    return equal_bytes(a._data, 0, b._data, 0, a._size)


@function(operator.ne, JustText, JustText)
@helper
def not_equal(a: Any, b: Any) -> Any:
    """a != b"""
    return not equal(a, b)


@function(operator.eq, JustText, STRING)
@helper
def equal_to_string(text: Any, string: Any) -> Any:
    """text == str(5)"""
    return equals_string(text, string)


@function(operator.eq, STRING, JustText)
@helper
def string_equal_to(string: Any, text: Any) -> Any:
    """str(5) == text"""
    return equals_string(text, string)


@function(operator.ne, JustText, STRING)
@helper
def not_equal_to_string(text: Any, string: Any) -> Any:
    """text != str(5)"""
    return not equals_string(text, string)


@function(operator.ne, STRING, JustText)
@helper
def string_not_equal_to(string: Any, text: Any) -> Any:
    """str(5) != text"""
    return not equals_string(text, string)


@function(operator.lt, TEXT, TEXT)
@helper
def less(a: Any, b: Any) -> Any:
    """a < b"""
    return order(a, b) < 0


@function(operator.le, TEXT, TEXT)
@helper
def less_or_equal(a: Any, b: Any) -> Any:
    """a <= b"""
    return order(a, b) <= 0


@function(operator.gt, TEXT, TEXT)
@helper
def greater(a: Any, b: Any) -> Any:
    """a > b"""
    return order(a, b) > 0


@function(operator.ge, TEXT, TEXT)
@helper
def greater_or_equal(a: Any, b: Any) -> Any:
    """a >= b"""
    return order(a, b) >= 0


@function(len, TEXT)
@helper
def length(text: Any) -> Any:
    """len(text), in code points"""
    return length_of(text)


@function(bool, TEXT)
@helper
def is_filled(text: Any) -> Any:
    """bool(text)"""
    return text._size != 0


@function(operator.truth, TEXT)
@helper
def truth(text: Any) -> Any:
    """The test of `if text:`"""
    return text._size != 0


@function(operator.not_, TEXT)
@helper
def is_empty(text: Any) -> Any:
    """not text"""
    return text._size == 0


@function(ord, TEXT)
@helper
def code_point(text: Any) -> Any:
    """ord(text)"""
    if text._size == 0 or size_at(text._data, 0) != text._size:
        raise TypeError("ord() expected a character")
    return decode(text._data, 0)


# numba's own str() and hash() find the methods by name, and need its runtime for that; without it these are taken.
@function(str, TEXT)
@method("__str__", TEXT)
@helper
def same(text: Any) -> Any:
    """str(text)"""
    return text


# XXH64, as kernels/hashing has it over arrays -------------------------------------------------------------------------


@merged
def _rotated(value: Any, by: Any) -> Any:
    return (value << np.uint64(by)) | (value >> (_BITS - np.uint64(by)))


@merged
def _rounded(lane: Any, word: Any) -> Any:
    return _rotated(lane + word * _P2, 31) * _P1


@merged
def _merged(hashed: Any, lane: Any) -> Any:
    return (hashed ^ _rounded(_ZERO, lane)) * _P1 + _P4


@merged
def _avalanched(hashed: Any) -> Any:
    hashed = (hashed ^ (hashed >> np.uint64(33))) * _P2
    hashed = (hashed ^ (hashed >> np.uint64(29))) * _P3
    return hashed ^ (hashed >> np.uint64(32))


@apart
def _xxh64_stripes(data: Any, size: Any, seed: Any) -> Any:
    a, b, c, d = seed + _P1_PLUS_P2, seed + _P2, seed, seed - _P1
    at = 0
    while at <= size - 32:
        a = _rounded(a, load_u64(data, at))
        b = _rounded(b, load_u64(data, at + 8))
        c = _rounded(c, load_u64(data, at + 16))
        d = _rounded(d, load_u64(data, at + 24))
        at += 32
    hashed = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
    return _merged(_merged(_merged(_merged(hashed, a), b), c), d)


@helper
def xxh64(data: Any, size: Any, seed: Any) -> Any:
    """XXH64 of `size` bytes under a u64 seed; the last 7 without a branch to guess, by reading past the end."""
    at = size & -32
    hashed = (_xxh64_stripes(data, size, seed) if at > 0 else seed + _P5) + np.uint64(size)
    while at <= size - 8:
        hashed = _rotated(hashed ^ _rounded(_ZERO, load_u64(data, at)), 27) * _P1 + _P4
        at += 8
    rest = load_u64(data, at)
    if size & 4 != 0:
        hashed = _rotated(hashed ^ ((rest & _LOW_HALF) * _P1), 23) * _P2 + _P3
        rest >>= np.uint64(32)
    for i in range(3):
        longer = _rotated(hashed ^ (((rest >> np.uint64(8 * i)) & _LOW_BYTE) * _P5), 11) * _P1
        hashed = longer if size & 3 > i else hashed
    return _avalanched(hashed)


@function(hash, TEXT)
@method("__hash__", TEXT)
@helper
def hashed(text: Any) -> Any:
    """hash(text): XXH64 of its bytes under PARTITION_SEED, read as an int64"""
    return np.int64(xxh64(text._data, text._size, PARTITION_SEED))
