"""Python values as literals of expressions: what may be one, and the Arrow type it has alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.nodes import Literal
from kernelmill.engine.origin import users_line

# pyarrow looks for dateutil whenever it is to find a type: thirty times the work where that is not installed
_TYPES: dict[type, pa.DataType] = {
    **{bool: pa.bool_(), int: pa.int64(), float: pa.float64()},
    **{str: pa.string(), bytes: pa.binary(), date: pa.date32()},
}
_VALUES = (bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal)


def literal(value: object) -> Literal:
    """The node of one value, which takes the type of what it meets unless it is a pyarrow.Scalar. KM0107 for others."""
    if isinstance(value, pa.Scalar):
        return Literal(value)
    return Literal(scalar_of(value), True)


def scalar_of(value: object) -> pa.Scalar[Any]:
    """The value as Arrow takes it on its own; KM0107 for what is no value of a column, or fits no type."""
    given: Any = value
    if getattr(given, "ndim", None) == 0 and hasattr(given, "item"):  # of numpy, which need not be imported for it
        plain = given.item()
        is_fine = given.dtype.kind in "mM" and isinstance(plain, int)  # a moment finer than Python's: Arrow knows those
        given = given if is_fine else plain
    else:
        is_fine = False
    if not (given is None or is_fine or isinstance(given, _VALUES)):
        raise _no_value(value)
    is_large = isinstance(given, int) and given >= 1 << 63
    try:
        scalar: pa.Scalar[Any] = pa.scalar(given, pa.uint64() if is_large else _TYPES.get(type(given)))
        return scalar
    except (OverflowError, pa.ArrowInvalid) as exc:
        raise _bad(f"{value!r:.80} fits no column type: {exc}", "integers have at most 64 bits") from exc
    except UnicodeEncodeError as exc:
        raise _bad(f"{value!r:.80} is no text: {exc.reason}", "give whole characters, not half a pair") from exc
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as exc:
        raise _no_value(value) from exc


def members(values: Iterable[object]) -> Literal:
    """The node of a list of values of one type, for is_in; KM0107 if they are of several."""
    try:
        plain = [_member(one) for one in values]
        is_large = any(isinstance(one, int) and one >= 1 << 63 for one in plain)
        array = pa.array(plain, pa.uint64() if is_large else None)
    except UnicodeEncodeError as exc:
        what = f"is_in: {exc.object!r:.80} is no text: {exc.reason}"
        raise _bad(what, "give whole characters, not half a pair") from exc
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as exc:
        raise _bad(f"is_in: the values are not of one type: {exc}", "give values of the column's type") from exc
    return Literal(pa.ListArray.from_arrays([0, len(array)], array)[0], True)


def _member(value: Any) -> Any:
    # moments stay as they are: Python knows no nanoseconds
    return value.as_py() if isinstance(value, pa.Scalar) and not pa.types.is_temporal(value.type) else value


def _no_value(value: object) -> KernelmillError:
    hint = "a number, text, bytes, date, datetime, time, timedelta, Decimal, bool or None"
    return _bad(f"{type(value).__name__} {value!r:.80} is no value of a column", hint)


def _bad(what: str, hint: str) -> KernelmillError:
    return error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
