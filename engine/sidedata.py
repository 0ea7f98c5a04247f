"""What side= binds a function's arguments to: Arrow data read like lists, arrays that nobody writes to.

The same in compiled and in interpreted functions. The rest, sets and dicts and lists, is bound as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, error

SLACK_BYTES = 64
_PIECE_ROWS = 8192


class SideColumn(Sequence[Any]):
    """A column of Arrow data as functions see it: a sequence of Python values, None where it is null."""

    def __init__(self, values: pa.ChunkedArray[Any]) -> None:
        if pa.types.is_dictionary(values.type):
            values = values.cast(target_type=values.type.value_type)
        self._values = values

    @property
    def item(self) -> str:
        """What compiled functions know it to hold, with ? where some are null; ! and the type where they know none."""
        kind = _item_of(self._values.type)
        return f"!{self._values.type}" if kind is None else kind + "?" * bool(self._values.null_count)

    def column(self) -> tuple[int, NDArray[Any], NDArray[np.int64] | None, NDArray[np.uint8] | None]:
        """Number of values, data, offsets of texts, validity where some are null: as kernels' sidekinds.Column."""
        count, kind = len(self._values), _item_of(self._values.type)
        validity = None
        if self._values.null_count:
            validity = np.asarray(self._values.is_valid().cast(pa.uint8()))
        if kind == "text":
            return count, *_texts(self._values), validity
        wide = {"int64": pa.int64(), "float64": pa.float64(), "boolean": pa.uint8()}[str(kind)]
        cast: Any = self._values.cast
        return count, np.ascontiguousarray(cast(wide).fill_null(0).to_numpy()), None, validity

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._values.to_pylist()[index]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError("column index out of range")
        return self._values[place].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _PIECE_ROWS):
            yield from self._values.slice(start, _PIECE_ROWS).to_pylist()

    def __repr__(self) -> str:
        return f"SideColumn({self._values.type}, {len(self)} rows)"


class SideTable:
    """An Arrow table as functions see it: `table["city"][i]`, `len(table)`, `table.num_rows`."""

    def __init__(self, table: pa.Table) -> None:
        self.side_columns: Mapping[str, SideColumn] = dict(
            zip(table.column_names, map(SideColumn, table.columns), strict=True)
        )
        self.num_rows = table.num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, name: str) -> SideColumn:
        return self.side_columns[name]

    def __repr__(self) -> str:
        return f"SideTable({', '.join(self.side_columns)}, {self.num_rows} rows)"


def bound_side(name: str, value: Any) -> Any:
    """What an argument is bound to by side={name: value}; KM0107 for a frame whose rows are not there yet."""
    if isinstance(value, pa.ChunkedArray):
        return SideColumn(value)
    if isinstance(value, pa.Array):
        return SideColumn(pa.chunked_array([value]))
    if isinstance(value, np.ndarray):
        return _array(value)
    if not isinstance(value, pa.Table | pa.RecordBatch) and not hasattr(value, "__arrow_c_stream__"):
        return value
    if hasattr(value, "collect"):
        hint = f"give its rows: side={{{name!r}: frame.collect()}}"
        raise error(Code.BAD_SETTING, f"side={name!r} is a frame that was not run yet", hint=hint)
    table = pa.table(value) if not isinstance(value, pa.RecordBatch) else pa.Table.from_batches([value])
    if len(set(table.column_names)) < table.num_columns:
        raise error(Code.BAD_SETTING, f"side={name!r} has two columns of one name", hint="rename one of them")
    return SideTable(table)


def _array(value: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to; numbers of fewer bits as int64 or float64, which compiled code computes in."""
    if value.dtype.kind in "iu" and value.dtype != np.uint64:
        value = value.astype(np.int64, copy=False)
    elif value.dtype.kind == "f" and value.dtype.itemsize < 8:
        value = value.astype(np.float64)
    view = value.view()
    view.flags.writeable = False
    return view


def _item_of(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return "int64"
    return "float64" if pa.types.is_float64(kind) or pa.types.is_float32(kind) else None


def _texts(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all texts, with slack behind them, and their offsets."""
    chunks = values.cast(pa.large_string()).chunks
    parts = [np.zeros(1, np.int64)]
    end = 0
    data: list[NDArray[np.uint8]] = []
    for chunk in chunks:
        _, offset_buffer, bytes_ = chunk.buffers()
        if not len(chunk) or offset_buffer is None:
            continue
        offsets = np.frombuffer(memoryview(offset_buffer), np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        parts.append(offsets[1:] - offsets[0] + end)
        end = int(parts[-1][-1])
        if bytes_ is not None:
            data.append(np.frombuffer(memoryview(bytes_), np.uint8)[offsets[0] : offsets[-1]])
    return np.concatenate([*data, np.zeros(SLACK_BYTES, np.uint8)]), np.concatenate(parts)
