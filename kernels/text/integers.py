"""int(text), int(text, base) and the digits of an int."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.arena import allocate
from kernelmill.kernels.text.jitting import apart, helper, made_when_called, merged
from kernelmill.kernels.text.pointers import load_u64, moved
from kernelmill.kernels.text.points import decode, size_at
from kernelmill.kernels.text.registering import INT, function
from kernelmill.kernels.text.texttype import TEXT, make_text
from kernelmill.kernels.text.unicodetables import decimal_zeros
from kernelmill.kernels.text.whitespace import end_before_spaces, first_beyond_spaces

_INT_BYTES_MAX = 20  # of -9223372036854775808
_ZERO, _TEN = np.uint64(0), np.uint64(10)
_LIMIT = np.uint64(1 << 63)
_THREE, _EIGHT, _SIXTEEN, _SHIFT_MAX, _WORD_BITS = (np.uint64(number) for number in (3, 8, 16, 63, 64))
_BYTE, _MINUS_BYTE = np.uint64(0xFF), np.uint64(45)
_EIGHT_ZEROS, _EIGHT_ABOVE_NINE, _TOP_BITS = (np.uint64(int(byte * 8, 16)) for byte in ("30", "76", "80"))
_TWO_BYTES, _MILLION_AND_100 = np.uint64(0x000000FF000000FF), np.uint64(100 + (1_000_000 << 32))
_TEN_THOUSAND_AND_1 = np.uint64(1 + (10_000 << 32))
_SAFE_DIGITS = 18  # as many nines fit into an int64
_NO_DIGIT = 99
_PLUS, _MINUS, _UNDERSCORE = 43, 45, 95


@helper
def written_int(value: Any, arena: Any) -> Any:
    """The Text of an int64's decimal digits, in the arena."""
    rest = np.uint64(value) if value >= 0 else np.uint64(0) - np.uint64(value)
    out = allocate(arena, _INT_BYTES_MAX)
    at = _INT_BYTES_MAX
    while True:
        at -= 1
        out[at] = 48 + np.int64(rest % _TEN)
        rest //= _TEN
        if rest == _ZERO:
            break
    if value < 0:
        at -= 1
        out[at] = _MINUS
    return make_text(moved(out, at), _INT_BYTES_MAX - at, True, arena)


def _decimal_beyond_ascii(point: Any) -> int:
    """The value of a decimal digit of any script, _NO_DIGIT for other characters."""
    raise TypeError(point)


@made_when_called(_decimal_beyond_ascii)
def _make_decimal_beyond_ascii() -> Any:
    zeros = decimal_zeros()

    def value(point: Any) -> Any:
        for zero in zeros:
            if zero <= point <= zero + 9:
                return point - zero
        return _NO_DIGIT

    return value


decimal_beyond_ascii = apart(_decimal_beyond_ascii)


@helper
def _digit(byte: Any) -> Any:
    """The value of an ASCII digit or letter."""
    if 48 <= byte <= 57:
        return byte - 48
    letter = byte | 32
    return letter - 87 if 97 <= letter <= 122 else _NO_DIGIT


@merged
def to_the_top(text: Any) -> Any:
    """Of a text of 1 to 8 bytes whether it begins with a minus, and what follows in a word, its last byte the highest.

    Between these the number of bits below, all 0; 64 and any word if nothing follows.
    """
    word = load_u64(text._data, 0)
    sign = np.uint64((word & _BYTE) == _MINUS_BYTE)
    signs_bits = sign << _THREE
    shift = _WORD_BITS - (np.uint64(text._size) << _THREE) + signs_bits
    return sign, shift, word >> signs_bits << (shift & _SHIFT_MAX)


@merged
def up_to_eight_digits(word: Any, shift: Any) -> Any:
    """Whether the bytes of a word above `shift` bits, 0 to 56, are ASCII digits, and their number; those below are 0.

    Source: Lemire, https://lemire.me/blog/2022/01/21/swar-explained-parsing-eight-digits/
    """
    digits = word ^ (_EIGHT_ZEROS << shift)
    are_digits = (digits + _EIGHT_ABOVE_NINE | digits) & _TOP_BITS == _ZERO
    pairs = digits * _TEN + (digits >> _EIGHT)
    upper = (pairs & _TWO_BYTES) * _MILLION_AND_100
    lower = (pairs >> _SIXTEEN & _TWO_BYTES) * _TEN_THOUSAND_AND_1
    return are_digits, np.int64((upper + lower) >> np.uint64(32))


