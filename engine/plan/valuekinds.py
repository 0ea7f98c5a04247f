"""What can be done with values of a type: written, exploded, grouped and sorted by."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from kernelmill.engine.batch import is_string_like, is_word_like


def is_storable(kind: Any) -> bool:
    """Whether Parquet has a form for values of `kind`."""
    if pa.types.is_interval(kind) or pa.types.is_union(kind) or pa.types.is_run_end_encoded(kind):
        return False
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width > 0)
    if pa.types.is_nested(kind):
        return kind.num_fields > 0 and all(is_storable(kind.field(i).type) for i in range(kind.num_fields))
    return True


def folder_type(kind: Any) -> pa.DataType | None:
    """The type of values of `kind` that are read back from names of folders; None if they have no exact text there."""
    if pa.types.is_dictionary(kind):
        return folder_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    is_exact = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind)
    return kind if is_exact or pa.types.is_timestamp(kind) else None


def is_list(kind: pa.DataType) -> bool:
    """Whether values of `kind` are lists, of any length or of one."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def may_be_grouped(kind: pa.DataType) -> bool:
    """Whether rows can be grouped by values of `kind`: as `may_be_key`, and decimals, bytes of a fixed width, null."""
    fixed = pa.types.is_decimal128(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_null(kind)
    return may_be_key(kind) or bool(fixed)


def may_be_key(kind: pa.DataType) -> bool:
    """Whether rows can be grouped and sorted by values of `kind`: text, binary, and what fits 64 bits."""
    return is_string_like(kind) or is_word_like(kind)
