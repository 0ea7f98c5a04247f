"""States of products: one dense array indexed by group number, as in `combining`.

Rows are taken in order, so a product of floats is the same whatever else happens (I1). `validity` has one byte a row, 0
for null; empty means that nothing is null. Groups that have had no row hold 1: the caller sees to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    f64_in,
    f64_out,
    i32_in,
    i64,
    i64_in,
    i64_out,
    inlined,
    kernel,
    u8_in,
    u64_in,
    u64_out,
    void,
)

_SIGN, _ONE = np.uint64(1 << 63), np.uint64(1)
_MOST_UNSIGNED = np.uint64(2**64 - 1)


@inlined
def _magnitude(value: Any) -> Any:
    return ~np.uint64(value) + _ONE if value < 0 else np.uint64(value)


@kernel(i64(i32_in, i64_in, u8_in, i64_out))
def multiply_integers(groups: Any, values: Any, validity: Any, products: Any) -> Any:
    """Multiply products[group] by values[row]; returns the first row whose product leaves int64, else -1.

    Shapes: groups i32[n], values i64[n], validity u8[n] or empty; products i64[g].
    """
    masked = validity.size != 0
    bad = -1
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        # unsigned, for LLVM takes it that signed products do not wrap, and leaves out what looks whether they did
        before, value = _magnitude(products[group]), _magnitude(values[row])
        is_negative = (products[group] < 0) != (values[row] < 0)
        if value != 0 and before > (_SIGN if is_negative else _SIGN - _ONE) // value and bad < 0:
            bad = row
        after = before * value
        products[group] = np.int64(~after + _ONE if is_negative else after)
    return bad


@kernel(i64(i32_in, u64_in, u8_in, u64_out))
def multiply_unsigned(groups: Any, values: Any, validity: Any, products: Any) -> Any:
    """As `multiply_integers`, for uint64."""
    masked = validity.size != 0
    bad = -1
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        value = values[row]
        if value != 0 and products[group] > _MOST_UNSIGNED // value and bad < 0:
            bad = row
        products[group] *= value
    return bad


@kernel(void(i32_in, f64_in, u8_in, f64_out))
def multiply_floats(groups: Any, values: Any, validity: Any, products: Any) -> None:
    """Multiply products[group] by values[row] in row order."""
    masked = validity.size != 0
    for row in range(groups.size):
        if not masked or validity[row] != 0:
            products[np.uint64(groups[row])] *= values[row]
