"""float(text), rounded as CPython does: to nearest, ties to even.

Most numbers have few digits and a small exponent: one exact multiplication or division. The others go by 128-bit
products (Eisel and Lemire); where more than 19 digits leave that open, by whole numbers of any length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.arena import HEADER_BYTES, USED, allocate, allocate_words
from kernelmill.kernels.text.floattables import POWER_MAX, POWER_MIN, exact_powers, powers_of_five
from kernelmill.kernels.text.integers import decimal_beyond_ascii, to_the_top, trimmed, up_to_eight_digits
from kernelmill.kernels.text.jitting import apart, helper, made_when_called, merged
from kernelmill.kernels.text.pointers import (
    address_of,
    float_of_bits,
    leading_zeros,
    lowest_one,
    wide_product,
    words_at,
)
from kernelmill.kernels.text.points import all_ascii, decode, size_at
from kernelmill.kernels.text.registering import function
from kernelmill.kernels.text.texttype import TEXT, constant

_ZERO, _ONE, _THREE, _SEVEN, _TEN = (np.uint64(number) for number in (0, 1, 3, 7, 10))
_EIGHT_POINTS, _EIGHT_ONES, _TOP_BITS = (np.uint64(int(byte * 8, 16)) for byte in ("2E", "01", "80"))
_BYTE_BITS, _BITS, _BYTE = np.uint64(8), np.uint64(64), np.uint64(0xFF)
_INFINITE_BITS = np.uint64(0x7FF0000000000000)
_HIDDEN_BIT = np.uint64(1 << 52)
_DIGITS_MAX = 19  # that a u64 holds
_EXACT_MAX = np.uint64(1 << 53)
_PLUS, _MINUS, _POINT, _UNDERSCORE, _E = 43, 45, 46, 95, 101
_EXPONENT_MAX = 1 << 40  # beyond which it does not matter
_MESSAGE = "could not convert string to float"


# The product of a number of 19 digits and a power of ten -------------------------------------------------------------


def _nearest_bits(number: Any, power: Any) -> int:
    """The bits of the float64 nearest to number * 10**power, for a u64."""
    raise TypeError(number)


@made_when_called(_nearest_bits)
def _make_nearest_bits() -> Any:
    fives = powers_of_five()
    precision_mask = np.uint64(0x1FF)
    all_ones = np.uint64(0xFFFFFFFFFFFFFFFF)

    def nearest(number: Any, power: Any) -> Any:
        if number == _ZERO or power < POWER_MIN:
            return _ZERO
        if power > POWER_MAX:
            return _INFINITE_BITS
        zeros = leading_zeros(number)
        number <<= np.uint64(zeros)
        index = 2 * (power - POWER_MIN)
        high, low = wide_product(number, fives[index])
        if high & precision_mask == precision_mask:
            more = wide_product(number, fives[index + 1])[0]
            low += more
            if low < more:
                high += _ONE
        upper = np.int64(high >> np.uint64(63))
        shift = np.uint64(upper + 9)
        mantissa = high >> shift
        exponent = ((217706 * power) >> 16) + 63 + upper - zeros + 1023
        if exponent <= 0:
            if 1 - exponent >= 64:
                return _ZERO
            mantissa >>= np.uint64(1 - exponent)
            mantissa = (mantissa + (mantissa & _ONE)) >> _ONE
            return mantissa  # 2**52 here is the smallest normal number, and has its bits
        if low <= _ONE and -4 <= power <= 23 and mantissa & _THREE == _ONE and mantissa << shift == high:
            mantissa &= all_ones - _ONE  # a tie: to even
        mantissa = (mantissa + (mantissa & _ONE)) >> _ONE
        if mantissa >= _HIDDEN_BIT << _ONE:
            mantissa = _HIDDEN_BIT
            exponent += 1
        if exponent >= 0x7FF:
            return _INFINITE_BITS
        return (mantissa & (_HIDDEN_BIT - _ONE)) | np.uint64(exponent) << np.uint64(52)

    return nearest


apart(_nearest_bits)


# Whole numbers of any length: words of 32 bits, the lowest first ------------------------------------------------------

_LIMBS_MAX = 400  # 800 digits times 5**1142, or shifted by as many bits as a float64's exponent asks for
_SIGNIFICANT_MAX = 800  # more digits never tell more than that something follows; 767 would do
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)


@helper
def _multiplied(limbs: Any, count: Any, factor: Any, summand: Any) -> Any:
    """limbs * factor + summand in place; returns the number of limbs."""
    carry = np.uint64(summand)
    for i in range(count):
        carry += np.uint64(limbs[i]) * np.uint64(factor)
        limbs[i] = np.int64(carry & _LOW_WORD)
        carry >>= _WORD_BITS
    if carry != _ZERO:
        limbs[count] = np.int64(carry)
        count += 1
    return count


@helper
def _scaled(limbs: Any, count: Any, fives: Any, twos: Any) -> Any:
    """limbs * 5**fives * 2**twos in place; returns the number of limbs."""
    while fives >= 13:
        count = _multiplied(limbs, count, 1220703125, 0)
        fives -= 13
    while fives > 0:
        count = _multiplied(limbs, count, 5, 0)
        fives -= 1
    if twos % 32 != 0:
        count = _multiplied(limbs, count, 1 << (twos % 32), 0)
    whole = twos // 32
    for i in range(count - 1, -1, -1):
        limbs[i + whole] = limbs[i]
    for i in range(whole):
        limbs[i] = 0
    return count + whole


@apart
def _compared(data: Any, at: Any, stop: Any, power: Any, lower_bits: Any, arena: Any) -> Any:
    """Sign of the digits data[at:stop] (a point and underscores aside) * 10**power - the middle above a float64.

    `power` is that of the last digit of all; the float64 is given by its bits.
    """
    before = arena[USED]
    left = allocate_words(arena, 2 * _LIMBS_MAX)
    right = words_at(address_of(left) + 8 * _LIMBS_MAX)
    count, taken, dropped = 0, 0, 0
    follows: Any = False
    for i in range(at, stop):
        digit = np.int64(data[i]) - 48
        if digit < 0 or digit > 9:
            continue
        if taken > 0 or digit > 0:
            taken += 1
        if taken <= _SIGNIFICANT_MAX:
            count = _multiplied(left, count, 10, digit)
        else:
            dropped += 1
            follows = follows or digit > 0
    if follows:
        count = _multiplied(left, count, 10, 1)
        dropped -= 1
    power += dropped
    exponent = np.int64(lower_bits >> np.uint64(52))
    mantissa = lower_bits & (_HIDDEN_BIT - _ONE)
    if exponent > 0:
        mantissa |= _HIDDEN_BIT
    twos = (exponent if exponent > 0 else 1) - 1075 - 1  # of the middle, which is the mantissa and a half
    middle = (mantissa << _ONE) | _ONE
    right[0], right[1] = np.int64(middle & _LOW_WORD), np.int64(middle >> _WORD_BITS)
    shift = power - twos
    left_count = _scaled(left, count, max(power, 0), max(shift, 0))
    right_count = _scaled(right, 2 if right[1] != 0 else 1, max(-power, 0), max(-shift, 0))
    sign = left_count - right_count
    i = left_count - 1
    while sign == 0 and i >= 0:
        sign = left[i] - right[i]
        i -= 1
    arena[USED] = max(before, HEADER_BYTES)
    return sign


# Reading -------------------------------------------------------------------------------------------------------------


@helper
def _is_digit(data: Any, at: Any, stop: Any) -> Any:
    return at < stop and 48 <= data[at] <= 57


@helper
def _is_inner_underscore(data: Any, at: Any, stop: Any) -> Any:
    """True for an underscore before a digit; whoever asks has just passed a digit."""
    return data[at] == _UNDERSCORE and _is_digit(data, at + 1, stop)


@helper
def _has_letters(data: Any, at: Any, stop: Any, word: Any) -> Any:
    """True if data[at:stop] is the word, in any case."""
    if stop - at != word._size:
        return False
    for i in range(word._size):  # noqa: SIM110 - numba has no all()
        if data[at + i] | 32 != word._data[i]:
            return False
    return True


_infinity, _inf, _nan = constant("infinity"), constant("inf"), constant("nan")


@apart
def _named(data: Any, at: Any, stop: Any) -> Any:
    if _has_letters(data, at, stop, _inf()) or _has_letters(data, at, stop, _infinity()):
        return np.inf
    if _has_letters(data, at, stop, _nan()):
        return np.nan
    raise ValueError(_MESSAGE)


@apart
def _rounded(number: Any, power: Any, is_cut: Any, data: Any, at: Any, stop: Any, last_power: Any, arena: Any) -> Any:
    """number * 10**power; if further digits were cut off, between that and (number + 1) * 10**power."""
    lower = _nearest_bits(number, power)
    if is_cut:
        upper = _nearest_bits(number + _ONE, power)
        if upper != lower:
            sign = _compared(data, at, stop, last_power, lower, arena)
            if sign > 0 or (sign == 0 and lower & _ONE == _ONE):
                lower = upper
    return float_of_bits(lower)


def _exact_power(power: Any) -> float:
    """10.0**power for 0 to 22."""
    raise TypeError(power)


@made_when_called(_exact_power)
def _make_exact_power() -> Any:
    powers = exact_powers()
    return lambda power: powers[power]


helper(_exact_power)


@helper
def _parsed(data: Any, at: Any, stop: Any, arena: Any) -> Any:
    is_negative = at < stop and data[at] == _MINUS
    if at < stop and (data[at] == _MINUS or data[at] == _PLUS):
        at += 1
    first = at
    number, digits, power, cut, seen = _ZERO, 0, 0, 0, False
    fraction = 0  # digits behind the point
    in_fraction = False
    while at < stop:
        byte = data[at]
        if 48 <= byte <= 57:
            seen = True
            if in_fraction:
                fraction += 1
            if digits < _DIGITS_MAX:
                number = number * _TEN + np.uint64(byte - 48)
                digits += 1 if number != _ZERO else 0
            else:
                cut += 1
        elif byte == _POINT and not in_fraction:
            in_fraction = True
        elif at == first or not _is_digit(data, at - 1, stop) or not _is_inner_underscore(data, at, stop):
            break
        at += 1
    if not seen:
        named = _named(data, first, stop)
        return -named if is_negative else named
    end = at
    exponent: Any = 0
    if at < stop and data[at] | 32 == _E:
        at += 1
        is_small = at < stop and data[at] == _MINUS
        if at < stop and (data[at] == _MINUS or data[at] == _PLUS):
            at += 1
        if not _is_digit(data, at, stop):
            raise ValueError(_MESSAGE)
        while at < stop and (48 <= data[at] <= 57 or _is_inner_underscore(data, at, stop)):
            if data[at] != _UNDERSCORE:
                exponent = min(_EXPONENT_MAX, exponent * 10 + np.int64(data[at]) - 48)
            at += 1
        exponent = -exponent if is_small else exponent
    if at != stop:
        raise ValueError(_MESSAGE)
    last_power = exponent - fraction
    power = last_power + cut
    if cut == 0 and number <= _EXACT_MAX and -22 <= power <= 22:
        value = np.float64(number)
        value = value / _exact_power(-power) if power < 0 else value * _exact_power(power)
    else:
        value = _rounded(number, power, cut > 0, data, first, end, last_power, arena)
    return -value if is_negative else value


@apart
def _parsed_wide(text: Any, at: Any, stop: Any) -> Any:
    """As `_parsed`, with the decimal digits of all scripts."""
    data, arena = text._data, text._arena
    before = arena[USED]
    out = allocate(arena, stop - at)
    to = 0
    while at < stop:
        if data[at] < 0x80:
            out[to] = data[at]
        else:
            digit = decimal_beyond_ascii(decode(data, at))
            out[to] = 48 + digit if digit < 10 else 63
        at += size_at(data, at)
        to += 1
    value = _parsed(out, 0, to, arena)
    arena[USED] = max(before, HEADER_BYTES)
    return value


def _signed_power(index: Any) -> float:
    """10.0**n at 2 n, for n up to 7, and -10.0**n behind it."""
    raise TypeError(index)


@made_when_called(_signed_power)
def _make_signed_power() -> Any:
    powers = np.array([sign * float(10**n) for n in range(8) for sign in (1, -1)])
    return lambda index: powers[index]


helper(_signed_power)


@function(float, TEXT)
@merged
def as_float(text: Any) -> Any:
    """float(text)"""
    if 0 < text._size <= 8:
        sign, shift, word = to_the_top(text)
        if shift < _BITS:
            unlike = word ^ _EIGHT_POINTS
            points = (unlike - _EIGHT_ONES) & ~unlike & _TOP_BITS  # the lowest is the first point, if there is one
            place = _ZERO
            if points != _ZERO:
                before = ((points & (_ZERO - points)) >> _SEVEN) - _ONE
                behind = ~(before << _BYTE_BITS | _BYTE)
                word = word & behind | (word & before) << _BYTE_BITS
                shift += _BYTE_BITS
                place = _SEVEN - np.uint64(lowest_one(points) >> 3)
            if shift < _BITS:
                are_digits, number = up_to_eight_digits(word, shift)
                if are_digits:
                    return np.float64(number) / _signed_power(place << _ONE | sign)
    return _as_float_of_any(text)


@apart
def _as_float_of_any(text: Any) -> Any:
    start, stop = trimmed(text)
    if not text._is_ascii and not all_ascii(text._data, text._size):
        return _parsed_wide(text, start, stop)
    return _parsed(text._data, start, stop, text._arena)
