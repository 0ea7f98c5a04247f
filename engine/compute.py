"""What pyarrow.compute lacks or does otherwise than our semantics ask (docs/design/expressions.md), built from what it
has. Row-wise, without state.

Each function takes arrays or scalars already cast to what its rule says, and returns an array, or a scalar where all
arguments were scalars. A value that has no result raises pa.ArrowInvalid; `exec/evaluate` finds its row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine import lazymodules
from kernelmill.engine.promotion import is_text

pc: Any = lazymodules.pc  # its stubs know fewer argument types than it takes
Datum = Any  # pa.Array or pa.Scalar, of any type

FALSE, TRUE = pa.scalar(False, pa.bool_()), pa.scalar(True, pa.bool_())
_FAR = 1 << 40  # no text or list is as long; Arrow's slices go wrong near the ends of 64 bits
_TEN_POWER_MAX = 18  # of an int64
_EXACT_DIGITS_MAX = 15  # of whole numbers, and powers of ten, that float64 has without rounding
_DAY_S = 24 * 60 * 60
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_HEX = "^[+-]?0[xX]"


# Numbers -------------------------------------------------------------------------------------------------------------


def floor_divide(left: Datum, right: Datum) -> Datum:
    """`//` as in Python; null where an integer is divided by zero, for floats what IEEE 754 says."""
    return _divide(left, right, np.floor_divide)


def modulo(left: Datum, right: Datum) -> Datum:
    """`%` as in Python, with the divisor's sign; null where an integer is divided by zero."""
    return _divide(left, right, np.remainder)


def _divide(left: Datum, right: Datum, operate: Callable[..., Any]) -> Datum:
    """numpy's operation over values that are neither null nor divided by an integer zero.

    pyarrow has no floor_divide, and its way round, over trunc and sign, passes three times more over the data.
    """
    if isinstance(left, pa.Scalar) and isinstance(right, pa.Scalar):
        return _divide(pa.array([left], left.type), right, operate)[0]
    whole = pa.types.is_integer(left.type)
    if whole:
        right = pc.if_else(pc.equal(right, pa.scalar(0, right.type)), pa.scalar(None, right.type), right)
    nulls = pc.or_(pc.is_null(left), pc.is_null(right))
    rows = len(left if isinstance(left, pa.Array) else right)
    one = pa.scalar(1, left.type) if whole else pa.scalar(1.0, left.type)
    above, below = _numpy(pc.coalesce(left, one)), _numpy(pc.coalesce(right, one))
    if whole and pa.types.is_signed_integer(left.type):
        overflow = (above == np.iinfo(above.dtype).min) & (below == -1)
        if operate is np.floor_divide and np.any(overflow & _numpy(pc.invert(nulls))):
            raise pa.ArrowInvalid("overflow")
    with np.errstate(all="ignore"):
        result = np.broadcast_to(operate(above, below), (rows,))
    mask = np.broadcast_to(_numpy(nulls), (rows,))
    return pa.array(result, type=left.type, mask=mask if mask.any() else None)


def _numpy(values: Datum) -> Any:
    if isinstance(values, pa.Scalar):
        return np.asarray(pa.array([values], values.type).to_numpy(zero_copy_only=False))[0]
    return values.to_numpy(zero_copy_only=False)


def power(base: Datum, exponent: Datum) -> Datum:
    """`**`, checked for integers."""
    return pc.power_checked(base, exponent) if pa.types.is_integer(base.type) else pc.power(base, exponent)


def round_to(values: Datum, decimals: int) -> Datum:
    """Round half to even to `decimals` places."""
    whole = pa.types.is_integer(values.type)
    largest = 308 if pa.types.is_float64(values.type) else 38  # the exponent of the largest number
    if decimals >= 0 if whole else decimals > largest:
        return values
    if whole:
        return _round_whole(values, -decimals)
    if decimals < -largest:
        return pc.if_else(pc.is_finite(values), pa.scalar(0, values.type), values)
    if decimals < 0:
        return pc.round(values, ndigits=decimals, round_mode="half_to_even")
    # pyarrow refuses a number that leaves its type when it is scaled; one so large has no digits there to round
    fits = pc.is_finite(pc.multiply(values, pa.scalar(10.0**decimals, values.type)))
    moderate = pc.if_else(fits, values, pa.scalar(0.0, values.type))
    return pc.if_else(fits, pc.round(moderate, ndigits=decimals, round_mode="half_to_even"), values)