@helper
def trimmed(text: Any) -> Any:
    """Start and end without what int() and float() pass over: whitespace, but not U+001C to U+001F."""
    start, stop = 0, text._size
    while start < stop and (text._data[start] == 32 or 9 <= text._data[start] <= 13):
        start += 1
    while start < stop and (text._data[stop - 1] == 32 or 9 <= text._data[stop - 1] <= 13):
        stop -= 1
    if start < stop and (text._data[start] >= 0x80 or text._data[stop - 1] >= 0x80):
        return _trimmed_wide(text)
    return start, stop


@apart
def _trimmed_wide(text: Any) -> Any:
    data = text._data
    start = first_beyond_spaces(data, 0, text._size)
    stop = end_before_spaces(data, start, text._size)
    for at in range(text._size):
        if (at < start or at >= stop) and 28 <= data[at] <= 31:
            return at, at  # no number
    return start, stop


@helper
def _signed(magnitude: Any, is_negative: Any) -> Any:
    if magnitude > _LIMIT or (magnitude == _LIMIT and not is_negative):
        raise OverflowError("int() of a text that is beyond 64 bits")
    return -np.int64(magnitude) if is_negative else np.int64(magnitude)


@apart
def _parsed(data: Any, at: Any, stop: Any, base: Any, is_negative: Any) -> Any:
    """The int of digits and single underscores between them, after the sign; base 0 is told by the prefix."""
    any_zeros_lead = base != 0
    if base == 0:
        base = 10
        if stop - at >= 2 and data[at] == 48:
            mark = data[at + 1] | 32
            base = 16 if mark == 120 else 8 if mark == 111 else 2 if mark == 98 else 10
    if stop - at >= 2 and data[at] == 48:
        mark = data[at + 1] | 32
        if (base == 16 and mark == 120) or (base == 8 and mark == 111) or (base == 2 and mark == 98):
            at += 2
            any_zeros_lead = True
            if at < stop and data[at] == _UNDERSCORE:
                at += 1
    begins_with_zero = at < stop and data[at] == 48
    number, after_digit = _ZERO, False
    too_long: Any = False
    most = ~_ZERO // np.uint64(base)
    while at < stop:
        if data[at] == _UNDERSCORE:
            if not after_digit:
                raise ValueError("invalid literal for int()")
            after_digit = False
            at += 1
            continue
        digit = _digit(np.int64(data[at])) if data[at] < 0x80 else decimal_beyond_ascii(decode(data, at))
        if digit >= base:
            raise ValueError("invalid literal for int()")
        following = number * np.uint64(base) + np.uint64(digit)
        too_long = too_long or number > most or following < np.uint64(digit)
        number, after_digit = following, True
        at += size_at(data, at)
    if not after_digit or (begins_with_zero and not any_zeros_lead and (number != _ZERO or too_long)):
        raise ValueError("invalid literal for int()")
    return _signed(~_ZERO if too_long else number, is_negative)


@function(int, TEXT)
@helper
def as_int(text: Any) -> Any:
    """int(text); OverflowError beyond 64 bits"""
    if 0 < text._size <= 8:
        sign, shift, word = to_the_top(text)
        if shift < _WORD_BITS:
            are_digits, few = up_to_eight_digits(word, shift)
            if are_digits:
                return -few if sign != _ZERO else few
    return _as_int_of_any(text)


@apart
def _as_int_of_any(text: Any) -> Any:
    start, stop = trimmed(text)
    data = text._data
    is_negative = start < stop and data[start] == _MINUS
    if start < stop and (data[start] == _MINUS or data[start] == _PLUS):
        start += 1
    if 0 < stop - start <= _SAFE_DIGITS:
        number: Any = 0
        for at in range(start, stop):
            digit = np.int64(data[at]) - 48
            if digit < 0 or digit > 9:
                return _parsed(data, start, stop, 10, is_negative)
            number = number * 10 + digit
        return -number if is_negative else number
    return _parsed(data, start, stop, 10, is_negative)


@function(int, TEXT, INT)
@helper
def as_int_of_base(text: Any, base: Any) -> Any:
    """int(text, base); OverflowError beyond 64 bits"""
    if base != 0 and (base < 2 or base > 36):
        raise ValueError("int() base must be >= 2 and <= 36, or 0")
    start, stop = trimmed(text)
    is_negative = start < stop and text._data[start] == _MINUS
    if start < stop and (text._data[start] == _MINUS or text._data[start] == _PLUS):
        start += 1
    return _parsed(text._data, start, stop, base, is_negative)
