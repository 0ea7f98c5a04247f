"""Schema: what a frame's columns are called and hold; finding a column by name; types from what users write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, error

_OF_PYTHON: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    date: pa.date32(),
    datetime: pa.timestamp("us"),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
}
_OF_NAME: dict[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    **{str(dtype): dtype for dtype in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(dtype): dtype for dtype in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "date32": pa.date32(),
    "date32[day]": pa.date32(),
    "date64": pa.date64(),
    "date64[ms]": pa.date64(),
    **{f"time32[{unit}]": pa.time32(unit) for unit in ("s", "ms")},
    **{f"time64[{unit}]": pa.time64(unit) for unit in ("us", "ns")},
    **{f"duration[{unit}]": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
}
# What Python and other libraries call types -> our name. date64 is suggested to nobody: files give it back as date32.
_FOREIGN = {
    **{"date": "date32", "datetime": "timestamp[us]", "timestamp": "timestamp[us]", "time": "time64[us]"},
    **{
        "timedelta": "duration[us]",
        "duration": "duration[us]",
        "interval": "duration[us]",
        "decimal": "decimal128(38, 2)",
    },
    **{"int": "int64", "integer": "int64", "bigint": "int64", "long": "int64", "uint": "uint64", "boolean": "bool"},
    **{
        "str": "string",
        "text": "string",
        "utf8": "string",
        "varchar": "string",
        "bytes": "binary",
        "list": "list<int64>",
    },
}
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), *(?:tz=)?([^\]]+)\]")
_LIST = re.compile(r"(large_)?list<(?:\w+: *)?(.+)>")
_DECIMAL = re.compile(r"decimal(128|256)?\((\d+), *(-?\d+)\)")


class Schema(Mapping[str, pa.DataType]):
    """Read a column's type by its name, in column order: `schema["word"]`. Immutable; types are Arrow types."""

    __slots__ = ("_arrow",)

    def __init__(self, arrow: pa.Schema) -> None:
        self._arrow = arrow

    @classmethod
    def of(cls, arrow: pa.Schema) -> Schema:
        """Make it from an Arrow schema; metadata of the schema and its fields is dropped."""
        return cls(pa.schema([field.remove_metadata() for field in arrow]))

    def to_arrow(self) -> pa.Schema:
        """The same as a pyarrow.Schema."""
        return self._arrow

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._arrow.names)

    def is_nullable(self, name: str) -> bool:
        """Tell whether column `name` may hold nulls; KM0101 if there is no such column."""
        return bool(find(self._arrow, name).nullable)

    def __getitem__(self, name: str) -> pa.DataType:
        dtype: pa.DataType = find(self._arrow, name).type
        return dtype

    def __contains__(self, name: object) -> bool:
        return name in self._arrow.names

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrow.names)

    def __len__(self) -> int:
        return len(self._arrow)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Schema):
            return bool(self._arrow.equals(other._arrow))
        if isinstance(other, Mapping):
            return list(self.items()) == list(other.items())
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._arrow.names))

    def __repr__(self) -> str:
        return f"Schema({', '.join(field_text(field) for field in self._arrow)})"


def find(schema: pa.Schema, name: object, *, where: str = "") -> pa.Field[Any]:
    """The field called `name`; KM0101, naming close names and the columns that are there, if there is none."""
    # -1 also for a name that occurs twice
    index = schema.get_field_index(name) if isinstance(name, str) and is_unicode(name) else -1
    if index >= 0:
        return schema.field(index)
    if name in schema.names:
        raise error(Code.DUPLICATE_COLUMN, f"two columns are called {name!r}", where=where, hint="rename one of them")
    there = ", ".join(schema.names[:20]) + (f", ... {len(schema) - 20} more" if len(schema) > 20 else "")
    close = difflib.get_close_matches(str(name), schema.names, n=1) or _same_but_case(str(name), schema.names)
    hint = f"did you mean {close[0]!r}? " if close else ""
    what = f"there is no column {name!r}"
    raise error(Code.COLUMN_NOT_FOUND, what, where=where, hint=f"{hint}the columns are: {there or 'none'}")