def _round_whole(values: Datum, zeros: int) -> Datum:
    limits = np.iinfo(values.type.to_pandas_dtype())
    if zeros <= _TEN_POWER_MAX and 10**zeros <= limits.max:
        return pc.round(values, ndigits=-zeros, round_mode="half_to_even")
    # pyarrow needs 10 ** zeros as a value of the type, in 63 bits; without it, it fails or divides by zero
    zero = pa.scalar(0, values.type)
    if zeros > _TEN_POWER_MAX + 1 or 10**zeros // 2 >= limits.max:
        return pc.if_else(pc.is_valid(values), zero, values)
    unit = 10**zeros
    fits = unit <= limits.max  # once, and not twice: a half of three rounds to two
    most = unit + unit // 2 - 1 if fits else unit // 2
    beyond = pc.greater(values, pa.scalar(most, values.type))
    if limits.min:
        beyond = pc.or_(beyond, pc.less(values, pa.scalar(-most, values.type)))
    if pc.any(pa.array([beyond]) if isinstance(beyond, pa.Scalar) else beyond).as_py():
        raise pa.ArrowInvalid("overflow")
    up = pc.greater(values, pa.scalar(unit // 2, values.type))
    return pc.if_else(up, pa.scalar(unit if fits else 0, values.type), zero)


def logarithm(values: Datum, base: float) -> Datum:
    """The logarithm to `base`; the natural one is the most exact."""
    if base == np.e:
        return pc.ln(values)
    exact = {2.0: pc.log2, 10.0: pc.log10}.get(base)
    return exact(values) if exact else pc.logb(values, pa.scalar(float(base), values.type))


def at_least(values: Datum, bound: Datum) -> Datum:
    """`bound` where a value is below it; NaN stays."""
    return pc.if_else(pc.coalesce(pc.less(values, bound), FALSE), bound, values)


def at_most(values: Datum, bound: Datum) -> Datum:
    """`bound` where a value is above it; NaN stays."""
    return pc.if_else(pc.coalesce(pc.greater(values, bound), FALSE), bound, values)


def fill_nan(values: Datum, other: Datum) -> Datum:
    """`other` where a value is NaN; null stays null."""
    return pc.if_else(pc.coalesce(pc.is_nan(values), FALSE), other, values)


# Any type ------------------------------------------------------------------------------------------------------------


def equal(left: Datum, right: Datum) -> Datum:
    """Equality in which NaN equals NaN, as in Polars, DuckDB and groups."""
    found = pc.equal(left, right)
    if not pa.types.is_floating(left.type) or _is_number(left) or _is_number(right):
        return found
    return pc.or_(found, pc.and_(pc.is_nan(left), pc.is_nan(right)))


def not_equal(left: Datum, right: Datum) -> Datum:
    """The opposite of `equal`; null where that is."""
    return pc.invert(equal(left, right)) if pa.types.is_floating(left.type) else pc.not_equal(left, right)


def less(left: Datum, right: Datum) -> Datum:
    """Order in which NaN is greater than all numbers, as in a sort; `left > right` is less(right, left)."""
    if not pa.types.is_floating(left.type) or _is_number(right):
        return pc.less(left, right)
    if _is_number(left):
        return pc.invert(pc.greater_equal(left, right))
    return pc.and_(pc.or_(pc.less(left, right), pc.is_nan(right)), pc.invert(pc.is_nan(left)))


def less_equal(left: Datum, right: Datum) -> Datum:
    """As `less`, or equal."""
    if not pa.types.is_floating(left.type):
        return pc.less_equal(left, right)
    return pc.invert(less(right, left))


def _is_number(value: Datum) -> bool:
    """Whether this is one value, and not NaN: comparing with it needs no look for NaN beside it."""
    return isinstance(value, pa.Scalar) and value.as_py() == value.as_py()


def equal_missing(left: Datum, right: Datum) -> Datum:
    """Equality in which null equals null."""
    both = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.if_else(both, TRUE, pc.coalesce(equal(left, right), FALSE))


def choose(test: Datum, then: Datum, otherwise: Datum) -> Datum:
    """`then` where the test is true, else `otherwise`, for null too."""
    return pc.if_else(pc.coalesce(test, FALSE), then, otherwise)


def is_in(values: Datum, members: Datum) -> Datum:
    """Tell whether each value is a member; null for null. Null members match nothing, NaN equals NaN."""
    found = pc.is_in(values, value_set=members.values)
    return pc.if_else(pc.is_null(values), pa.scalar(None, pa.bool_()), found)


def cast(values: Datum, target: pa.DataType, *, strict: bool) -> Datum:
    """`values` as `target`; fractions and finer units of time are cut off. A bad value raises, or else is null."""
    if strict:
        return _cast_all(values, target)
    if isinstance(values, pa.Scalar):
        return cast(pa.array([values], values.type), target, strict=False)[0]
    return _cast_or_null(_without_hopeless(values, target), target)


def _cast_all(values: Datum, target: pa.DataType) -> Datum:
    source = values.type
    if pa.types.is_floating(source) and pa.types.is_integer(target):
        values = pc.trunc(values)  # and then exactly: what is out of range or NaN raises, where an unsafe cast wraps
    elif pa.types.is_decimal(source) and pa.types.is_integer(target):
        values = pc.trunc(values)
    elif pa.types.is_decimal(source) and pa.types.is_decimal(target) and target.scale < source.scale:
        values = pc.round(values, ndigits=target.scale, round_mode="towards_zero")
    elif _is_short_decimal(source) and pa.types.is_float64(target):
        return _nearest_floats(values)
    elif pa.types.is_integer(source) and pa.types.is_floating(target):
        return pc.cast(values, target, safe=False)  # rounds above 2^53, as Python's float() does
    elif is_text(source) and pa.types.is_integer(target):
        _refuse_hexadecimal(values)
    elif pa.types.is_integer(source) and pa.types.is_time(target):
        _refuse_other_days(values, target)
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=True))


