"""The types that columns have inside plans, whatever layout they come in: one of each kind, so operators know few.

comes as                                         is inside
string, large_string, string_view                string
binary, large_binary, binary_view                binary
a dictionary, runs of equal values               their values
decimal32, decimal64                             decimal128 with the same digits
list, large_list, list_view, large_list_view     list
an extension type                                what it is stored as: a UUID is 16 bytes
a struct, a list of a fixed size, a map          the same with plain parts
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine import lazymodules
from kernelmill.engine.errors import Code, error

pc: Any = lazymodules.pc  # its stubs know fewer functions than it has


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as plans have them, without metadata. Raises KM0102 for one that has no plain form."""
    return pa.schema([_plain_field(item) for item in schema])


def _plain_field(item: pa.Field[Any]) -> pa.Field[Any]:
    kind = plain_kind(item.type)
    if kind != item.type and pa.types.is_nested(item.type) and any(map(_is_rebuilt, _parts(item.type))):
        what = f"column {item.name!r} is {item.type}: parts of such layouts are not read"
        raise error(Code.TYPE_MISMATCH, what, hint="cast it to plain lists or values before")
    return pa.field(item.name, kind, nullable=item.nullable)


def plain_kind(kind: Any) -> Any:
    """The type as plans have it."""
    t = pa.types
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return plain_kind(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_kind(kind.storage_type)
    if t.is_large_string(kind) or t.is_string_view(kind):
        return pa.string()
    if t.is_large_binary(kind) or t.is_binary_view(kind):
        return pa.binary()
    if t.is_decimal32(kind) or t.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if t.is_list(kind) or t.is_large_list(kind) or t.is_list_view(kind) or t.is_large_list_view(kind):
        return pa.list_(_plain_part(kind.value_field))
    if t.is_fixed_size_list(kind):
        return pa.list_(_plain_part(kind.value_field), kind.list_size)
    if t.is_struct(kind):
        return pa.struct([_plain_part(kind.field(number)) for number in range(kind.num_fields)])
    if t.is_map(kind):
        return pa.map_(_plain_part(kind.key_field), _plain_part(kind.item_field))
    return kind


def plain_column(column: Any, kind: pa.DataType) -> Any:
    """The values of a column, in any layout, as `kind`, to which `plain_kind` leads or which holds them.

    Raises ArrowInvalid for a value that `kind` does not hold.
    """
    t = pa.types
    if column.type == kind:
        return column
    if isinstance(column, pa.ExtensionArray):
        return plain_column(column.storage, kind)
    if t.is_run_end_encoded(column.type):
        return plain_column(pc.run_end_decode(column), kind)
    if t.is_list_view(column.type) or t.is_large_list_view(column.type):
        return plain_column(_as_list(column), kind)
    return column.cast(kind)


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a batch as columns of `schema`, in its order; errors as `plain_column`."""
    columns = [plain_column(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch.cast(schema)


def _plain_part(part: Any) -> Any:
    return pa.field(part.name, plain_kind(part.type), nullable=part.nullable)


def _is_rebuilt(kind: Any) -> bool:
    """Whether a type, or a part of it, is of a layout that pyarrow does not cast."""
    rebuilt = pa.types.is_run_end_encoded(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return rebuilt or any(map(_is_rebuilt, _parts(kind)))


def _parts(kind: Any) -> list[Any]:
    return [kind.field(number).type for number in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _as_list(views: Any) -> Any:
    """Lists whose elements may lie anywhere as lists one after the other; pyarrow's cast breaks on them (26.0)."""
    lengths = np.asarray(pc.list_value_length(views).fill_null(0)).astype(np.int64)
    offsets = np.zeros(len(views) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    mask: Any = pc.is_null(views) if views.null_count else None
    starts: Any = pa.array(offsets)
    return pa.LargeListArray.from_arrays(starts, views.flatten(), mask=mask)
