"""How many bytes the values of rows take: a measure of rows, not of how batches or buffers happen to be cut.

A number counts its width (a boolean 1), text and binary their bytes and 4, a list its elements and 4, a struct its
fields, a code as its text; a null counts as its type's empty value; types not known here count 16 bytes a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Sums = npt.NDArray[np.int64]
_SHORT = (pa.types.is_string, pa.types.is_binary, pa.types.is_list, pa.types.is_map)
_LONG = (pa.types.is_large_string, pa.types.is_large_binary, pa.types.is_large_list)
_UNKNOWN_BYTES = 16
_OFFSET_BYTES = 4


def bytes_of(columns: Sequence[pa.Array[Any]]) -> int:
    """Sum the value bytes of all rows; constant time but for codes, and for structs with texts or lists in them."""
    return sum(_bytes_of(column) for column in columns)


def row_bytes(schema: pa.Schema) -> int | None:
    """The value bytes of any row, or None where rows differ in them."""
    widths = [_fixed_width(field.type) for field in schema]
    return None if None in widths else sum(width or 0 for width in widths)


def bytes_before(columns: Sequence[pa.Array[Any]], rows: int) -> Sums:
    """Sum the value bytes of all rows before each row: int64[rows + 1], first 0."""
    sums = np.zeros(rows + 1, dtype=np.int64)
    for column in columns:
        sums += _sums_of(column)
    return sums


def _bytes_of(array: Any) -> int:
    if pa.types.is_dictionary(array.type):
        return int(_bytes_of_codes(array).sum())
    width = _fixed_width(array.type)
    if width is not None:
        return width * len(array)
    ends = _ends(array)  # not widened: looking at two of them costs nothing
    if ends is None:
        return int(_sums_of(array)[-1])
    first, last, heads = int(ends[0]), int(ends[-1]), _OFFSET_BYTES * len(array)
    if pa.types.is_nested(array.type):
        return _bytes_of(array.values.slice(first, last - first)) + heads
    return last - first + heads


def _sums_of(array: Any) -> Sums:
    """Bytes of the values before each element: int64[len + 1]."""
    rows, kind = len(array), array.type
    if pa.types.is_dictionary(kind):
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(_bytes_of_codes(array))])
    width = _fixed_width(kind)
    if width is not None:
        fixed: Sums = np.arange(rows + 1) * width
        return fixed
    if pa.types.is_struct(kind):
        return bytes_before([array.field(number) for number in range(kind.num_fields)], rows)
    ends = _ends(array)
    if ends is None:
        return np.arange(rows + 1) * _UNKNOWN_BYTES
    heads = np.arange(rows + 1) * _OFFSET_BYTES
    if pa.types.is_nested(kind):
        width = _fixed_width(array.type.value_type) if not pa.types.is_map(kind) else None
        if width is not None:
            return (ends.astype(np.int64) - int(ends[0])) * width + heads
        inside = _sums_of(array.values)
        sums: Sums = inside[ends] - inside[ends[0]] + heads
    else:
        sums = ends.astype(np.int64) - int(ends[0]) + heads
    return sums


def _bytes_of_codes(array: Any) -> Sums:
    """Bytes of each value of a dictionary array."""
    empty = _bytes_of(pa.nulls(1, array.type.value_type))
    of_text = np.append(np.diff(_sums_of(array.dictionary)), empty)
    codes = array.indices if not array.indices.null_count else array.indices.fill_null(len(array.dictionary))
    taken: Sums = of_text[np.asarray(codes)]
    return taken


def _fixed_width(kind: pa.DataType) -> int | None:
    try:
        return -(-kind.bit_width // 8)
    except ValueError:
        return None


def _ends(array: Any) -> npt.NDArray[Any] | None:
    """Where elements begin and end in the values below them: int32 or int64[len + 1]; None for types without."""
    if any(is_kind(array.type) for is_kind in _SHORT):
        dtype: np.dtype[Any] = np.dtype(np.int32)
    elif any(is_kind(array.type) for is_kind in _LONG):
        dtype = np.dtype(np.int64)
    else:
        return None
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array) + 1, dtype=np.int64)
    return np.frombuffer(buffer, dtype=dtype, count=len(array) + 1, offset=array.offset * dtype.itemsize)
