"""One schema for files that are read together: types are widened where no value can be lost, else it is KM0206."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, error

_UNITS = ["s", "ms", "us", "ns"]
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}


def unify_schemas(schemas: Sequence[tuple[str, pa.Schema]], *, missing: str = "error") -> pa.Schema:
    """Make the schema that all files, given as (path, schema), can be read with; columns in order of appearance.

    `missing` says what a column means that a file lacks: error, or null. A column is nullable if it is so anywhere.
    Raises KM0206, naming two files that disagree.
    """
    fields: dict[str, pa.Field[Any]] = {}
    first_seen: dict[str, str] = {}
    for path, schema in schemas:
        for field in schema:
            known = fields.get(field.name)
            if known is None:
                fields[field.name], first_seen[field.name] = field.remove_metadata(), path
                continue
            kind = wider(known.type, field.type)
            if kind is None:
                what = f"column {field.name!r} is {known.type} in {first_seen[field.name]} and {field.type} in {path}"
                hint = "read these files apart and cast the column to one type"
                raise error(Code.SCHEMA_CONFLICT, what, where=path, hint=hint)
            fields[field.name] = pa.field(field.name, kind, known.nullable or field.nullable)
    for path, schema in schemas:
        for name in fields.keys() - set(schema.names):
            if missing != "null":
                what = f"column {name!r} of {first_seen[name]} is missing in {path}"
                hint = "missing_columns='null' fills such columns with nulls"
                raise error(Code.SCHEMA_CONFLICT, what, where=path, hint=hint)
            fields[name] = fields[name].with_nullable(True)
    return pa.schema(list(fields.values()))


def wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both, None if there is none.

    64-bit integers meet float64 in float64: a value that a float64 cannot hold exactly is KM0207 when it is read.
    """
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_integer(a) and pa.types.is_integer(b):
        return _wider_integer(a, b)
    if pa.types.is_floating(a) and pa.types.is_floating(b):
        return _FLOATS[max(a.bit_width, b.bit_width)]
    if pa.types.is_integer(a) and pa.types.is_floating(b):
        return pa.float64()
    if pa.types.is_floating(a) and pa.types.is_integer(b):
        return pa.float64()
    if isinstance(a, pa.TimestampType) and isinstance(b, pa.TimestampType) and a.tz == b.tz:
        finer: Any = max(a.unit, b.unit, key=_UNITS.index)
        return pa.timestamp(finer, a.tz)
    return None


def _wider_integer(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if pa.types.is_signed_integer(a) == pa.types.is_signed_integer(b):
        return a if a.bit_width >= b.bit_width else b
    signed, unsigned = (a, b) if pa.types.is_signed_integer(a) else (b, a)
    return _SIGNED.get(max(signed.bit_width, 2 * unsigned.bit_width))
