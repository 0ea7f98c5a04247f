"""Values of a fixed width that fit no word, decimals and bytes, as binary whose order by bytes is theirs; and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import (
    Words,
    buffer_of,
    is_string_like,
    strings_view,
    validity_buffer,
    validity_bytes,
    view_of,
)

_SIGN = np.uint64(1 << 63)


def is_fixed_bytes(dtype: pa.DataType) -> bool:
    """True for the types that this module turns: decimals of 128 bits, and bytes of a fixed width."""
    return bool(pa.types.is_decimal128(dtype) or pa.types.is_fixed_size_binary(dtype))


def wide_words(column: pa.Array[Any]) -> Words:
    """The words of decimals of 128 bits, low and high in turn; what lies under nulls is undefined."""
    buffer = column.buffers()[-1]
    if buffer is None or not len(column):
        return np.empty(0, np.uint64)
    return view_of(buffer, np.uint64, 2 * column.offset, 2 * len(column))


def ordered_bytes(column: Any) -> pa.Array[Any]:
    """Values as binary whose order by bytes is theirs: text and bytes as they are, decimals with the sign turned."""
    dtype = column.type
    made: pa.Array[Any] = column
    if is_string_like(dtype):
        return made
    if pa.types.is_decimal128(dtype):
        words = wide_words(column).reshape(-1, 2)
        turned = np.empty(words.shape, ">u8")
        turned[:, 0], turned[:, 1] = words[:, 1] ^ _SIGN, words[:, 0]
        data, width = turned.view(np.uint8).reshape(-1), 16
    else:
        width = dtype.byte_width
        held = column.buffers()[1]
        data = view_of(held, np.uint8, column.offset * width, len(column) * width) if held else np.empty(0, np.uint8)
    valid = validity_bytes(column)
    nulls = int(valid.size - np.count_nonzero(valid))
    offsets = np.arange(len(column) + 1, dtype=np.int32) * np.int32(width)
    buffers = [validity_buffer(valid, nulls), buffer_of(offsets), buffer_of(np.ascontiguousarray(data))]
    made = pa.Array.from_buffers(pa.binary(), len(column), buffers, nulls)
    return made


def from_ordered_bytes(column: Any, dtype: Any) -> pa.Array[Any]:
    """The values behind `ordered_bytes`."""
    made: pa.Array[Any] = column
    if column.type == dtype:
        return made
    if is_string_like(dtype):
        return made.cast(dtype)
    rows, valid = len(column), validity_bytes(column)
    nulls = int(valid.size - np.count_nonzero(valid))
    width = 16 if pa.types.is_decimal128(dtype) else dtype.byte_width
    data, offsets = strings_view(column)
    fixed = np.zeros((rows, width), np.uint8)
    fixed[valid != 0 if valid.size else slice(None)] = data[offsets[0] : offsets[-1]].reshape(-1, width)
    if pa.types.is_decimal128(dtype):
        turned = fixed.view(">u8").reshape(-1, 2)
        words = np.empty(turned.shape, np.uint64)
        words[:, 1], words[:, 0] = turned[:, 0].astype(np.uint64) ^ _SIGN, turned[:, 1]
        fixed = words.view(np.uint8)
    return pa.Array.from_buffers(dtype, rows, [validity_buffer(valid, nulls), buffer_of(fixed)], nulls)
