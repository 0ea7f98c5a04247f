"""The kinds of aggregates: what each takes and what it gives. `exec/states` holds an executor for each basic kind.

    len count sum product mean min max     list (implode) first last n_unique    var quantile corr
    min_by max_by                  the value where another column is least or greatest
    top_k bottom_k                 the k greatest or least values of a group, as a list

The other kinds (any all std median) are made of these by `plan/derived`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.batch import is_string_like, is_word_like
from kernelmill.engine.errors import Code, KernelmillError, error

AVERAGES = ("mean", "var", "std", "median", "quantile", "corr")
"""Kinds over numbers whose result is float64."""

INTERPOLATIONS = ("nearest", "lower", "higher", "midpoint", "linear", "equiprobable")
_DECIMAL_DIGITS = 38


def opened(dtype: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary; others are what they are."""
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def is_averaged(dtype: pa.DataType) -> bool:
    """Whether values are numbers that mean, var, quantile and corr take as float64: also bools and decimals."""
    t = pa.types
    return bool(t.is_integer(dtype) or t.is_floating(dtype) or t.is_boolean(dtype) or t.is_decimal(dtype))


def is_compared(dtype: pa.DataType) -> bool:
    """Whether values have a least and a greatest one in groups: numbers, times, text, bytes and decimals."""
    fixed = pa.types.is_fixed_size_binary(dtype) or pa.types.is_decimal128(dtype)
    return is_word_like(dtype) or is_string_like(dtype) or bool(fixed)


def sum_type(dtype: pa.DataType) -> pa.DataType:
    """The type of a sum: int64, uint64, float64, a decimal, durations as they are; KM0102 for what has no sum."""
    if pa.types.is_signed_integer(dtype) or pa.types.is_boolean(dtype):
        return pa.int64()
    if pa.types.is_unsigned_integer(dtype):
        return pa.uint64()
    if pa.types.is_floating(dtype):
        return pa.float64()
    if pa.types.is_decimal128(dtype):
        return pa.decimal128(_DECIMAL_DIGITS, dtype.scale)
    if pa.types.is_duration(dtype):
        return dtype
    raise error(Code.TYPE_MISMATCH, f"cannot add up values of type {dtype}", hint="cast it to a number first")


def product_type(dtype: pa.DataType) -> pa.DataType:
    """The type of the product of values of `dtype`: int64, uint64 or float64; KM0102 for what is not multiplied."""
    if pa.types.is_decimal(opened(dtype)):
        what = f"cannot multiply the values of a group of type {dtype}: digits behind the point would go on for ever"
        raise error(Code.TYPE_MISMATCH, what, hint="cast it to float64 first")
    if pa.types.is_duration(opened(dtype)):
        raise error(Code.TYPE_MISMATCH, f"cannot multiply values of type {dtype}", hint="cast it to a number first")
    return sum_type(dtype)


def result_of(kind: str, taken: Sequence[pa.Field[Any]], *, may_be_empty: bool = False) -> pa.Field[Any]:
    """The type and nullability of `kind` over these columns, their names being how a user wrote them.

    may_be_empty: whether a group may have no rows. Raises KM0102 for types that do not go, KM0901 for no such kind.
    """
    if not taken:
        if kind != "len":
            raise error(Code.INTERNAL, f"aggregate {kind!r} needs an input column")
        return pa.field("", pa.int64(), nullable=False)
    own, dtype = taken[0], opened(taken[0].type)
    nullable = own.nullable or may_be_empty
    match kind:
        case "len" | "count" | "n_unique":
            if kind == "n_unique" and not (is_compared(dtype) or pa.types.is_null(dtype)):
                raise _unfit(kind, own, "are not told apart in groups", "take it of one of its parts, or cast it")
            return pa.field("", pa.int64(), nullable=False)
        case "sum":
            return pa.field("", sum_type(dtype), nullable=False)
        case "product":
            return pa.field("", product_type(dtype), nullable=False)
        case _ if kind in AVERAGES:
            for one in taken:
                if not is_averaged(opened(one.type)):
                    raise _unfit(kind, one, "are no numbers", f'cast it: {one.name}.cast("float64")')
            nullable = nullable or kind in ("var", "std")
            return pa.field("", pa.float64(), nullable=nullable and kind != "corr")
        case "any" | "all":
            if not pa.types.is_boolean(dtype):
                raise _unfit(kind, own, "are neither true nor false", f"compare it: {own.name} != 0")
            return pa.field("", pa.bool_(), nullable=False)
        case "min" | "max":
            if not is_compared(dtype):
                raise _unfit(kind, own, "are not compared in groups", "take it of one of its parts, or cast it")
            return pa.field("", dtype, nullable=nullable or pa.types.is_floating(dtype))
        case "min_by" | "max_by":
            by = taken[1]
            if not is_word_like(opened(by.type)):
                raise _unfit(kind, by, "have no order here", "take a number, a date, a time or a boolean")
            return pa.field("", dtype, nullable=nullable or by.nullable)
        case "first" | "last":
            return pa.field("", dtype, nullable=nullable)
        case "list":
            return pa.field("", pa.list_(own.type), nullable=False)
        case "top_k" | "bottom_k":
            if not is_word_like(dtype):
                raise _unfit(kind, own, "have no order here", "take a number, a date, a time or a boolean")
            return pa.field("", pa.list_(dtype), nullable=False)
    raise error(Code.INTERNAL, f"no aggregate is called {kind!r}")


def _unfit(kind: str, own: pa.Field[Any], why: str, hint: str) -> KernelmillError:
    return error(Code.TYPE_MISMATCH, f"{kind} of {own.name}: values of type {own.type} {why}", hint=hint)