def _is_short_decimal(dtype: Any) -> bool:
    return bool(
        pa.types.is_decimal128(dtype) and dtype.precision <= _EXACT_DIGITS_MAX and 0 <= dtype.scale <= dtype.precision
    )


def _nearest_floats(values: Datum) -> Datum:
    """Decimals of few digits as the float64 nearest to each, as Python's float() has it; pyarrow's may be the next."""
    if isinstance(values, pa.Scalar):
        return _nearest_floats(pa.array([values], values.type))[0]
    start, stop = values.offset, values.offset + len(values)
    whole = np.frombuffer(values.buffers()[1] or b"", "<i8")[2 * start : 2 * stop : 2].astype(np.float64)
    whole /= 10.0**values.type.scale  # both are exact, so that the quotient is rounded once
    if not values.null_count:
        return pa.array(whole)
    return pa.array(whole, mask=_numpy(pc.is_null(values)))


def _refuse_hexadecimal(values: Datum) -> None:
    # pyarrow reads "0x1F" as 31 (26.0); nobody else's cast does, so it would be a silent surprise
    marked = pc.match_substring_regex(values, _HEX)
    if pc.any(marked).as_py() if isinstance(marked, pa.Array) else marked.as_py():
        raise pa.ArrowInvalid("Failed to parse string: it is hexadecimal")


def _refuse_other_days(values: Datum, target: Any) -> None:
    # pyarrow takes any number for a time, and nothing can read what it then makes
    within = pc.and_(pc.greater_equal(values, 0), pc.less(values, _DAY_S * _PER_SECOND[target.unit]))
    if not (pc.all(within).as_py() if isinstance(within, pa.Array) else within.as_py() in (True, None)):
        raise pa.ArrowInvalid("a time is within one day")


def _without_hopeless(values: Datum, target: pa.DataType) -> Datum:
    """Null for most values that cannot be cast, found at once: trying halves is slow where every other value fails."""
    if is_text(values.type) and (pa.types.is_integer(target) or pa.types.is_floating(target)):
        form = r"^-?[0-9]+$" if pa.types.is_integer(target) else r"^[+-]?([0-9.]+([eE][+-]?[0-9]+)?|[a-zA-Z]+)$"
        good = pc.match_substring_regex(values, form)
    elif pa.types.is_floating(values.type) and pa.types.is_integer(target):
        good = pc.is_finite(values)
    elif is_text(values.type) and (pa.types.is_date(target) or pa.types.is_timestamp(target)):
        good = pc.match_substring_regex(values, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}")
    else:
        return values
    return pc.if_else(good, values, pa.scalar(None, values.type))


def _cast_or_null(values: Any, target: Any) -> Any:
    try:
        return _cast_all(values, target)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, target)
    half = len(values) // 2
    return pa.concat_arrays([_cast_or_null(values[:half], target), _cast_or_null(values[half:], target)])


