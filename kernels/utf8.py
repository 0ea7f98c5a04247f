"""UTF-8: find what is not, put U+FFFD in its place as Python does, and make it from single-byte encodings."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i64, i64_out, kernel, u8_in, u8_out, u32_in
from kernelmill.kernels.intrinsics import count_trailing_zeros, load_u64, range_mask, store_u32, store_u64

_high_mask, _lead_mask, _lead3_mask, _lead4_mask = (range_mask(low, 0xFF) for low in (0x80, 0xC0, 0xE0, 0xF0))
_never_mask, _never_high_mask = range_mask(0xC0, 0xC1), range_mask(0xF5, 0xFF)
_e0_mask, _ed_mask, _f0_mask, _f4_mask = (range_mask(byte, byte) for byte in (0xE0, 0xED, 0xF0, 0xF4))
_to_8f_mask, _to_9f_mask = range_mask(0x80, 0x8F), range_mask(0x80, 0x9F)
_from_90_mask, _from_a0_mask = range_mask(0x90, 0xBF), range_mask(0xA0, 0xBF)
_NONE, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_61, _62, _63, _ALL = np.uint64(61), np.uint64(62), np.uint64(63), np.uint64(0xFFFFFFFFFFFFFFFF)


@helper
def sequence_length(data: Any, at: int, stop: int) -> int:
    """Bytes of the sequence that starts at `at`; negative: bytes of the maximal bad one, as Python counts them.

    Source: Unicode 15, table 3-7 and "U+FFFD Substitution of Maximal Subparts"; bytes from `stop` on do not exist.
    """
    lead = data[at]
    if lead < 0x80:
        return 1
    if lead < 0xC2 or lead > 0xF4:
        return -1
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    low, high = 0x80, 0xBF  # the second byte's range is narrower for four leads: overlong, surrogates, past U+10FFFF
    if lead == 0xE0:
        low = 0xA0
    elif lead == 0xED:
        high = 0x9F
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F
    for step in range(1, size):
        if at + step >= stop or data[at + step] < low or data[at + step] > high:
            return -step
        low, high = 0x80, 0xBF
    return size


@helper
def first_high(data: Any, at: int, stop: int) -> int:
    """Where the first byte >= 0x80 in [at, stop) is, else `stop`."""
    while at < stop:
        high = _high_mask(data, at)
        if high != _NONE:
            return min(at + count_trailing_zeros(high), stop)
        at += 64
    return stop


@helper
def copy_64(data: Any, at: int, out: Any, to: int) -> None:
    """Copy 64 bytes. All loads come first, so that they become vectors without a check for overlap."""
    a, b, c, d = load_u64(data, at), load_u64(data, at + 8), load_u64(data, at + 16), load_u64(data, at + 24)
    e, f, g, h = load_u64(data, at + 32), load_u64(data, at + 40), load_u64(data, at + 48), load_u64(data, at + 56)
    store_u64(out, to, a)
    store_u64(out, to + 8, b)
    store_u64(out, to + 16, c)
    store_u64(out, to + 24, d)
    store_u64(out, to + 32, e)
    store_u64(out, to + 40, f)
    store_u64(out, to + 48, g)
    store_u64(out, to + 56, h)


@helper
def _find_one_by_one(data: Any, start: int, stop: int) -> int:
    at = start
    while at < stop:
        at = first_high(data, at, stop)
        while at < stop and data[at] >= 0x80:
            size = sequence_length(data, at, stop)
            if size < 0:
                return at
            at += size
    return -1


@helper
def _sequence_start(data: Any, at: int, start: int) -> int:
    """Where the sequence that `at` may be in the middle of begins: at most 3 bytes back, not before `start`."""
    for back in range(1, 4):
        if at - back < start or data[at - back] < 0x80:
            break
        if data[at - back] >= 0xC0:
            return at - back
    return at


@kernel(i64(u8_in, i64, i64))
def find_invalid_utf8(data: Any, start: int, stop: int) -> int:
    """Find the first byte of the first bad sequence in [start, stop), -1 if all is UTF-8.

    Shapes: data u8[n], n >= stop + 64. A sequence cut off by `stop` is bad. Errors: none.

    64 bytes at a time, whatever they are: leads say where continuations must be, and the masks must agree. A block
    that does not is searched byte by byte. One by one throughout was 10 times slower on French and Chinese.
    """
    at, expected_next = start, _NONE
    while at < stop:
        valid = _ALL if stop - at >= 64 else _ALL >> np.uint64(64 - (stop - at))
        high = _high_mask(data, at) & valid
        if high | expected_next == _NONE:
            at += 64
            continue
        lead = _lead_mask(data, at) & valid
        lead3 = _lead3_mask(data, at) & valid
        lead4 = _lead4_mask(data, at) & valid
        expected = expected_next | (lead << _ONE) | (lead3 << _TWO) | (lead4 << _THREE)
        bad = (expected ^ high ^ lead) | ((_never_mask(data, at) | _never_high_mask(data, at)) & valid)
        if lead3 != _NONE:  # the second byte's range is narrower after four leads, see sequence_length
            bad |= _e0_mask(data, at) & valid & _to_9f_mask(data, at + 1)
            bad |= _ed_mask(data, at) & valid & _from_a0_mask(data, at + 1)
            bad |= _f0_mask(data, at) & valid & _to_8f_mask(data, at + 1)
            bad |= _f4_mask(data, at) & valid & _from_90_mask(data, at + 1)
        if bad != _NONE:
            return _find_one_by_one(data, _sequence_start(data, at, start), stop)
        expected_next = (lead >> _63) | (lead3 >> _62) | (lead4 >> _61)
        at += 64
    if expected_next != _NONE:
        return _sequence_start(data, stop, start)
    return -1


@kernel(i64(u8_in, i64, i64, u8_out, i64_out))
def repair_utf8(data: Any, start: int, stop: int, out: Any, replaced: Any) -> int:
    """Copy [start, stop) to `out` with U+FFFD for each maximal bad sequence; return the bytes written.

    Shapes: data u8[n], n >= stop + 64; out u8[m], m >= 3 * (stop - start) + 64; replaced i64[1], the number of bad
    sequences added to it. Equal to `bytes.decode(errors="replace")`. Errors: none.
    """
    at, to = start, 0
    while at < stop:
        if _high_mask(data, at) == _NONE:
            copy_64(data, at, out, to)
            step = min(64, stop - at)
            at += step
            to += step
            continue
        ascii_stop = first_high(data, at, stop)
        while at < ascii_stop:
            out[to] = data[at]
            at += 1
            to += 1
        while at < stop and data[at] >= 0x80:
            size = sequence_length(data, at, stop)
            if size < 0:
                out[to], out[to + 1], out[to + 2] = 0xEF, 0xBF, 0xBD
                to += 3
                replaced[0] += 1
                at -= size
            else:
                for _ in range(size):
                    out[to] = data[at]
                    at += 1
                    to += 1
    return to


@kernel(i64(u8_in, i64, i64, u32_in, u8_out, i64))
def transcode_bytes(data: Any, start: int, stop: int, utf8_of_byte: Any, out: Any, to: int) -> int:
    """Write each byte of [start, stop) as UTF-8 to `out` from `to` on; return where the output ends.

    Shapes: data u8[n], n >= stop + 64; utf8_of_byte u32[256], the length (1 to 3) in the top byte and the sequence,
    first byte lowest, below it; out u8[m], m >= to + 3 * (stop - start) + 64. Errors: none.
    """
    ascii_is_same = True
    for byte in range(128):
        ascii_is_same = ascii_is_same and utf8_of_byte[byte] == (1 << 24) | byte
    at = start
    while at < stop:
        if ascii_is_same and _high_mask(data, at) == _NONE:
            copy_64(data, at, out, to)
            step = min(64, stop - at)
            at += step
            to += step
            continue
        for place in range(at, min(at + 64, stop)):
            packed = utf8_of_byte[data[place]]
            store_u32(out, to, packed)
            to += packed >> 24
        at += 64
    return to
