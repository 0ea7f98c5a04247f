"""Arrow's values as Python's, without fail: what no datetime, time or timedelta can hold comes out as text.

pyarrow raises for those (nanoseconds, years beyond 9999, zones that nobody knows), or asks for pandas. Here the same
values come out whether pandas is there or not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa


def python_values(column: Any) -> list[Any]:
    """The values of an array, chunked or not, as a list; see `python_value`."""
    coarse = _in_microseconds(column.type)
    try:
        if coarse is not None:
            return list(column.cast(coarse).to_pylist())
        if not _has_nanoseconds(column.type):
            return list(column.to_pylist())
    except (ValueError, OverflowError):  # ArrowInvalid is a ValueError
        pass  # one value does it; which, and whether it has a text, is found one by one
    return [python_value(value) for value in column]


def python_value(value: Any) -> Any:
    """One value of an Arrow scalar as Python has it: datetimes, or text where none can hold it.

    The text is Arrow's own, such as "2024-05-01 12:00:00.000000001"; where Arrow has none, the number and its unit.
    """
    kind = value.type
    if not value.is_valid:
        return None
    if not _has_nanoseconds(kind):
        try:
            return value.as_py()
        except (ValueError, OverflowError):
            if not (pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_temporal(kind)):
                raise
    if pa.types.is_map(kind):
        pairs = value.values
        return list(zip(python_values(pairs.field(0)), python_values(pairs.field(1)), strict=True))
    if pa.types.is_struct(kind):
        items = [(name, python_value(item)) for name, item in value.items()]
        return dict(items) if len({name for name, _ in items}) == len(items) else items
    if pa.types.is_temporal(kind):
        return _moment(value)
    inside = value.values if hasattr(value, "values") else value.value  # lists; dictionaries, unions, run-ends
    return python_values(inside) if isinstance(inside, pa.Array) else python_value(inside)


def _moment(value: Any) -> Any:
    coarse = _in_microseconds(value.type)
    try:
        return (value if coarse is None else value.cast(coarse)).as_py()
    except (ValueError, OverflowError):
        return _moment_text(value)


def _moment_text(value: Any) -> str:
    kind = value.type
    number = f"{value.value} {getattr(kind, 'unit', 'day' if pa.types.is_date32(kind) else 'ms')}"
    if pa.types.is_duration(kind):
        return number
    try:
        text = str(value.cast(pa.string()).as_py())
    except pa.ArrowInvalid:  # nobody knows its zone: in UTC then
        text = f"{value.cast(pa.timestamp(kind.unit)).cast(pa.string()).as_py()}Z"
    return number if text.startswith("<") else text  # "<value out of range: 4611686018427387904>"


def _in_microseconds(kind: Any) -> pa.DataType | None:
    """The type of microseconds for one of nanoseconds, None for any other."""
    if getattr(kind, "unit", "") != "ns":
        return None
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time64(kind) else pa.duration("us")


@lru_cache(maxsize=256)
def _has_nanoseconds(kind: Any) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_nanoseconds(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_nanoseconds(kind.field(index).type) for index in range(kind.num_fields))
    return _in_microseconds(kind) is not None