# Text ----------------------------------------------------------------------------------------------------------------


def join_text(left: Datum, right: Datum) -> Datum:
    """Texts one after the other; null where one is null."""
    return pc.binary_join_element_wise(left, right, pa.scalar("" if is_text(left.type) else b"", left.type))


def strip_prefix(values: Datum, prefix: str) -> Datum:
    """Values without `prefix`, once, where they start with it."""
    cut = slice_text(values, _width(values, prefix), None)
    return pc.if_else(pc.starts_with(values, pattern=prefix), cut, values)


def strip_suffix(values: Datum, suffix: str) -> Datum:
    """Values without `suffix`, once, where they end with it."""
    if not suffix:
        return values
    cut = _cut(values, 0, -_width(values, suffix))
    return pc.if_else(pc.ends_with(values, pattern=suffix), cut, values)


def slice_text(values: Datum, offset: int, length: int | None) -> Datum:
    """`length` characters (bytes of binary) from `offset`, which counts from the end if it is negative."""
    stop = None if length is None else offset + length
    if offset < 0 and stop is not None and stop >= 0:
        # where the text is shorter than -offset, what would lie before its start counts too, as in Polars
        stop = None
    return _cut(values, _near(offset), None if stop is None else _near(stop))


def _near(place: int) -> int:
    return max(-_FAR, min(place, _FAR))


def _cut(values: Datum, start: int, stop: int | None) -> Datum:
    stop = _FAR if stop is None else stop  # without it, binary_slice fails where a value ends before `start`
    if is_text(values.type):
        return pc.utf8_slice_codeunits(values, start=start, stop=stop)
    if pa.types.is_large_binary(values.type):  # binary_slice has no kernel for it (pyarrow 26)
        return pc.cast(pc.binary_slice(pc.cast(values, pa.binary()), start=start, stop=stop), values.type)
    return pc.binary_slice(values, start=start, stop=stop)


def _width(values: Datum, part: str) -> int:
    return len(part) if is_text(values.type) else len(part.encode())


# Lists ---------------------------------------------------------------------------------------------------------------


def list_get(lists: Datum, index: int) -> Datum:
    """Element `index` of each list, from the end if negative; null where there is none."""
    if isinstance(lists, pa.Scalar):
        return list_get(pa.array([lists], lists.type), index)[0]
    starts, ends = _numpy(lists.offsets)[:-1], _numpy(lists.offsets)[1:]
    place = (starts if index >= 0 else ends) + np.int64(_near(index))
    absent = (place < starts) | (place >= ends) | _numpy(pc.is_null(lists))
    return lists.values.take(pa.array(place, mask=absent))


def list_contains(lists: Datum, item: Datum) -> Datum:
    """Tell whether a list has an element equal to `item`; null for a null list or a null item."""
    if isinstance(lists, pa.Scalar):
        if isinstance(item, pa.Scalar):
            return list_contains(pa.array([lists], lists.type), item)[0]
        lists = pa.array([lists.as_py()] * len(item), lists.type)
    lengths = _numpy(pc.coalesce(pc.list_value_length(lists), pa.scalar(0, pa.int32())))
    parents = pa.array(np.repeat(np.arange(len(lists)), lengths))  # a null list may have elements below it: not these
    sought = item if isinstance(item, pa.Scalar) else item.take(parents)
    hits = pc.coalesce(pc.equal(lists.flatten(), sought), FALSE)
    found = np.zeros(len(lists), dtype=bool)
    found[_numpy(parents.filter(hits))] = True
    known = pc.and_(pc.is_valid(lists), pc.is_valid(item))
    return pc.if_else(known, pa.array(found), pa.scalar(None, pa.bool_()))


def list_join(lists: Datum, separator: str) -> Datum:
    """The elements of each list in one text with `separator` between; null elements are left out."""
    if isinstance(lists, pa.Scalar):
        return list_join(pa.array([lists], lists.type), separator)[0]
    if lists.flatten().null_count:
        lists = _without_null_elements(lists)
    between = separator if is_text(lists.type.value_type) else separator.encode()
    return pc.binary_join(lists, pa.scalar(between, lists.type.value_type))


def _without_null_elements(lists: Any) -> Any:
    values = lists.values
    kept_before = np.concatenate([[0], np.cumsum(_numpy(pc.is_valid(values)))])
    offsets = pa.array(kept_before[_numpy(lists.offsets)].astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values.drop_null(), type=lists.type, mask=pc.is_null(lists))
