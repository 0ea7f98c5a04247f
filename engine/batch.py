"""Record batches and their numpy views: what kernels get to see of Arrow, without copying where Arrow allows it.

Expect of any array: an offset into its parent's buffers, no validity buffer, no data buffer, offsets that do not start
at 0, bytes under nulls, bools as bits. Views hold a reference to the array's buffers as long as they live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, error

Batch = pa.RecordBatch
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Item = TypeVar("Item", bound=np.generic)

_EMPTY: Bytes = np.empty(0, np.uint8)
_CANONICAL_NAN = np.uint64(0x7FF8000000000000)


def is_string_like(dtype: pa.DataType) -> bool:
    """True for the variable-width types: string, binary and their large forms."""
    t = pa.types
    return t.is_string(dtype) or t.is_binary(dtype) or t.is_large_string(dtype) or t.is_large_binary(dtype)


def is_word_like(dtype: pa.DataType) -> bool:
    """True for the types whose values fit a 64-bit word: numbers, bool, dates, times, durations."""
    t = pa.types
    return bool(t.is_integer(dtype) or t.is_floating(dtype) or t.is_boolean(dtype) or t.is_temporal(dtype)) and (
        getattr(dtype, "bit_width", 0) <= 64
    )


def view_of(buffer: pa.Buffer, dtype: type[Item], first: int = 0, count: int = -1) -> NDArray[Item]:
    """`count` items of the buffer from item `first` on, without copying; writable if the buffer is.

    With a count the buffer's end may be anywhere behind them: Arrow does not ask for whole items.
    """
    return np.frombuffer(memoryview(buffer), dtype, count, first * np.dtype(dtype).itemsize)


def buffer_of(values: NDArray[Any]) -> pa.Buffer:
    """The memory of a C-contiguous array as an Arrow buffer, without copying."""
    return pa.py_buffer(values.data)


def new_array(count: int, dtype: type[Item]) -> NDArray[Item]:
    """An array to be filled whose memory is of Arrow's pool, which uses again what was freed.

    numpy gives large arrays back to the system, and takes others that must be cleared: 90 MB of rows that were gathered
    into them took 36 ms instead of 21.
    """
    if not count:
        return np.empty(0, dtype)
    return view_of(pa.allocate_buffer(count * np.dtype(dtype).itemsize), dtype)


def validity_bytes(array: pa.Array[Any]) -> Bytes:
    """One byte a row, 0 for null; empty if nothing is null."""
    if array.null_count == 0:
        return _EMPTY
    held = array.buffers()[0]
    if held is None:  # the null type has no buffers at all
        return np.zeros(len(array), np.uint8)
    bits = view_of(held, np.uint8)
    first = array.offset // 8
    unpacked = np.unpackbits(bits[first : (array.offset + len(array) + 7) // 8], bitorder="little")
    skip = array.offset - 8 * first
    return unpacked[skip : skip + len(array)]


def validity_buffer(validity: Bytes, nulls: int) -> pa.Buffer | None:
    """Arrow's validity bits of one byte a row; None if nothing is null."""
    return None if nulls == 0 else buffer_of(np.packbits(validity, bitorder="little"))


def fixed_view(array: pa.Array[Any], dtype: type[Item]) -> NDArray[Item]:
    """The values of a fixed-width array as numpy `dtype`, without copying; what lies under nulls is undefined."""
    buffer = array.buffers()[-1]
    if buffer is None or not len(array):
        return np.empty(0, dtype)
    return view_of(buffer, dtype, array.offset, len(array))


_STORAGE: dict[int, type[np.signedinteger[Any]]] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def numbers_of(array: pa.Array[Any]) -> NDArray[Any]:
    """Values as int64, uint64 or float64, widened where needed: dates and times by their integers, bools as 0 and 1."""
    dtype = array.type
    if pa.types.is_boolean(dtype):
        return fixed_view(array.cast(pa.uint8()), np.uint8).astype(np.int64)
    if pa.types.is_float16(dtype):
        return fixed_view(array, np.float16).astype(np.float64)
    if pa.types.is_float32(dtype):
        with np.errstate(invalid="ignore"):  # a signalling NaN is a value like others
            return fixed_view(array, np.float32).astype(np.float64)
    if pa.types.is_float64(dtype):
        return fixed_view(array, np.float64)
    width = dtype.bit_width // 8
    if pa.types.is_unsigned_integer(dtype):
        return fixed_view(array, _UNSIGNED[width]).astype(np.uint64, copy=False)
    return fixed_view(array, _STORAGE[width]).astype(np.int64, copy=False)


