"""How many bytes the values of rows take: a measure of rows, not of how batches or buffers happen to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Sums = npt.NDArray[np.int64]


def bytes_before(columns: Sequence[pa.Array[Any]], rows: int) -> Sums:
    """Sum the value bytes of all rows before each row: int64[rows + 1], first 0.

    A number counts its width, text and binary their bytes, a list its elements, each text or list 4 more; a null
    counts as its type's empty value. Raises nothing: types it does not know count 16 bytes a row.
    """
    sums = np.zeros(rows + 1, dtype=np.int64)
    fixed_bytes = 0.0
    for column in columns:
        width = _fixed_width(column.type)
        if width is None:
            sums += _sums_of(column)
        else:
            fixed_bytes += width
    if fixed_bytes:
        sums += (np.arange(rows + 1) * fixed_bytes).astype(np.int64)
    return sums


def _fixed_width(kind: pa.DataType) -> float | None:
    try:
        return kind.bit_width / 8
    except ValueError:
        return None


def _sums_of(array: Any) -> Sums:
    """Bytes of the values before each element, for one array: int64[len + 1]."""
    rows, kind = len(array), array.type
    width = _fixed_width(kind)
    if width is not None:
        return (np.arange(rows + 1) * width).astype(np.int64)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _offsets(array, np.int32) + np.arange(0, 4 * rows + 1, 4)
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _offsets(array, np.int64) + np.arange(0, 4 * rows + 1, 4)
    if pa.types.is_struct(kind):
        total = np.zeros(rows + 1, dtype=np.int64)
        for number in range(kind.num_fields):
            total += _sums_of(array.field(number))
        return total
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        wide = np.int64 if pa.types.is_large_list(kind) else np.int32
        ends = _offsets(array, wide)
        inside = array.flatten() if not pa.types.is_map(kind) else _entries(array)
        below = _sums_of(inside)
        # flatten() leaves out what null lists cover; then offsets and elements do not meet, and an even share is close
        at = np.minimum(ends, len(below) - 1) if ends[-1] == len(inside) else ends * len(inside) // max(1, ends[-1])
        return below[at] + np.arange(0, 4 * rows + 1, 4)
    return np.arange(0, 16 * rows + 1, 16)


def _offsets(array: Any, wide: npt.DTypeLike) -> Sums:
    """Ends of the elements, from 0: int64[len + 1]."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array) + 1, dtype=np.int64)
    dtype = np.dtype(wide)
    raw = np.frombuffer(buffer, dtype=dtype, count=len(array) + 1, offset=array.offset * dtype.itemsize)
    ends: Sums = raw.astype(np.int64) - int(raw[0])
    return ends


def _entries(array: Any) -> Any:
    """The key and value pairs of a map array, as many as its offsets cover."""
    keys, items = array.keys, array.items
    return pa.StructArray.from_arrays([keys, items], names=["key", "value"])
