"""Which row groups a filter can skip, by their statistics alone; in doubt a row group is read.

Each node gets the set of outcomes (true, false, null) that its rows may have, as bits; `and`, `or` and `not` combine
sets by the rules of three-valued logic. So a negation is as safe as what it negates: `x > 5` is true for NaN,
the greatest of floats, which no statistic shows, and the set of `x > 5` on floats therefore always holds true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from kernelmill.engine.nodes import Alias, Call, Column, Literal, Node

TRUE, FALSE, NULL = 1, 2, 4
ANY = TRUE | FALSE | NULL
_BITS = (TRUE, FALSE, NULL)
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


class ColumnStats(msgspec.Struct, frozen=True):
    """A column of a row group: its type, rows, nulls (None: not known), and bounds of its other values.

    `lowest` and `highest` are bounds, not necessarily values: writers cut long text. They are int for integers, dates
    (days) and timestamps (in the type's unit), float, bool, and bytes for text and binary; None where not known.
    A float column may hold NaN besides.
    """

    type: pa.DataType
    rows: int
    null_count: int | None = None
    lowest: Any = None
    highest: Any = None


def may_match(predicate: Node, stats: Mapping[str, ColumnStats]) -> bool:
    """Tell whether any row of a row group may satisfy `predicate`; False only if surely none does.

    A column without an entry in `stats` may hold anything. Raises nothing.
    """
    return bool(_outcomes(predicate, stats) & TRUE)


def _outcomes(node: Node, stats: Mapping[str, ColumnStats]) -> int:
    match node:
        case Alias(input=inner):
            return _outcomes(inner, stats)
        case Literal(value=value):
            return _outcome_of(value.as_py()) if pa.types.is_boolean(value.type) else ANY
        case Column(name=name):
            return _of_boolean(stats.get(name))
        case Call(function="and", args=args):
            return _combine(args, stats, _kleene_and)
        case Call(function="or", args=args):
            return _combine(args, stats, _kleene_or)
        case Call(function="not", args=(inner,)):
            found = _outcomes(inner, stats)
            return (found & NULL) | (TRUE if found & FALSE else 0) | (FALSE if found & TRUE else 0)
        case Call(function="is_null", args=(inner,)):
            return _nullness(inner, stats, TRUE, FALSE)
        case Call(function="is_not_null", args=(inner,)):
            return _nullness(inner, stats, FALSE, TRUE)
        case Call(function=("eq" | "ne" | "lt" | "le" | "gt" | "ge") as name, args=(left, right)):
            return _comparison(name, left, right, stats)
        case Call(function="is_in", args=(inner, members)):
            return _is_in(inner, members, stats)
        case _:
            return ANY


def _combine(args: tuple[Node, ...], stats: Mapping[str, ColumnStats], rule: Callable[[int, int], int]) -> int:
    found = _outcomes(args[0], stats)
    for arg in args[1:]:
        other = _outcomes(arg, stats)
        pairs = product((a for a in _BITS if a & found), (b for b in _BITS if b & other))
        found = 0
        for a, b in pairs:
            found |= rule(a, b)
    return found


def _kleene_and(a: int, b: int) -> int:
    if FALSE in (a, b):
        return FALSE
    return NULL if NULL in (a, b) else TRUE


def _kleene_or(a: int, b: int) -> int:
    if TRUE in (a, b):
        return TRUE
    return NULL if NULL in (a, b) else FALSE


def _outcome_of(value: bool | None) -> int:
    return NULL if value is None else TRUE if value else FALSE


def _of_boolean(column: ColumnStats | None) -> int:
    if column is None or not pa.types.is_boolean(column.type):
        return ANY
    if column.lowest is None or column.highest is None:
        return _null_bit(column) | (0 if _all_null(column) else TRUE | FALSE)
    return _null_bit(column) | _outcome_of(column.lowest) | _outcome_of(column.highest)


def _nullness(inner: Node, stats: Mapping[str, ColumnStats], if_null: int, if_not: int) -> int:
    column = stats.get(inner.name) if isinstance(inner, Column) else None
    if column is None or column.null_count is None:
        return if_null | if_not
    return (if_null if column.null_count else 0) | (if_not if column.null_count < column.rows else 0)


def _null_bit(column: ColumnStats) -> int:
    return 0 if column.null_count == 0 else NULL


def _all_null(column: ColumnStats) -> bool:
    return column.null_count == column.rows


def _comparison(name: str, left: Node, right: Node, stats: Mapping[str, ColumnStats]) -> int:
    if isinstance(left, Literal) and isinstance(right, Column):
        left, right, name = right, left, _MIRRORED[name]
    if not isinstance(left, Column) or not isinstance(right, Literal):
        return ANY
    column = stats.get(left.name)
    return ANY if column is None else _against(name, column, right)


def _against(name: str, column: ColumnStats, literal: Literal) -> int:
    """The outcomes of `column name literal`."""
    if not literal.value.is_valid:
        return NULL
    nulls = _null_bit(column)
    if _all_null(column):
        return NULL
    found = 0
    readings = _readings(column, literal)
    if not readings:
        return TRUE | FALSE | nulls
    for lowest, highest, value in readings:
        found |= _range_outcomes(name, lowest, highest, value)
    if pa.types.is_floating(column.type):
        found |= TRUE if name in ("ne", "gt", "ge") else FALSE  # a NaN, the greatest, that the statistics do not show
    return found | nulls


def _range_outcomes(name: str, lowest: Any, highest: Any, value: Any) -> int:
    """What values within the bounds may give; the bounds themselves need not be values (cut text)."""
    if isinstance(value, float) and math.isnan(value):  # the greatest, equal to others that the statistics do not show
        return TRUE | FALSE
    inside = lowest <= value <= highest
    match name:
        case "eq":
            return (TRUE if inside else 0) | (0 if inside and _certain(lowest, highest) else FALSE)
        case "ne":
            return (FALSE if inside else 0) | (0 if inside and _certain(lowest, highest) else TRUE)
        case "lt":
            return (TRUE if lowest < value else 0) | (FALSE if highest >= value else 0)
        case "le":
            return (TRUE if lowest <= value else 0) | (FALSE if highest > value else 0)
        case "gt":
            return (TRUE if highest > value else 0) | (FALSE if lowest <= value else 0)
        case _:
            return (TRUE if highest >= value else 0) | (FALSE if lowest < value else 0)


def _certain(lowest: Any, highest: Any) -> bool:
    """All values are one value: equal bounds say so, but never for text, whose bounds may be cut."""
    return not isinstance(lowest, bytes) and bool(lowest == highest)


def _is_in(inner: Node, members: Node, stats: Mapping[str, ColumnStats]) -> int:
    """False, and null for nulls, if no member is within the bounds; a null or NaN member is not reasoned about."""
    column = stats.get(inner.name) if isinstance(inner, Column) else None
    if column is None or not isinstance(members, Literal) or not isinstance(members.value, pa.ListScalar):
        return ANY
    if not members.value.is_valid:
        return ANY
    items: Any = members.value.values
    for item in items:
        value = item.as_py()
        # is_in finds NaN among its members, unlike eq; and what it makes of a null is the evaluator's affair
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ANY
        if _against("eq", column, Literal(item, members.bare)) & TRUE:
            return ANY
    return FALSE | _null_bit(column)


def _readings(column: ColumnStats, literal: Literal) -> list[tuple[Any, Any, Any]]:
    """(lowest, highest, value) in comparable Python values, once for each type in which the engine may compare.

    Empty where the bounds are not known or the types do not meet: then nothing can be said.
    """
    lowest, highest, kind = column.lowest, column.highest, column.type
    if lowest is None or highest is None:
        return []
    value = _plain_value(literal.value)
    if value is None:
        return []
    given = literal.value.type
    if pa.types.is_boolean(kind) or pa.types.is_boolean(given):
        return [(lowest, highest, value)] if kind == given else []
    if _is_number(kind) and _is_number(given):
        return _number_readings(kind, given, (lowest, highest, value))
    if _is_text(kind) and _is_text(given):
        return [(lowest, highest, value)]
    if pa.types.is_date32(kind) and pa.types.is_date32(given):
        return [(lowest, highest, value)]
    if (
        isinstance(kind, pa.TimestampType)
        and isinstance(given, pa.TimestampType)
        and (kind.tz is None) == (given.tz is None)
    ):
        unit = _UNIT_NS[kind.unit]
        return [(lowest * unit, highest * unit, value)]
    return []


def _number_readings(kind: pa.DataType, given: pa.DataType, bounds: tuple[Any, Any, Any]) -> list[tuple[Any, Any, Any]]:
    """Integers compare exactly; where a float is involved both sides are compared as floats, as the engine does.

    Rounding to a float keeps order, so rounded bounds are still bounds. A short float may be compared as such (a bare
    literal takes its type) or as float64: both readings count.
    """
    if all(isinstance(value, int) for value in bounds):
        return [bounds]
    lowest, highest, value = (_as_float(value) for value in bounds)
    readings = [(lowest, highest, value)]
    short = np.float16 if pa.float16() in (kind, given) else np.float32 if pa.float32() in (kind, given) else None
    if short is not None:
        with np.errstate(over="ignore"):
            readings.append((float(short(lowest)), float(short(highest)), float(short(value))))
    return readings


def _as_float(value: float) -> float:
    """Round to a float; what lies beyond them all is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _plain_value(scalar: Any) -> Any:
    """A literal as the statistics give values: bytes for text, days for dates, nanoseconds for timestamps."""
    kind = scalar.type
    if _is_text(kind):
        value = scalar.as_py()
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if isinstance(kind, pa.TimestampType):
        return scalar.value * _UNIT_NS[kind.unit]
    if pa.types.is_date32(kind):
        return scalar.value
    if _is_number(kind) or pa.types.is_boolean(kind):
        return scalar.as_py()
    return None


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )
