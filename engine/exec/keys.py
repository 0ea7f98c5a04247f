"""Group keys of batches: from Arrow columns to group numbers of a key table, and back to columns.

One fixed-width column is a word, one string column its bytes, one dictionary column the bytes of its values looked up
once each; several columns become one string a row (`kernels/rowkeys`), of few values the first row of each combination
(`codedkeys`). All of them meet in one key table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    Bytes,
    Words,
    array_of_strings,
    array_of_words,
    fixed_view,
    is_string_like,
    is_word_like,
    key_words,
    plain,
    strings_view,
    validity_bytes,
)
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.codedkeys import CodedKeys, same_dictionary
from kernelmill.engine.exec.fixedbytes import from_ordered_bytes, is_fixed_bytes, ordered_bytes
from kernelmill.kernels import rowkeys
from kernelmill.kernels.table import Groups, KeyTable, Order

if TYPE_CHECKING:
    from kernelmill.engine.exec.draining import StagedWords

STRINGS_BYTES_MAX = 1 << 30
"""Keys of one output batch: int32 offsets end at 2 GiB."""


Call = tuple[int, Words]
"""A call for other machine code to make, see `_loader.bind`: its address and frame."""


class Folding(NamedTuple):
    """A call that numbers staged keys, in `groups`, and one that folds the rows: see `FoldCall` in states.py."""

    numbering: Call
    fold: Call
    last: int
    groups: Groups
    state: NDArray[np.int64]


Drain = Callable[["StagedWords"], "Call | Folding | None"]
"""Makes what a driver is to call when its stage is full; good until the driver comes back, when it is asked anew."""


class StagedText(NamedTuple):
    """A text column as a compiled map staged it (`kernels/staged`); -1 bytes are null.

    known: the groups of its first rows, which the table has numbered already. `drains_to(drain)` says what may take
    such keys, and the columns beside them, from now on.
    """

    base: Bytes
    addresses: NDArray[np.int64]
    sizes: NDArray[np.int64]
    known: Groups
    drains_to: Callable[[Drain], None]


class Repeated(NamedTuple):
    """An int64 column with the same number in every row, as it stands in a compiled map."""

    value: int
    rows: int

    def array(self) -> pa.Array[Any]:
        """The column in full."""
        values: pa.Array[Any] = pa.array(np.full(self.rows, self.value, np.int64))
        return values


class KeyColumns:
    """Numbers the keys of batches in one table; the columns are those of `fields`, in order."""

    def __init__(self, fields: list[pa.Field[Any]]) -> None:
        for field in fields:
            value = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not (is_string_like(value) or is_word_like(value) or is_turned(value)):
                what = f"cannot group by {field.name!r}: its type is {field.type}"
                raise error(Code.TYPE_MISMATCH, what, hint=f"cast it first, e.g. km.col({field.name!r}).cast('string')")
        self._fields = fields
        self._dictionary: tuple[pa.Array[Any], tuple[Any, ...], Groups] | None = None
        self._coded: CodedKeys | None = None
        self._tried_rows = 0

    def forget(self) -> None:
        """The table was cleared: groups remembered from it are void."""
        self._dictionary = self._coded = None

    def group(self, table: KeyTable, columns: list[Any], first: int, groups: Groups) -> int:
        """Number the rows from `first` on; returns the first row not done: below the end, the table wants a flush."""
        if len(columns) > 1:
            return self._group_several(table, columns, first, groups)
        column = columns[0]
        if isinstance(column, StagedText):
            return table.group_staged(*column[:3], first, groups)
        if isinstance(column, pa.DictionaryArray) and is_string_like(column.type.value_type):
            return self._group_codes(table, column, first, groups)
        column = turned(plain(column))
        if is_string_like(column.type):
            return table.group_strings(*strings_view(column), validity_bytes(column), first, groups)
        return table.group_words(key_words(column), validity_bytes(column), first, groups)

    def columns(self, table: KeyTable, first: int, last: int) -> list[pa.Array[Any]]:
        """The key columns of groups [first, last), in first-seen order."""
        if len(self._fields) > 1:
            return self._several_columns(table, first, last)
        field_type = self._fields[0].type
        dtype = turned_type(field_type)
        if is_string_like(dtype):
            data, offsets, validity, nulls = table.strings(first, last)
            return [turned_back(array_of_strings(data, offsets, validity, nulls, dtype), field_type)]
        values, validity, nulls = table.words(first, last)
        return [turned_back(array_of_words(values, validity, nulls, dtype), field_type)]

    @property
    def is_one_string(self) -> bool:
        """True if groups can be placed by partition straight from the table's records."""
        return len(self._fields) == 1 and is_string_like(self._fields[0].type)

    def placed(
        self,
        table: KeyTable,
        first: int,
        order: Order,
        key_bytes: int,
        counted: type[np.uint32 | np.int64] | None = None,
    ) -> tuple[list[pa.Array[Any]], NDArray[Any]]:
        """The key column of groups first + order, for `is_one_string`, and what the table counted for them.

        These are of type `counted` and stay; without they may be anything.
        """
        strings, counts = table.placed_strings(first, order, key_bytes, counted)
        return [array_of_strings(*strings, self._fields[0].type)], counts

    def _group_codes(self, table: KeyTable, column: pa.DictionaryArray[Any, Any], first: int, groups: Groups) -> int:
        values = column.dictionary
        if self._dictionary is None or not same_dictionary(self._dictionary[0], values):
            views = (*strings_view(values), validity_bytes(values))
            self._dictionary = (values, views, np.full(len(values), -1, np.int32))
        _, views, direct = self._dictionary
        codes = column.indices.cast(pa.int32())
        return table.group_codes(fixed_view(codes, np.int32), validity_bytes(codes), views, direct, first, groups)

    def _group_several(self, table: KeyTable, columns: list[pa.Array[Any]], first: int, groups: Groups) -> int:
        columns = [column.slice(first) for column in columns] if first else columns

        def numbering(rows: list[pa.Array[Any]], found: Groups) -> int:
            data, offsets = encode_rows([plain(column) for column in rows])
            return table.group_strings(data, offsets, np.empty(0, np.uint8), 0, found)

        coded = self._codes(columns)
        own = groups[first:]
        return first + (numbering(columns, own) if coded is None else coded.group(columns, own, numbering))

    def _codes(self, columns: list[pa.Array[Any]]) -> CodedKeys | None:
        """What numbers rows by codes, if that pays; told by the rows alone, for it moves a flush (I1)."""
        if self._coded is None or not self._coded.fits(columns):
            rows = len(columns[0])
            if self._coded is None and rows < 2 * self._tried_rows:  # as many rows had too many combinations
                return None
            self._coded = CodedKeys.of(columns)
            self._tried_rows = rows if self._coded is None else 0
        return self._coded

    def _several_columns(self, table: KeyTable, first: int, last: int) -> list[pa.Array[Any]]:
        data, offsets, _, _ = table.strings(first, last)
        return decode_rows(data, offsets, [field.type for field in self._fields])


def is_turned(dtype: pa.DataType) -> bool:
    """True for key types that stand in a table as another type: decimals, bytes of a fixed width, and null."""
    return is_fixed_bytes(dtype) or pa.types.is_null(dtype)


def turned_type(dtype: pa.DataType) -> pa.DataType:
    """The type as which keys of `dtype` stand in a table."""
    if is_fixed_bytes(dtype):
        return pa.binary()
    return pa.int8() if pa.types.is_null(dtype) else dtype


def turned(column: pa.Array[Any]) -> pa.Array[Any]:
    """A key column as it stands in a table."""
    if is_fixed_bytes(column.type):
        return ordered_bytes(column)
    return pa.nulls(len(column), pa.int8()) if pa.types.is_null(column.type) else column


def turned_back(column: pa.Array[Any], dtype: pa.DataType) -> pa.Array[Any]:
    """The key column of type `dtype` behind `turned`."""
    if is_fixed_bytes(dtype):
        return from_ordered_bytes(column, dtype)
    return pa.nulls(len(column)) if pa.types.is_null(dtype) else column


def encode_rows(columns: list[pa.Array[Any]]) -> tuple[Bytes, np.ndarray[Any, np.dtype[np.int32]]]:
    """Each row's columns as one string; see `kernels/rowkeys` for the bytes. Raises KM0401 past 2 GiB."""
    rows = len(columns[0])
    views: list[tuple[Words, Bytes] | tuple[Bytes, Any, Bytes]] = []
    lengths = np.zeros(rows, np.int64)
    for column in map(turned, columns):
        validity = validity_bytes(column)
        if is_string_like(column.type):
            data, offsets = strings_view(column)
            rowkeys.measure_strings(offsets, validity, lengths)
            views.append((data, offsets, validity))
        else:
            words = key_words(column)
            rowkeys.measure_words(words, validity, lengths)
            views.append((words, validity))
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if rows else 0
    if total >= 1 << 31:
        raise error(Code.MEMORY_LIMIT, f"{total:,} bytes of keys in one batch", hint="read it in smaller batches")
    out = np.empty(total + rowkeys.SLACK_BYTES, np.uint8)
    cursors = ends - lengths
    offsets = np.zeros(rows + 1, np.int32)
    offsets[1:] = ends
    for view in views:
        if len(view) == 3:
            rowkeys.put_strings(*view, cursors, out)
        else:
            rowkeys.put_words(*view, cursors, out)
    return out, offsets


def decode_rows(
    data: Bytes, offsets: np.ndarray[Any, np.dtype[np.int32]], types: list[pa.DataType]
) -> list[pa.Array[Any]]:
    """The columns behind `encode_rows`."""
    cursors = offsets[:-1].astype(np.int64)
    rows = cursors.size
    columns = []
    for field_type in types:
        dtype = turned_type(field_type)
        validity = np.empty(rows, np.uint8)
        if is_string_like(dtype):
            lengths = np.empty(rows, np.int64)
            rowkeys.take_lengths(data, cursors, lengths, validity)
            own_offsets = np.zeros(rows + 1, np.int32)
            np.cumsum(lengths, out=own_offsets[1:])
            text = np.empty(int(own_offsets[-1]) + rowkeys.SLACK_BYTES, np.uint8)
            rowkeys.take_strings(data, cursors, own_offsets, validity, text)
            made = array_of_strings(text, own_offsets, validity, int(rows - np.count_nonzero(validity)), dtype)
        else:
            words = np.empty(rows, np.uint64)
            rowkeys.take_words(data, cursors, words, validity)
            made = array_of_words(words, validity, int(rows - np.count_nonzero(validity)), dtype)
        columns.append(turned_back(made, field_type))
    return columns
