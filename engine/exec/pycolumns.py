"""Between columns and the Python values that users' functions take and emit: exact both ways, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.schema import dtype_text

NOT_FITTING = (ValueError, TypeError, OverflowError, pa.ArrowException)
"""What `array_of` raises for values that are not of its type."""


def array_of(values: Sequence[Any], dtype: pa.DataType) -> pa.Array[Any]:
    """Values as an array of `dtype`; raises one of NOT_FITTING for a value that is not one, or would be changed.

    pyarrow alone would cut 1.5 to the integer 1 and a time off a date.
    """
    array: Any = pa.array(values, dtype)
    if isinstance(array, pa.ChunkedArray):
        raise error(Code.MEMORY_LIMIT, "more than 2 GiB of text were emitted at once", hint="emit it in smaller pieces")
    made: pa.Array[Any] = array
    kinds = set(map(type, values))
    if pa.types.is_integer(dtype):
        wrong = [kind for kind in kinds if not issubclass(kind, int | np.integer | None.__class__)]
    elif pa.types.is_floating(dtype):
        wrong = [kind for kind in kinds if issubclass(kind, bool | np.bool_)]
    elif pa.types.is_string(dtype):
        wrong = [kind for kind in kinds if issubclass(kind, bytes)]
    elif pa.types.is_binary(dtype):
        wrong = [kind for kind in kinds if issubclass(kind, str)]
    elif pa.types.is_boolean(dtype):
        wrong = []
    else:
        return _unchanged(made, values)
    if wrong:
        raise TypeError(f"{wrong[0].__name__} is no {dtype_text(dtype)}")
    return made


def columns_of(emitted: Sequence[Any], fields: Sequence[pa.Field[Any]], *, is_tuple: bool) -> list[pa.Array[Any]]:
    """What was emitted as columns: one, or one for each item of its tuples; raises as `array_of`."""
    if not is_tuple:
        return [array_of(emitted, fields[0].type)]
    for kind in set(map(type, emitted)):
        if not issubclass(kind, tuple | list):
            raise TypeError(f"{kind.__name__} is no tuple of {len(fields)}")
    for length in set(map(len, emitted)):
        if length != len(fields):
            raise ValueError(f"a tuple of {length} is none of {len(fields)}")
    items = list(zip(*emitted, strict=True)) or [()] * len(fields)
    return [array_of(item, field.type) for item, field in zip(items, fields, strict=True)]


def values_of(columns: Sequence[pa.Array[Any]], *, is_tuple: bool) -> list[Any]:
    """Rows of columns as Python values, tuples where `is_tuple`; None for each row where there is no column."""
    if is_tuple:
        return list(zip(*(column.to_pylist() for column in columns), strict=True))
    return columns[0].to_pylist() if columns else []


def pieces(batch: pa.RecordBatch, rows_max: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """`batch` in slices of at most `rows_max` rows, each with the number of its first."""
    for start in range(0, batch.num_rows, rows_max):
        yield start, batch.slice(start, rows_max)


def _unchanged(made: pa.Array[Any], values: Sequence[Any]) -> pa.Array[Any]:
    for value, kept in zip(values, made.to_pylist(), strict=True):
        if not _is_same(value, kept):
            raise ValueError(f"it would become {kept!r}")
    return made


def _is_same(value: Any, kept: Any) -> bool:
    if isinstance(kept, list) and not isinstance(value, list):
        value = list(value)
    if isinstance(kept, list):
        return len(value) == len(kept) and all(map(_is_same, value, kept))
    if isinstance(kept, dict) and isinstance(value, dict):
        return all(_is_same(value.get(name), item) for name, item in kept.items())
    both_nan = kept != kept and value != value
    return both_nan or (bool(value == kept) and isinstance(value, bool) == isinstance(kept, bool))
