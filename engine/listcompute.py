"""Functions of lists that pyarrow.compute lacks: each takes the elements of all lists at once. Row-wise, no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.compute import Datum, list_get, pc

_LOW = 32  # bits of the lower half of a word


class _Elements(NamedTuple):
    """The elements of all lists that are not null, and which list each is of."""

    values: Any
    parents: NDArray[np.int64]


def _elements(lists: Any) -> _Elements:
    lengths = np.asarray(pc.coalesce(pc.list_value_length(lists), pa.scalar(0, pa.int32()))).astype(np.int64)
    return _Elements(lists.flatten(), np.repeat(np.arange(len(lists)), lengths))  # flatten leaves out what nulls hide


def _of_arrays(function: Callable[..., Any]) -> Callable[..., Datum]:
    """`function`, which takes an array of lists, for a scalar list too."""

    def call(lists: Datum, *options: Any) -> Datum:
        if isinstance(lists, pa.Scalar):
            return function(pa.array([lists], lists.type), *options)[0]
        return function(lists, *options)

    return call


@_of_arrays
def list_sort(lists: Any, descending: bool, nulls_last: bool) -> Any:
    """Each list in order; NaN is greater than all numbers."""
    return _sorted(lists, descending, nulls_last, nan_is_last=not descending)


@_of_arrays
def list_min(lists: Any) -> Any:
    """The least element of each list, NaN only if there is nothing else; null of none."""
    return list_get(_sorted(lists, False, True, nan_is_last=True), 0)


@_of_arrays
def list_max(lists: Any) -> Any:
    """The greatest element of each list, NaN only if there is nothing else; null of none."""
    return list_get(_sorted(lists, True, True, nan_is_last=True), 0)


def _sorted(lists: Any, descending: bool, nulls_last: bool, *, nan_is_last: bool) -> Any:
    values, parents = _elements(lists)
    is_null = pc.is_null(values)
    columns = {"parent": pa.array(parents), "null": is_null if nulls_last else pc.invert(is_null)}
    if pa.types.is_floating(values.type):
        is_nan = pc.fill_null(pc.is_nan(values), False)
        columns["nan"] = is_nan if nan_is_last else pc.invert(is_nan)
    keys = [(name, "ascending") for name in columns]
    table = pa.table({**columns, "value": values})
    order = pc.sort_indices(table, sort_keys=[*keys, ("value", "descending" if descending else "ascending")])
    return _lists_of(values.take(order), parents, lists)


@_of_arrays
def list_unique(lists: Any) -> Any:
    """The different elements of each list, as they first come; null is one, NaN equals NaN, -0.0 equals 0.0."""
    values, parents = _elements(lists)
    compared = pc.add(values, pa.scalar(0.0, values.type)) if pa.types.is_floating(values.type) else values
    encoded = compared.dictionary_encode()
    different = len(encoded.dictionary) + 1
    codes = np.asarray(pc.fill_null(encoded.indices, different - 1)).astype(np.int64)
    _, first = np.unique(parents * different + codes, return_index=True)
    first.sort()
    return _lists_of(values.take(pa.array(first)), parents[first], lists)


def _lists_of(values: Any, parents: NDArray[np.int64], like: Any) -> Any:
    """Lists of elements in order of parent; null where `like` is."""
    offsets = np.zeros(len(like) + 1, np.int32)
    np.cumsum(np.bincount(parents, minlength=len(like)), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=like.type, mask=pc.is_null(like))


@_of_arrays
def list_sum(lists: Any) -> Any:
    """The sum of each list's elements, nulls left out; 0 of none. A sum beyond 64 bits raises."""
    kind = lists.type.value_type
    sums, _ = _sums(lists)
    return pa.array(sums, kind, mask=np.asarray(pc.is_null(lists)))


@_of_arrays
def list_mean(lists: Any) -> Any:
    """The mean of each list of floats, nulls left out; null of none."""
    sums, counts = _sums(lists)
    means = np.divide(sums, counts, out=np.zeros(len(lists)), where=counts > 0)
    return pa.array(means, pa.float64(), mask=counts == 0)


def _sums(lists: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    values, parents = _elements(lists)
    parents = parents[np.asarray(pc.is_valid(values))]
    numbers = values.drop_null().to_numpy(zero_copy_only=False)
    counts = np.bincount(parents, minlength=len(lists)).astype(np.int64)
    starts = (np.cumsum(counts) - counts)[counts > 0]
    sums = np.zeros(len(lists), numbers.dtype)
    if starts.size:
        add = _whole_sums if numbers.dtype.kind in "iu" else np.add.reduceat
        sums[counts > 0] = add(numbers, starts)
    return sums, counts


def _whole_sums(numbers: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Sums from each start to the next; halves of words are added apart, where no list is long enough to overflow."""
    dtype = numbers.dtype
    low_bits = dtype.type((1 << _LOW) - 1)
    low = np.add.reduceat(numbers & low_bits, starts)
    high = np.add.reduceat(numbers >> dtype.type(_LOW), starts) + (low >> dtype.type(_LOW))
    limits = np.iinfo(np.int32 if dtype.kind == "i" else np.uint32)
    if np.any((high < limits.min) | (high > limits.max)):
        raise pa.ArrowInvalid("overflow")
    sums: NDArray[Any] = (high << dtype.type(_LOW)) | (low & low_bits)
    return sums
