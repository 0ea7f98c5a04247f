"""Which values compiled code reads as side data, and what kind each is: code is made for kinds, not for contents.

A kind is a tuple, of which the name of the code is made:

    ("set", key)        ("dict", key, value)        key: text int64; none where it is empty
    ("list", item)      ("scalar", item)            item, value: text int64 float64 boolean, with ? where None is among
    ("array", dtype, dimensions)                    dtype: int64 float64 bool
    ("table", ((name, item), ...))                  item also ! and the name of a type that no code reads
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernelmill.kernels.plainvalues import why_not_plain

Kind = tuple[Any, ...]

TUPLE_ITEMS_MAX = 16
"""Tuples up to this length are constants of the code, and may be unpacked; longer ones are read as lists are."""

COLUMN_WORDS, KEYS_WORDS = 5, 6

_INT64 = np.iinfo(np.int64)
_INTEGERS: tuple[type, ...] = (
    np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64
)  # fmt: skip
_ITEMS: dict[type, str] = {str: "text", int: "int64", float: "float64", bool: "boolean"}
_ITEMS |= {np.str_: "text", np.float64: "float64", np.bool_: "boolean"} | dict.fromkeys(_INTEGERS, "int64")
_CONSTANTS = (
    NoneType, bool, int, float, complex, str, bytes, tuple, type, ModuleType, BuiltinFunctionType, re.Pattern
)  # fmt: skip
"""What numba may take as a constant."""
_ARRAYS = ("int64", "float64", "bool")


class Column(NamedTuple):
    """Values in a row: data and offsets of texts (offsets i64[rows + 1]), else data alone; validity u8[rows] or None.

    data: u8 of texts, with 64 bytes that may be read behind the last one; u8 of booleans, int64, float64.
    """

    rows: int
    data: NDArray[Any]
    offsets: NDArray[np.int64] | None
    validity: NDArray[np.uint8] | None


@runtime_checkable
class ColumnSource(Protocol):
    """A sequence that knows itself as a Column; `item` is what it holds."""

    @property
    def item(self) -> str:
        """What it holds."""

    def column(self) -> tuple[Any, ...]:
        """The parts of a Column."""


@runtime_checkable
class TableSource(Protocol):
    """Columns by their names, all of one length."""

    side_columns: Mapping[str, ColumnSource]

    def __len__(self) -> int:
        """The number of rows."""


def kind_of(value: Any, name: str, *, is_keyword: bool = False) -> Kind | str | None:
    """The kind of a value that functions call `name`; why it has none, for people; or None if it is no side data.

    Numbers are side data as keywords only: a loop gives them anew each time. Elsewhere they are constants.
    """
    match value:
        case bool():
            return None
        case int() | float() if not why_not_plain(value):
            return (_scalar(value) or _why_no_constant(value, name)) if is_keyword else None
        case set() | frozenset():
            return _keyed("set", value, name)
        case dict():
            return _dict(value, name)
        case list():
            return _list(value, name)
        case tuple():
            return _list(value, name) if len(value) > TUPLE_ITEMS_MAX else None
        case np.ndarray():
            return _array(value, name)
        case ColumnSource():
            return ("list", value.item) if value.item[0] != "!" else f"{name!r} has values of type {value.item[1:]}"
        case TableSource():
            return ("table", tuple((column, one.item) for column, one in value.side_columns.items()))
        case _ if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
            return f"{name!r} is Arrow data and no argument: give it by side="
    return _why_no_constant(value, name) if is_keyword else None


def _why_no_constant(value: Any, name: str) -> str | None:
    """Why a keyword that is no side data cannot be a constant of the code either; None if it may be."""
    not_plain = why_not_plain(value)
    if not_plain:
        return f"{name!r} {not_plain}"
    if type(value) is int:
        if _INT64.min <= value <= _INT64.max:
            return None
        return f"{name!r} is an int beyond 64 bits"
    if isinstance(value, FunctionType):
        return f"{name!r} is a function of yours: call it as a global, not by side="
    if isinstance(value, _CONSTANTS) or type(value).__module__.partition(".")[0] in ("numpy", "numba"):
        return None
    return f"{name!r} is an instance of {type(value).__name__}, which compiled functions do not read"


def is_container(value: Any) -> bool:
    """True for values that may be side data wherever a function finds them."""
    return isinstance(value, set | frozenset | dict | list | np.ndarray | ColumnSource | TableSource) or (
        isinstance(value, tuple) and len(value) > TUPLE_ITEMS_MAX
    )


def words_of(kind: Kind) -> int:
    """The number of words that a value of this kind takes."""
    match kind:
        case ("set", _):
            return KEYS_WORDS
        case ("dict", _, _):
            return KEYS_WORDS + 2 * COLUMN_WORDS
        case ("list", _):
            return COLUMN_WORDS
        case ("array", _, dimensions):
            return 1 + int(dimensions)
        case ("table", columns):
            read = [item for _, item in columns if item[0] != "!"]
            return 1 + COLUMN_WORDS * len(read)
    return 1


def _scalar(value: Any) -> Kind | None:
    if isinstance(value, float):
        return ("scalar", "float64")
    return ("scalar", "int64") if type(value) is int and _INT64.min <= value <= _INT64.max else None


def _keyed(what: str, value: Any, name: str) -> Kind | str:
    if type(value) not in (set, frozenset, dict):
        return f"{name!r} is a {type(value).__name__}: give a plain {what}, such as {what}({name})"
    if not value:
        return (what, "none")
    item = _item(value)
    if item not in ("text", "int64"):
        return f"{name!r} has keys that are {item}: they may be all str, or all int of 64 bits"
    return (what, item)


def _dict(value: dict[Any, Any], name: str) -> Kind | str:
    kind = _keyed("dict", value, name)
    if isinstance(kind, str) or not value:
        return kind if isinstance(kind, str) else (*kind, "int64")
    item = _item_or_none(value.values())
    if item.rstrip("?") not in ("text", "int64", "float64", "boolean"):
        return f"{name!r} has values that are {item}: they may be all str, int of 64 bits, float or bool"
    return (*kind, item)


def _list(value: Collection[Any], name: str) -> Kind | str:
    if type(value) not in (list, tuple):
        return f"{name!r} is a {type(value).__name__}: give a plain list"
    item = _item_or_none(value) if value else "int64"
    if item.rstrip("?") not in ("text", "int64", "float64", "boolean"):
        return f"{name!r} has items that are {item}: they may be all str, int of 64 bits, float or bool"
    return ("list", item)


def _array(value: NDArray[Any], name: str) -> Kind | str:
    if value.dtype.name not in _ARRAYS or not value.dtype.isnative:
        return f"{name!r} is an array of {value.dtype}: {', '.join(_ARRAYS)} can be compiled, as .astype('int64') gives"
    if value.ndim not in (1, 2):
        return f"{name!r} is an array of {value.ndim} dimensions: 1 or 2 can be compiled"
    return ("array", value.dtype.name, value.ndim)


def _item_or_none(values: Collection[Any]) -> str:
    """As `_item`, with ? where some are None."""
    if type(None) not in set(map(type, values)):
        return _item(values)
    item = _item([one for one in values if one is not None])
    return item if " " in item or item == "None" else f"{item}?"


def _item(values: Collection[Any]) -> str:
    """What all values are: text int64 float64 boolean, or for people what they are instead."""
    types = set(map(type, values))
    found = {_ITEMS.get(one, "") for one in types}
    if len(found) != 1 or "" in found:
        return " and ".join(sorted(one.__name__ for one in types)).replace("NoneType", "None") or "None"
    (item,) = found
    if item == "int64" and not (min(values) >= _INT64.min and max(values) <= _INT64.max):
        return "int beyond 64 bits"
    if item == "text" and not _is_utf8(values):
        return "str with a lone surrogate"
    return item


def _is_utf8(values: Iterable[str]) -> bool:
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return False
    return True
