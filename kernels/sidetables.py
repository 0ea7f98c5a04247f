"""Side data as compiled code reads it: words, most of them addresses, and the arrays that lie there.

    list     data, offsets, validity (0 if nothing is None), count, 1 if all text is ASCII     see sidekinds.Column
    set      slots, slots - 1, records, long keys, seed, count                       of a read-only key table (keytable)
    dict     those of a set of its keys, in their order; its keys and its values as lists
    array    data, then its shape        table    rows, then each column as a list        scalar    its bits

They are made once for a run, shared by its threads, and changed by nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernelmill.kernels import keytable
from kernelmill.kernels.sidekinds import KEYS_WORDS, Column, Kind
from kernelmill.kernels.table import NO_MASK, KeyTable

SLACK_BYTES = 64
_SLOTS_MIN = 64
_SLOTS_PER_KEY = 4  # most look-ups miss: the first slot then says so
_KEY_BYTES_MAX = 1 << 31
_DTYPES: dict[str, Any] = {"int64": np.int64, "float64": np.float64, "boolean": np.uint8}


class SideTables:
    """The words of a function's side values, made when they are first asked for; any thread may ask."""

    def __init__(self, values: Sequence[tuple[Kind, Any]]) -> None:
        self._values = list(values)
        self.kinds = tuple(kind for kind, _ in values)
        self._lock = threading.Lock()
        self._arrays: list[NDArray[Any]] = []
        self._lent_bytes = 0
        self._words: NDArray[np.int64] | None = None

    @property
    def address(self) -> int:
        """Where the words are: valid as long as this object lives."""
        return int(self._made().ctypes.data)

    @property
    def nbytes(self) -> int:
        """Bytes that were made for the tables: arrays that are read where they are do not count."""
        return int(self._made().nbytes) + sum(array.nbytes for array in self._arrays) - self._lent_bytes

    def _made(self) -> NDArray[np.int64]:
        with self._lock:
            if self._words is None:
                words = [word for kind, value in self._values for word in self._words_of(kind, value)]
                self._words = np.array([word if word < 1 << 63 else word - (1 << 64) for word in words], np.int64)
                self._values.clear()  # the contents are those of now
            return self._words

    def _words_of(self, kind: Kind, value: Any) -> list[int]:
        match kind:
            case ("set", key):
                return self._keys(key, value)
            case ("dict", key, item):
                keys = Column(0, NO_MASK, None, None) if key == "none" else column_of(key, value)
                return [*self._keys(key, value), *self._column(keys), *self._column(column_of(item, value.values()))]
            case ("list", _) if hasattr(value, "column"):
                return self._column(Column(*value.column()))
            case ("list", item):
                return self._column(column_of(item, value))
            case ("array", dtype, _):
                array = np.ascontiguousarray(value, dtype)
                self._lent_bytes += array.nbytes if np.may_share_memory(array, value) else 0
                return [self._address(array), *array.shape]
            case ("table", columns):
                parts = [value.side_columns[name] for name, item in columns if item[0] != "!"]
                return [len(value), *(word for one in parts for word in self._column(Column(*one.column())))]
        return [int(np.array(value, kind[1]).view(np.int64))]

    def _column(self, column: Column) -> list[int]:
        offsets = 0 if column.offsets is None else self._address(column.offsets)
        validity = 0 if column.validity is None else self._address(column.validity)
        is_ascii = column.offsets is not None and int(column.data.max(initial=0)) < 0x80
        return [self._address(column.data), offsets, validity, column.rows, int(is_ascii)]

    def _keys(self, key: str, value: Collection[Any]) -> list[int]:
        """The words of a key table of these keys; group i is the i-th of them."""
        if key == "none":
            return [0] * KEYS_WORDS
        keys, count, table = column_of(key, value), len(value), KeyTable()
        groups = np.empty(count, np.int32)
        table.reset_unbounded(groups=count, key_bytes=keys.data.nbytes if key == "text" else 0)
        if keys.offsets is None:
            table.group_words(keys.data.view(np.uint64), NO_MASK, 0, groups)
        elif int(keys.offsets[-1]) >= _KEY_BYTES_MAX:
            raise MemoryError("the keys of a side value are more than 2 GiB of text")
        else:
            table.group_strings(keys.data, keys.offsets.astype(np.int32), NO_MASK, 0, groups)
        size = max(_SLOTS_MIN, 1 << (_SLOTS_PER_KEY * count - 1).bit_length())
        slots = np.zeros(size, np.uint32)
        keytable.fill_slots(table.rows, count, table.arena, slots, False, table.seed)
        long_keys = table.arena[: int(table.state[keytable.ARENA_USED]) + SLACK_BYTES].copy()
        arrays: list[NDArray[Any]] = [slots, table.rows[:count], long_keys]
        first, *others = map(self._address, arrays)
        return [first, size - 1, *others, int(table.seed), count]

    def _address(self, array: NDArray[Any]) -> int:
        self._arrays.append(array)
        return int(array.ctypes.data)


def column_of(item: str, values: Collection[Any]) -> Column:
    """Python values as a column of that item (see sidekinds), None where they are and the item has a question mark."""
    validity = None
    if item.endswith("?"):
        item = item[:-1]
        validity = np.fromiter((one is not None for one in values), np.uint8, len(values))
        filling: Any = "" if item == "text" else 0
        values = [filling if one is None else one for one in values]
    if item != "text":
        return Column(len(values), np.fromiter(values, _DTYPES[item], len(values)), None, validity)
    texts = [one.encode() for one in values]
    offsets = np.fromiter(accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
    data = np.frombuffer(b"".join([*texts, bytes(SLACK_BYTES)]), np.uint8)
    return Column(len(texts), data, offsets, validity)
