"""Which types go together: what two columns become when they meet, and what a bare Python value becomes beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.lazymodules import pc
from kernelmill.engine.nodes import Literal, Node

_UNITS = ("s", "ms", "us", "ns")
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_DECIMAL_DIGITS_MAX = 76


class Arg(msgspec.Struct, frozen=True):
    """An argument of a function as its rule sees it. `literal` is set for values; `bare` ones take others' types."""

    node: Node
    type: pa.DataType
    nullable: bool
    literal: pa.Scalar[Any] | None = None
    bare: bool = False


def arg_of(node: Node, dtype: pa.DataType, nullable: bool) -> Arg:
    """Describe an argument: an encoded type counts as that of its values."""
    if isinstance(node, Literal):
        return Arg(node, plain_type(dtype), nullable, node.value, node.bare)
    return Arg(node, plain_type(dtype), nullable)


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """The type as functions see it: of a dictionary its values', of a view its plain form, float32 for float16."""
    if pa.types.is_dictionary(dtype):
        return plain_type(dtype.value_type)
    if dtype == pa.string_view():
        return pa.string()
    if pa.types.is_float16(dtype):
        return pa.float32()  # pyarrow computes nothing in 16 bits
    return pa.binary() if dtype == pa.binary_view() else dtype


def is_text(dtype: pa.DataType) -> bool:
    """Tell whether values are UTF-8 text."""
    plain = plain_type(dtype)
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def is_bytes(dtype: pa.DataType) -> bool:
    """Tell whether values are bytes of any length."""
    plain = plain_type(dtype)
    return bool(pa.types.is_binary(plain) or pa.types.is_large_binary(plain))


def _is_any_bytes(dtype: pa.DataType) -> bool:
    return is_bytes(dtype) or bool(pa.types.is_fixed_size_binary(dtype))


