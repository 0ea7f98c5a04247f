"""The nearest earlier or later build row of each probe row: what `join_asof` puts side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import numbers_of, plain, validity_bytes
from kernelmill.engine.plan.physical import Asof
from kernelmill.kernels import joining
from kernelmill.kernels.orderedwords import Words, ordered_words, values_of_words
from kernelmill.kernels.table import Groups

Places = NDArray[np.int64]


class Moments(NamedTuple):
    """Values of a column that rows are ordered by, as words in their order; those without one: null, or NaN."""

    words: Words
    is_there: NDArray[np.bool_]
    is_float: bool


def moments_of(column: pa.Array[Any]) -> Moments:
    """The values of a column of numbers, dates or times."""
    column = plain(column)
    numbers, validity = numbers_of(column), validity_bytes(column)
    is_there = np.ones(len(column), np.bool_) if not validity.size else validity != 0
    is_float = numbers.dtype == np.float64
    return Moments(ordered_words(numbers), is_there & ~np.isnan(numbers) if is_float else is_there, is_float)


def in_order(groups: Groups, moments: Moments) -> tuple[NDArray[np.int64], Groups]:
    """Build rows in order of their values, ties as they came, and the group of each; none for those without a value."""
    order = np.argsort(moments.words, kind="stable")
    kept = np.where(moments.is_there, groups, np.int32(joining.NO_GROUP))
    return order, kept[order]


def nearest(asof: Asof, wanted: Moments, there: Words, first: Places, last: Places) -> tuple[Places, NDArray[np.bool_]]:
    """Of each probe row the place in `there` of the value that it is put beside, and whether there is one.

    Its own are in order at [first, last) of `there`. Of equal values the last is taken, by strategy forward the first;
    of two as near by strategy nearest the later.
    """
    if not there.size:
        return first, np.zeros(first.size, np.bool_)
    if asof.strategy == "forward":
        at = _bound(there, first, last, wanted.words, after_equal=False)
        found = at < last
    else:
        after = _bound(there, first, last, wanted.words, after_equal=True)
        at, found = after - 1, after > first
        if asof.strategy == "nearest":
            at, found = _nearer(wanted, there, at, found, after, last)
    found &= wanted.is_there
    if asof.tolerance is not None:
        found &= _distance(there[np.where(found, at, 0)], wanted.words, wanted.is_float) <= asof.tolerance
    return at, found


def _nearer(
    wanted: Moments, there: Words, before: Places, has_before: NDArray[np.bool_], after: Places, last: Places
) -> tuple[Places, NDArray[np.bool_]]:
    """The nearer of the last value not after, and of the first one after, of whose equals the last is taken."""
    has_after = after < last
    value_after = there[np.where(has_after, after, 0)]
    to_after = _distance(value_after, wanted.words, wanted.is_float)
    to_before = _distance(there[np.where(has_before, before, 0)], wanted.words, wanted.is_float)
    takes_after = has_after & (~has_before | ((to_before > 0) & (to_after <= to_before)))
    last_equal = _bound(there, after, last, value_after, after_equal=True) - 1
    return np.where(takes_after, last_equal, before), has_before | has_after


def _bound(there: Words, first: Places, last: Places, words: Words, *, after_equal: bool) -> Places:
    """Where in [first, last) each word would be put: before its equals, or after them. All rows search in step."""
    low, high = first, last
    while (is_open := low < high).any():
        middle = (low + high) >> 1
        value = there[np.where(is_open, middle, 0)]
        goes_on = is_open & ((value <= words) if after_equal else (value < words))
        low = np.where(goes_on, middle + 1, low)
        high = np.where(is_open & ~goes_on, middle, high)
    return low


def _distance(one: Words, other: Words, is_float: bool) -> NDArray[Any]:
    """How far values are from one another: of integers exactly, as uint64."""
    if is_float:
        with np.errstate(invalid="ignore"):  # of infinities
            apart = np.abs(values_of_words(one, np.float64) - values_of_words(other, np.float64))
        return np.where(one == other, 0.0, apart)
    distance: NDArray[Any] = np.where(one > other, one - other, other - one)
    return distance
