"""`describe`: what the values of each column are like, all found in one pass over the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.expr import Expr, col
from kernelmill.engine.expr import len as rows
from kernelmill.engine.promotion import is_number
from kernelmill.engine.pyvalues import python_value

if TYPE_CHECKING:  # frame imports this module
    from kernelmill.engine.frame import LazyFrame

STATISTICS = ("count", "null_count", "mean", "std", "min", "25%", "50%", "75%", "max")
_SHARES = {"25%": 0.25, "50%": 0.5, "75%": 0.75}


def described(frame: LazyFrame) -> pa.Table:
    """A row for each of STATISTICS, a column for each of the frame's: float64 for numbers and booleans, else text.

    A statistic that values of a type do not have is null.
    """
    schema = frame._plan.schema
    wanted = {(at, name): made for at, field in enumerate(schema) for name, made in _aggregates(frame, field).items()}
    found = frame.select(rows().alias("rows"), *(made.alias(f"{at} {name}") for (at, name), made in wanted.items()))
    row = found.collect().to_arrow()
    count = row.column("rows")[0].as_py()
    columns: dict[str, Any] = {"statistic": pa.array(STATISTICS)}
    for at, field in enumerate(schema):
        values: dict[str, Any] = {name: row.column(f"{at} {name}")[0] for name in STATISTICS if (at, name) in wanted}
        told = {name: python_value(value) for name, value in values.items()}
        told["null_count"] = count - told["count"]
        if _is_measured(field.type):
            numbers = [None if told.get(name) is None else float(told[name]) for name in STATISTICS]
            columns[_free(field.name, columns)] = pa.array(numbers, pa.float64())
        else:
            texts = [None if told.get(name) is None else str(told[name]) for name in STATISTICS]
            columns[_free(field.name, columns)] = pa.array(texts, pa.string())
    return pa.table(columns)


def _aggregates(frame: LazyFrame, field: pa.Field[Any]) -> dict[str, Expr]:
    """What is asked of a column."""
    column, kind = col(field.name), field.type
    made = {"count": column.count()}
    if pa.types.is_boolean(kind):
        number = column.cast("int8")
        return {**made, "mean": number.mean(), "min": number.min(), "max": number.max()}
    if is_number(kind):
        made |= {"mean": column.mean(), "std": column.std(), "min": column.min(), "max": column.max()}
        return {**made, **{name: column.quantile(share) for name, share in _SHARES.items()}}
    return {**made, "min": column.min(), "max": column.max()} if _has_order(frame, column) else made


def _has_order(frame: LazyFrame, column: Expr) -> bool:
    try:
        frame.select(column.min())
    except KernelmillError as exc:
        if exc.code is not Code.TYPE_MISMATCH:
            raise
        return False
    return True


def _is_measured(kind: pa.DataType) -> bool:
    return is_number(kind) or pa.types.is_boolean(kind)


def _free(name: str, taken: dict[str, Any]) -> str:
    """`name`, or another where the frame itself has a column `statistic`."""
    while name in taken:
        name += "'"
    return name
