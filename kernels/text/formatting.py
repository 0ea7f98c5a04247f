"""Texts of ints, texts and floats as format() and % make them: padded, signed, grouped, in other bases, with decimals.

Floats are rounded by integer arithmetic over their mantissa, as exactly as CPython's dtoa does (mode 3: the decimal
next to the float's own value, the even one of two), in a range that is bounded: what does not fit raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.arena import allocate
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import bits_of_float, copy_bytes, moved, wide_product
from kernelmill.kernels.text.points import encode, length_of
from kernelmill.kernels.text.slicing import slice_of
from kernelmill.kernels.text.texttype import make_text

_LEFT, _RIGHT, _MIDDLE, _INSIDE = map(ord, "<>^=")
_MINUS, _POINT, _ZERO_DIGIT = map(ord, "-.0")
_DIGITS_BYTES_MAX = 88  # 64 binary digits, 21 separators
_ZERO, _ONE, _TEN = np.uint64(0), np.uint64(1), np.uint64(10)
_MANTISSA, _EXPONENT, _WORD_BITS = np.uint64((1 << 52) - 1), np.uint64(0x7FF), 64
_TOO_LARGE = "a float whose decimals do not fit 64 bits"


@helper
def laid_out(sign: Any, prefix: Any, body: Any, align: Any, width: Any, fill: Any, arena: Any) -> Any:
    """The Text of a sign, a prefix such as 0x and a body, filled up to `width` characters.

    sign, fill: code points, sign 0 for none; prefix: that of its second character, 0 for none; align: one of <>^=.
    """
    head = (1 if sign != 0 else 0) + (2 if prefix != 0 else 0)
    missing = max(width - head - length_of(body), 0)
    if missing == 0 and head == 0:
        return body
    before = missing if align == _RIGHT else missing // 2 if align == _MIDDLE else 0
    inside = missing if align == _INSIDE else 0
    out = allocate(arena, 4 * missing + head + body._size)
    to = 0
    for _ in range(before):
        to += encode(fill, out, to)
    if sign != 0:
        out[to] = sign
        to += 1
    if prefix != 0:
        out[to] = _ZERO_DIGIT
        out[to + 1] = prefix
        to += 2
    for _ in range(inside):
        to += encode(fill, out, to)
    copy_bytes(body._data, 0, out, to, body._size)
    to += body._size
    for _ in range(missing - before - inside):
        to += encode(fill, out, to)
    return make_text(out, to, body._is_ascii and (fill < 0x80 or missing == 0), arena)


@helper
def _digits(rest: Any, base: Any, after_nine: Any, group: Any, separator: Any, arena: Any) -> Any:
    """The digits of a u64, a separator between each `group` of them; after_nine: what 10 is added to for its letter."""
    out = allocate(arena, _DIGITS_BYTES_MAX)
    at, count, wide_base = _DIGITS_BYTES_MAX, 0, np.uint64(base)
    while True:
        if group > 0 and count > 0 and count % group == 0:
            at -= 1
            out[at] = separator
        digit = np.int64(rest % wide_base)
        at -= 1
        out[at] = _ZERO_DIGIT + digit if digit < 10 else after_nine + digit
        rest //= wide_base
        count += 1
        if rest == _ZERO:
            break
    return make_text(moved(out, at), _DIGITS_BYTES_MAX - at, True, arena)


@helper
def formatted_int(
    value: Any, base: Any, after_nine: Any, group: Any, separator: Any, plus: Any, prefix: Any,
    align: Any, width: Any, fill: Any, arena: Any,
) -> Any:  # fmt: skip
    """The Text of an int64; plus: the sign of what is not negative, 0 for none."""
    rest = np.uint64(value) if value >= 0 else _ZERO - np.uint64(value)
    body = _digits(rest, base, after_nine, group, separator, arena)
    return laid_out(_MINUS if value < 0 else plus, prefix, body, align, width, fill, arena)


@helper
def formatted_text(text: Any, characters_max: Any, align: Any, width: Any, fill: Any, arena: Any) -> Any:
    """The text, or its first `characters_max` characters, filled up to `width`."""
    if characters_max >= 0:
        text = slice_of(text, 0, characters_max)
    return laid_out(0, 0, text, align, width, fill, arena)


@helper
def _power_of_ten(exponent: Any) -> Any:
    power = _ONE
    for _ in range(exponent):
        power *= _TEN
    return power


@helper
def rounded(bits: Any, places: Any) -> Any:
    """A float's magnitude times 10**places, places at most 19, as the u64 next to it, the even one of two.

    bits: the float's. Errors: OverflowError for what is not finite, and where that u64 would be too large.
    """
    field = np.int64((bits >> np.uint64(52)) & _EXPONENT)
    if field == 0x7FF:
        raise OverflowError("infinite, or no number")
    mantissa = bits & _MANTISSA
    if field != 0:
        mantissa |= np.uint64(1 << 52)
    shift = 1075 - (field if field > 1 else 1)
    high, low = wide_product(mantissa, _power_of_ten(places))
    if shift <= 0:
        up = np.uint64(-shift)
        if high != _ZERO or -shift >= _WORD_BITS or low << up >> up != low:
            raise OverflowError(_TOO_LARGE)
        return low << up
    if shift >= 2 * _WORD_BITS:  # the product has fewer than 117 bits
        return _ZERO
    if shift > _WORD_BITS:
        down = np.uint64(shift - _WORD_BITS)
        whole, rest, half = high >> down, high & ((_ONE << down) - _ONE), _ONE << (down - _ONE)
        is_above, is_half = rest > half or (rest == half and low != _ZERO), rest == half and low == _ZERO
    elif shift == _WORD_BITS:
        whole, half = high, _ONE << np.uint64(63)
        is_above, is_half = low > half, low == half
    else:
        down = np.uint64(shift)
        if high >> down != _ZERO:
            raise OverflowError(_TOO_LARGE)
        whole = high << np.uint64(_WORD_BITS - shift) | low >> down
        rest, half = low & ((_ONE << down) - _ONE), _ONE << (down - _ONE)
        is_above, is_half = rest > half, rest == half
    if is_above or (is_half and whole & _ONE != _ZERO):
        if whole == ~_ZERO:
            raise OverflowError(_TOO_LARGE)
        return whole + _ONE
    return whole


@helper
def decimals_of(number: Any, places: Any, group: Any, separator: Any, ending: Any, arena: Any) -> Any:
    """The Text of a u64 with so many decimals; ending: a code point behind it, 0 for none."""
    one = _power_of_ten(places)
    whole = _digits(number // one, 10, 0, group, separator, arena)
    out = allocate(arena, whole._size + places + 2)
    copy_bytes(whole._data, 0, out, 0, whole._size)
    to = whole._size
    if places > 0:
        out[to] = _POINT
        rest = number % one
        for place in range(to + places, to, -1):
            out[place] = _ZERO_DIGIT + np.int64(rest % _TEN)
            rest //= _TEN
        to += places + 1
    if ending != 0:
        out[to] = ending
        to += 1
    return make_text(out, to, True, arena)


@helper
def formatted_float(
    value: Any, places: Any, group: Any, separator: Any, ending: Any, plus: Any,
    align: Any, width: Any, fill: Any, arena: Any,
) -> Any:  # fmt: skip
    """The Text of a float64 with so many decimals. Errors: OverflowError beyond the range of `rounded`."""
    bits = bits_of_float(value)
    body = decimals_of(rounded(bits, places), places, group, separator, ending, arena)
    sign = _MINUS if bits >> np.uint64(63) != _ZERO else plus
    return laid_out(sign, 0, body, align, width, fill, arena)