def is_number(dtype: pa.DataType) -> bool:
    """Tell whether values are integers or floats; decimals are not, their arithmetic is another."""
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def unify(args: Sequence[Arg]) -> pa.DataType | None:
    """The one type in which all `args` meet, None if there is none. Columns decide; bare values join if they fit."""
    columns = [arg.type for arg in args if not arg.bare]
    values = [arg for arg in args if arg.bare]
    if not columns:
        return _fold([value.type for value in values])
    meeting = _fold(columns)
    for value in values:
        if meeting is not None and value.literal is not None:
            meeting = fit(value.literal, meeting)
    return meeting


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds values of both columns, None if they do not go together."""
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if is_number(left) and is_number(right):
        return _common_number(left, right)
    if is_text(left) and is_text(right):
        return pa.large_string()
    if is_bytes(left) and is_bytes(right):
        return pa.large_binary()
    if _is_any_bytes(left) and _is_any_bytes(right):
        return pa.binary()  # one of them, or both, of a fixed width
    if pa.types.is_time(left) and pa.types.is_time(right):
        unit = _finer(left, right)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if pa.types.is_decimal(left) and pa.types.is_decimal(right):
        return _common_decimal(left, right)
    if pa.types.is_duration(left) and pa.types.is_duration(right):
        return pa.duration(_finer(left, right))
    if _is_moment(left) and _is_moment(right):
        return _common_moment(left, right)
    return None


def fit(value: pa.Scalar[Any], dtype: pa.DataType) -> pa.DataType | None:
    """The type in which a bare `value` meets a column of `dtype`: `dtype` itself if the value fits it."""
    natural = value.type
    if not value.is_valid or natural == dtype or pa.types.is_null(dtype):
        return dtype if not value.is_valid else natural
    if pa.types.is_integer(natural) and pa.types.is_integer(dtype):
        return dtype if _integer_fits(value.as_py(), dtype) else common_type(dtype, natural)
    if is_number(natural) and pa.types.is_floating(dtype):
        return dtype if _float_fits(value.as_py(), dtype) else pa.float64()
    if pa.types.is_decimal(dtype) and (is_number(natural) or pa.types.is_decimal(natural)):
        return dtype if _decimal_fits(value.as_py(), dtype) else None
    if is_text(natural) and (is_text(dtype) or is_bytes(dtype)):
        return dtype
    if is_bytes(natural) and is_bytes(dtype):
        return dtype
    if is_bytes(natural) and pa.types.is_fixed_size_binary(dtype):
        return dtype if len(value.as_py()) == dtype.byte_width else pa.binary()
    return common_type(dtype, natural)


def mixes_signs(left: pa.DataType, right: pa.DataType) -> bool:
    """Tell whether these are a signed integer and uint64, which have no common integer type."""
    kinds = (pa.types.is_signed_integer(left), pa.types.is_signed_integer(right))
    return kinds != (True, True) and any(kinds) and pa.uint64() in (left, right)


def _fold(types: list[pa.DataType]) -> pa.DataType | None:
    def meet(left: pa.DataType | None, right: pa.DataType) -> pa.DataType | None:
        return None if left is None else common_type(left, right)

    first: pa.DataType | None = types[0]
    return reduce(meet, types[1:], first)


def _common_number(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if pa.types.is_floating(left) and pa.types.is_floating(right):
        return left if left.bit_width >= right.bit_width else right
    if pa.types.is_floating(left) or pa.types.is_floating(right):
        real, whole = (left, right) if pa.types.is_floating(left) else (right, left)
        # float32 holds every integer of 16 bits; wider ones go to float64, which rounds above 2^53 as Python does
        return real if whole.bit_width <= 16 and real.bit_width == 32 else pa.float64()
    if pa.types.is_signed_integer(left) == pa.types.is_signed_integer(right):
        return left if left.bit_width >= right.bit_width else right
    signed, unsigned = (left, right) if pa.types.is_signed_integer(left) else (right, left)
    if unsigned.bit_width == 64:
        return None
    return _SIGNED[max(signed.bit_width, unsigned.bit_width * 2)]


def _common_decimal(left: Any, right: Any) -> pa.DataType | None:
    scale = max(left.scale, right.scale)
    digits = max(left.precision - left.scale, right.precision - right.scale) + scale
    if digits > _DECIMAL_DIGITS_MAX:
        return None
    wide = digits > 38 or pa.types.is_decimal256(left) or pa.types.is_decimal256(right)
    return pa.decimal256(digits, scale) if wide else pa.decimal128(digits, scale)


def _is_moment(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_date(dtype) or pa.types.is_timestamp(dtype))


def _common_moment(left: Any, right: Any) -> pa.DataType | None:
    if pa.types.is_date(left) and pa.types.is_date(right):
        return pa.date32()
    if pa.types.is_date(left) or pa.types.is_date(right):
        moment = right if pa.types.is_date(left) else left
        return moment if moment.tz is None else None  # a date has no zone: where does its day begin?
    if (left.tz is None) != (right.tz is None):
        return None
    return pa.timestamp(_finer(left, right), left.tz)


def _finer(left: Any, right: Any) -> Any:
    return max(left.unit, right.unit, key=_UNITS.index)


def _integer_fits(value: int, dtype: pa.DataType) -> bool:
    bits = dtype.bit_width
    if pa.types.is_unsigned_integer(dtype):
        return 0 <= value < 1 << bits
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1)


def _float_fits(value: float, dtype: pa.DataType) -> bool:
    if dtype.bit_width == 64 or not math.isfinite(value):
        return True
    return abs(value) <= (3.4028234663852886e38 if dtype.bit_width == 32 else 65504.0)


def _decimal_fits(value: int | float | Decimal, dtype: Any) -> bool:
    try:
        exact = pa.scalar(Decimal(str(value)), dtype)  # 0.1 means one tenth here, as it was written
    except (pa.ArrowInvalid, ArithmeticError):
        return False
    return bool(exact.is_valid)


@lru_cache(maxsize=4096)
def can_cast(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether values of `source` have any cast to `target`; asked of pyarrow with a null."""
    if pa.types.is_dictionary(target):
        return False  # an encoding, not a type of ours: it is the reader's and the writer's business
    null: Any = pa.nulls(1, source)  # type: ignore[call-overload]  # its stubs want to know which type
    try:
        pc.cast(null, target)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def number_for(dtype: pa.DataType) -> pa.DataType | None:
    """The type of numbers to which values of `dtype` can be cast, for hints; None if there is none."""
    wanted = (pa.int64(),) if pa.types.is_boolean(dtype) else (pa.float64(), pa.int64(), pa.int32())
    return next((target for target in wanted if can_cast(plain_type(dtype), target)), None)
