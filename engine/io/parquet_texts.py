"""Text columns on their way into Parquet: codes of dictionaries stay codes, and statistics are made here.

pyarrow writes a dictionary array without looking at its texts: 9 ns a row instead of 28. But it takes the statistics of
each 1,024 rows of one anew, which costs more than that again, and of plain texts 9 ns a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import (
    buffer_of,
    fixed_view,
    one_array,
    plain,
    strings_view,
    validity_buffer,
    validity_bytes,
)
from kernelmill.engine.io.parquet_thrift import statistics_of
from kernelmill.kernels import textcodes

DICTIONARY_BYTES_MAX = 1 << 20
"""Texts of a dictionary, with 4 bytes each: pyarrow goes on in plain pages after so many."""
_STATISTICS_BYTES_MAX = 4096  # pyarrow leaves longer ones out, too


def is_coded(kind: Any) -> bool:
    """Whether columns of the type are codes that can be written as they are."""
    return pa.types.is_dictionary(kind) and kind.index_type == pa.int32() and has_own_statistics(kind.value_type)


def has_own_statistics(kind: pa.DataType) -> bool:
    """Whether `text_statistics` are for columns of the type as it is stored."""
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def one_column(pieces: Sequence[pa.Array[Any]]) -> pa.Array[Any]:
    """The values of a row group's column in one array: with one small dictionary if all pieces have some, else plain.

    The dictionary holds what rows use, in the order of their first uses: it tells nothing of where the rows lay before.
    """
    if not any(is_coded(piece.type) for piece in pieces):
        return pieces[0] if len(pieces) == 1 else one_array(pieces)
    if all(is_coded(piece.type) for piece in pieces):
        coded = _numbered_anew(pieces)
        if coded is not None:
            return coded
    return one_array([plain(piece) for piece in pieces])


def _numbered_anew(pieces: Sequence[Any]) -> pa.Array[Any] | None:
    """One dictionary array of them; None if its dictionary is too large to be written."""
    dictionaries: list[pa.Array[Any]] = []
    first_of: dict[tuple[Any, ...], int] = {}
    size = 0
    which = []
    for piece in pieces:
        held = piece.dictionary
        place = (held.offset, len(held), *(b.address if b is not None else 0 for b in held.buffers()))
        if place not in first_of:
            first_of[place] = size
            size += len(held)
            dictionaries.append(held)
        which.append(first_of[place])
    every = pa.concat_arrays(dictionaries)
    if every.null_count or every.nbytes > 8 * DICTIONARY_BYTES_MAX:
        return None
    distinct: Any = every.dictionary_encode()
    meanings = fixed_view(distinct.indices, np.int32)
    numbers = np.full(len(distinct.dictionary), textcodes.UNUSED, np.int32)
    rows = sum(map(len, pieces))
    out, masks, done, used = np.empty(rows, np.int32), [], 0, 0
    for piece, first in zip(pieces, which, strict=True):
        codes, validity = fixed_view(piece.indices, np.int32), validity_bytes(piece.indices)
        of_piece = out[done : done + len(piece)]
        used = textcodes.number_by_use(codes, validity, meanings[first:], used, numbers, of_piece)
        masks.append(validity if validity.size else np.ones(len(piece), np.uint8))
        done += len(piece)
    order = np.empty(used, np.int64)
    has_number = np.flatnonzero(numbers != textcodes.UNUSED)
    order[numbers[has_number]] = has_number
    texts = distinct.dictionary.take(pa.array(order))
    if texts.nbytes > DICTIONARY_BYTES_MAX:
        return None
    nulls = sum(piece.indices.null_count for piece in pieces)
    bits = validity_buffer(np.concatenate(masks), nulls) if nulls else None
    indices = pa.Array.from_buffers(pa.int32(), rows, [bits, buffer_of(out)], nulls)
    return pa.DictionaryArray.from_arrays(indices, texts, safe=False)


def only_array(column: Any) -> Any:
    """The one array of a column of a table that is a row group."""
    return column.chunk(0)


def text_statistics(column: Any) -> bytes:
    """The Statistics of a column chunk, as its footer has them: nulls, and the least and the greatest by bytes."""
    nulls = column.null_count
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    found = np.empty(2, np.int64)
    textcodes.least_and_greatest(*strings_view(texts), validity_bytes(texts), found)
    if found[0] < 0:
        return statistics_of(nulls, None, None)
    least, greatest = (texts[int(row)].as_buffer().to_pybytes() for row in found)
    if max(len(least), len(greatest)) > _STATISTICS_BYTES_MAX:
        return statistics_of(nulls, None, None)
    return statistics_of(nulls, least, greatest)