def is_unicode(text: str) -> bool:
    """Tell whether `text` consists of whole characters: half a surrogate pair is none, and nothing stores it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_dtype(dtype: object) -> pa.DataType:
    """The Arrow type meant by a pyarrow type, its name ("int64", "timestamp[us]", "list<int64>") or a Python type.

    Python's int, float, str, bool, bytes, date, datetime, time and timedelta are known. KM0107 for anything else.
    """
    if isinstance(dtype, pa.DataType):
        return dtype
    if isinstance(dtype, type) and dtype in _OF_PYTHON:
        return _OF_PYTHON[dtype]
    if isinstance(dtype, str):
        return _parse_name(dtype.strip())
    hint = 'a pyarrow type, its name such as "int64", or one of int float str bool bytes date datetime'
    raise error(Code.BAD_SETTING, f"{dtype!r} is not a type", hint=hint)


def columns_given(given: object, usual: pa.Schema) -> pa.Schema:
    """The columns that a schema= names: a mapping of names to types, a pa.Schema, None for `usual`; KM0107 else."""
    if given is None:
        return usual
    if isinstance(given, Schema):
        return given.to_arrow()
    if isinstance(given, pa.Schema):
        return given
    if isinstance(given, Mapping) and given and all(isinstance(name, str) for name in given):
        return pa.schema([pa.field(name, parse_dtype(dtype)) for name, dtype in given.items()])
    hint = 'name the columns and their types: {"word": "string", "n": "int64"}'
    raise error(Code.BAD_SETTING, f"schema cannot be {given!r}", hint=hint)


def dtype_text(dtype: pa.DataType) -> str:
    """The name of a type as `parse_dtype` reads it: float64 where Arrow prints double."""
    if pa.types.is_floating(dtype):
        return f"float{dtype.bit_width}"
    if pa.types.is_date32(dtype):
        return "date32"
    if pa.types.is_list(dtype):
        return f"list<{dtype_text(dtype.value_type)}>"
    return str(dtype)


def field_text(field: pa.Field[Any]) -> str:
    """One column as users see it: `len: int64 not null`."""
    return f"{field.name}: {dtype_text(field.type)}{'' if field.nullable else ' not null'}"


def _parse_name(name: str) -> pa.DataType:
    if name in _OF_NAME:
        return _OF_NAME[name]
    if zoned := _ZONED.fullmatch(name):
        unit: Any = zoned[1]
        return pa.timestamp(unit, zoned[2])
    if decimal := _DECIMAL.fullmatch(name):
        make = pa.decimal256 if decimal[1] == "256" else pa.decimal128
        try:
            return make(int(decimal[2]), int(decimal[3]))
        except ValueError as exc:
            raise error(Code.BAD_SETTING, f"{name!r} is not a type: {exc}", hint="decimal128(38, 2)") from exc
    if of := _LIST.fullmatch(name):
        item = _parse_name(of[2].strip())
        return pa.large_list(item) if of[1] else pa.list_(item)
    if name == "float":  # Arrow's name for 32 bits, Python's for 64
        raise error(Code.BAD_SETTING, "'float' may mean 32 or 64 bits", hint="say float32 or float64")
    known = [*_OF_NAME.keys() - {"date64", "date64[ms]"}, "decimal128(38, 2)", "list<int64>"]
    close = (
        [_FOREIGN[name.lower()]] if name.lower() in _FOREIGN else difflib.get_close_matches(name, sorted(known), n=1)
    )
    hint = f"did you mean {close[0]!r}?" if close else "names are Arrow's, such as int64, string, timestamp[us]"
    raise error(Code.BAD_SETTING, f"{name!r} is not the name of a type", hint=hint)


def _same_but_case(name: str, names: list[str]) -> list[str]:
    return [other for other in names if other.lower() == name.lower()]
