"""Numbers as 64-bit words whose unsigned order is the numbers' order, and back: for sorting and for minima."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_SIGN = np.uint64(1 << 63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def ordered_words(values: NDArray[Any]) -> Words:
    """Make words whose unsigned order is that of integers, bools or floats; NaN is greatest, -0.0 equals 0.0.

    uint64 values are their own words, not a copy.
    """
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # a signalling NaN is a value like others here
            bits = (values.astype(np.float64) + 0.0).view(np.uint64)
        words: Words = np.where(bits & _SIGN, ~bits, bits | _SIGN)
        words[np.isnan(values)] = _ALL
        return words
    if values.dtype == np.uint64:
        return values
    return values.astype(np.int64).view(np.uint64) ^ _SIGN


def values_of_words(words: Words, dtype: Any) -> NDArray[Any]:
    """The values of type int64, uint64 or float64 behind `ordered_words`; uint64 values are the words, not a copy."""
    if dtype == np.float64:
        return np.where(words & _SIGN, words ^ _SIGN, ~words).view(np.float64)
    if dtype == np.int64:
        return (words ^ _SIGN).view(np.int64)
    return words
