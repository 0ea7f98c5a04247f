"""States of variances and correlations: count, means, and sums of products of differences from the means.

A row moves a mean (Welford 1962); two states are merged by the formula of Chan, Golub and LeVeque (1979). Rows are
taken in order and states in the order in which they are given, so results are the same whatever else happens (I1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import f64_in, f64_out, i32_in, i64_in, i64_out, kernel, u8_in, void


@kernel(void(i32_in, f64_in, u8_in, i64_out, f64_out, f64_out))
def add_moments(groups: Any, values: Any, validity: Any, counts: Any, means: Any, squares: Any) -> None:
    """Take values[row] into the state of groups[row]; squares: of differences from the mean, summed.

    Shapes: groups i32[n], values f64[n], validity u8[n] or empty; counts i64[g], means and squares f64[g].
    """
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        value = values[row]
        count = counts[group] + 1
        mean = means[group]
        step = value - mean
        moved = mean + step / count
        squares[group] += step * (value - moved)
        means[group] = moved
        counts[group] = count


@kernel(void(i32_in, i64_in, f64_in, f64_in, i64_out, f64_out, f64_out))
def merge_moments(
    groups: Any, more_counts: Any, more_means: Any, more_squares: Any, counts: Any, means: Any, squares: Any
) -> None:  # fmt: skip
    """Merge the states of rows into those of their groups. Shapes as `add_moments`; those of `more_` are [n]."""
    for row in range(groups.size):
        if more_counts[row] == 0:
            continue
        group = np.uint64(groups[row])
        if counts[group] == 0:
            counts[group], means[group], squares[group] = more_counts[row], more_means[row], more_squares[row]
            continue
        own, other = np.float64(counts[group]), np.float64(more_counts[row])
        step = more_means[row] - means[group]
        share = other / (own + other)
        means[group] += step * share
        squares[group] += more_squares[row] + step * step * own * share
        counts[group] += more_counts[row]


@kernel(void(i32_in, f64_in, f64_in, u8_in, i64_out, f64_out, f64_out, f64_out, f64_out, f64_out))
def add_comoments(
    groups: Any, xs: Any, ys: Any, validity: Any, counts: Any, x_means: Any, y_means: Any,
    x_squares: Any, y_squares: Any, products: Any,
) -> None:  # fmt: skip
    """As `add_moments` for pairs; products: of both differences from their means, summed."""
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        count = counts[group] + 1
        x_step, y_step = xs[row] - x_means[group], ys[row] - y_means[group]
        x_moved, y_moved = x_means[group] + x_step / count, y_means[group] + y_step / count
        x_squares[group] += x_step * (xs[row] - x_moved)
        y_squares[group] += y_step * (ys[row] - y_moved)
        products[group] += x_step * (ys[row] - y_moved)
        x_means[group], y_means[group] = x_moved, y_moved
        counts[group] = count


@kernel(
    void(
        i32_in, i64_in, f64_in, f64_in, f64_in, f64_in, f64_in, i64_out, f64_out, f64_out, f64_out, f64_out, f64_out
    )
)  # fmt: skip
def merge_comoments(
    groups: Any, more_counts: Any, more_x_means: Any, more_y_means: Any, more_x_squares: Any, more_y_squares: Any,
    more_products: Any, counts: Any, x_means: Any, y_means: Any, x_squares: Any, y_squares: Any, products: Any,
) -> None:  # fmt: skip
    """As `merge_moments` for pairs."""
    for row in range(groups.size):
        if more_counts[row] == 0:
            continue
        group = np.uint64(groups[row])
        if counts[group] == 0:
            counts[group], products[group] = more_counts[row], more_products[row]
            x_means[group], y_means[group] = more_x_means[row], more_y_means[row]
            x_squares[group], y_squares[group] = more_x_squares[row], more_y_squares[row]
            continue
        own, other = np.float64(counts[group]), np.float64(more_counts[row])
        share = other / (own + other)
        x_step, y_step = more_x_means[row] - x_means[group], more_y_means[row] - y_means[group]
        x_means[group] += x_step * share
        y_means[group] += y_step * share
        x_squares[group] += more_x_squares[row] + x_step * x_step * own * share
        y_squares[group] += more_y_squares[row] + y_step * y_step * own * share
        products[group] += more_products[row] + x_step * y_step * own * share
        counts[group] += more_counts[row]