def key_words(array: pa.Array[Any]) -> Words:
    """Values as the words that stand for them as keys: -0.0 is 0.0, every NaN is one NaN, integers are int64."""
    numbers = numbers_of(array)
    if numbers.dtype != np.float64:
        return numbers.view(np.uint64)
    with np.errstate(invalid="ignore"):  # a signalling NaN is a value like others
        words: Words = (numbers + 0.0).view(np.uint64)  # adding 0.0 turns -0.0 into 0.0
    nans = np.isnan(numbers)
    if nans.any():
        words = np.where(nans, _CANONICAL_NAN, words)
    return words


def array_of_words(words: Words, validity: Bytes, nulls: int, dtype: pa.DataType) -> pa.Array[Any]:
    """The inverse of `key_words` for values that came from an array of `dtype`."""
    bits = validity_buffer(validity, nulls)
    if pa.types.is_boolean(dtype):
        packed = buffer_of(np.packbits(words != 0, bitorder="little"))
        return pa.Array.from_buffers(dtype, len(words), [bits, packed], nulls)
    if pa.types.is_floating(dtype):
        narrowed: NDArray[Any] = words.view(np.float64).astype(dtype.to_pandas_dtype(), copy=False)
    else:
        narrowed = words.astype(_UNSIGNED[dtype.bit_width // 8], copy=False)
    return pa.Array.from_buffers(dtype, len(words), [bits, buffer_of(narrowed)], nulls)


def strings_view(array: pa.Array[Any]) -> tuple[Bytes, NDArray[np.int32]]:
    """Bytes and int32 offsets of a string-like array of less than 2 GiB. Raises KM0401 for more."""
    _, offset_buffer, data_buffer = array.buffers()
    data = view_of(data_buffer, np.uint8) if data_buffer is not None and data_buffer.size else _EMPTY
    if not len(array) or offset_buffer is None:
        return data, np.zeros(1, np.int32)
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        return data, view_of(offset_buffer, np.int32, array.offset, len(array) + 1)
    wide = view_of(offset_buffer, np.int64, array.offset, len(array) + 1)
    first = int(wide[0])
    if int(wide[-1]) - first >= 1 << 31:
        what = f"{int(wide[-1]) - first:,} bytes of text in one batch"
        raise error(Code.MEMORY_LIMIT, what, hint="read it in smaller batches")
    return data[first : int(wide[-1])], (wide - first).astype(np.int32)


def array_of_strings(
    data: Bytes, offsets: NDArray[np.int32], validity: Bytes, nulls: int, dtype: pa.DataType
) -> pa.Array[Any]:
    """A string or binary array over these buffers, without copying; cast where `dtype` is a large form."""
    narrow = pa.string() if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) else pa.binary()
    buffers = [validity_buffer(validity, nulls), buffer_of(offsets), buffer_of(data)]
    array = pa.Array.from_buffers(narrow, len(offsets) - 1, buffers, nulls)
    return array if narrow == dtype else array.cast(dtype)


def concatenated(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows in one batch of at least one column. Raises ArrowInvalid for more than 2 GiB of text in a column."""
    whole: pa.RecordBatch = pa.concat_batches(batches)  # type: ignore[attr-defined]  # pyarrow-stubs 20 lacks it
    return whole


def one_array(pieces: Sequence[pa.Array[Any]]) -> pa.Array[Any]:
    """All values in one array: without copying where the pieces lie side by side in one, as slices of a batch do."""
    first = pieces[0]
    if len(pieces) == 1 or first.type.num_fields or pa.types.is_dictionary(first.type):
        return pa.concat_arrays(pieces)
    places, stop = _addresses(first), first.offset + len(first)
    for piece in pieces[1:]:
        if piece.offset != stop or _addresses(piece) != places:
            return pa.concat_arrays(pieces)
        stop += len(piece)
    return pa.Array.from_buffers(first.type, stop - first.offset, first.buffers(), -1, first.offset)


def _addresses(array: pa.Array[Any]) -> list[int]:
    return [buffer.address if buffer is not None else 0 for buffer in array.buffers()]


def plain(array: pa.Array[Any]) -> pa.Array[Any]:
    """The array itself, or the values of a dictionary-encoded one."""
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def batch_of(columns: Sequence[pa.Array[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """A batch of these columns under the names of `schema`; those that are codes of texts stay codes."""
    for at, column in enumerate(columns):
        if isinstance(column, pa.DictionaryArray):
            schema = schema.set(at, schema.field(at).with_type(column.type))
    return pa.RecordBatch.from_arrays(list(columns), schema=schema)


def without_codes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the texts in place of their codes."""
    columns = [plain(column) for column in batch.columns]
    fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def batch_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of the buffers that belong to this batch's rows: a slice counts its own part only."""
    return int(batch.nbytes) if batch.num_rows else 0
