"""Powers of ten for reading floats: those a float64 holds exactly, and 128 bits of each power of five."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

POWER_MIN, POWER_MAX = -342, 308
"""Decimal exponents of 19 digits between which float64s lie: below all are 0, above all are infinite."""


@cache
def exact_powers() -> npt.NDArray[np.float64]:
    """10.0**0 to 10.0**22."""
    return np.array([float(10**n) for n in range(23)])


@cache
def powers_of_five() -> npt.NDArray[np.uint64]:
    """For each exponent from POWER_MIN on the high and the low 64 bits of 5**exponent, its top bit the highest.

    Truncated for exponents >= 0, rounded up for those below. Source: Lemire, Number Parsing at a Gigabyte per Second,
    2021, and its table script.
    """
    words = []
    for exponent in range(POWER_MIN, POWER_MAX + 1):
        power = 5 ** abs(exponent)
        if exponent >= 0:
            shift = power.bit_length() - 128
            bits = power >> shift if shift > 0 else power << -shift
        else:
            length = (power - 1).bit_length()  # the smallest with 2**length >= power
            bits = 2 ** (length + 127 if exponent >= -27 else 2 * length + 128) // power + 1
            bits >>= max(0, bits.bit_length() - 128)
        words += [bits >> 64, bits & (1 << 64) - 1]
    return np.array(words, dtype=np.uint64)
