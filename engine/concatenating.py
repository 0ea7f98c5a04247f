"""`km.concat`: the rows of several frames, one frame after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.errors import Code, KernelmillError, article, error
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.nodes import Cast, Column, Literal, Node
from kernelmill.engine.options import one_of
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import LogicalPlan, Project
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.rowlogical import Concat
from kernelmill.engine.promotion import common_type
from kernelmill.engine.schema import dtype_text

HOWS = ("vertical", "vertical_relaxed", "diagonal")


def concat(frames: Iterable[LazyFrame | DataFrame], *, how: str = "vertical") -> LazyFrame:
    """Put the rows of `frames` one after the other, in their order.

    how: vertical takes frames of the same columns, in name, order and type; vertical_relaxed widens types that differ;
    diagonal goes by name, with null for a column that a frame lacks. KM0102 names two frames that do not go together.
    """
    origin = users_line()
    with located(origin):
        one_of("how", how, HOWS)
        plans = [_plan_of(frame) for frame in _listed(frames)]
        if how == "diagonal":
            names = list(dict.fromkeys(name for plan in plans for name in plan.schema.names))
        else:
            names = plans[0].schema.names
            for number, plan in enumerate(plans[1:], 2):
                _check_names(plans[0].schema, plan.schema, number)
        types = {name: _type(name, plans, is_relaxed=how == "vertical_relaxed") for name in names}
        same = tuple(_with_columns(plan, types, origin) for plan in plans)
        return LazyFrame(same[0] if len(same) == 1 else Concat(same, origin=origin))


def _listed(frames: object) -> Sequence[object]:
    hint = "give a list of frames: concat([first, second])"
    if isinstance(frames, LazyFrame | DataFrame | str) or not isinstance(frames, Iterable):
        raise error(Code.BAD_SETTING, f"concat cannot take {article(frames)}", hint=hint)
    listed = list(frames)
    if not listed:
        raise error(Code.BAD_SETTING, "concat needs at least one frame", hint=hint)
    return listed


def _plan_of(frame: object) -> LogicalPlan:
    if isinstance(frame, DataFrame):
        frame = frame.lazy()
    if not isinstance(frame, LazyFrame):
        hint = "give frames; km.from_arrow(...) makes one of anything Arrow"
        raise error(Code.BAD_SETTING, f"concat cannot take {article(frame)} among its frames", hint=hint)
    return frame._plan


def _check_names(first: pa.Schema, other: pa.Schema, number: int) -> None:
    if first.names == other.names:
        return
    lacking = [name for name in first.names if name not in other.names]
    more = [name for name in other.names if name not in first.names]
    told = [f"lacks {', '.join(map(repr, lacking))}"] if lacking else []
    told += [f"has {', '.join(map(repr, more))} besides"] if more else []
    what = f"frame {number} of concat {' and '.join(told) or 'has the columns of the first in another order'}"
    hint = 'how="diagonal" goes by name, with null for what a frame lacks'
    raise error(Code.TYPE_MISMATCH, what, hint=hint)


def _type(name: str, plans: Sequence[LogicalPlan], *, is_relaxed: bool) -> pa.DataType:
    """The type of a column in all frames that have it."""
    having = [(n, plan.schema.field(name).type) for n, plan in enumerate(plans, 1) if name in plan.schema.names]
    first, dtype = having[0]
    widest: pa.DataType = dtype
    for number, other in having[1:]:
        if other != widest:
            wider = common_type(widest, other) if is_relaxed else None
            if wider is None:
                raise _mismatch(name, (first, dtype), (number, other), is_relaxed)
            widest = wider
    return widest


def _mismatch(
    name: str, one: tuple[int, pa.DataType], other: tuple[int, pa.DataType], is_relaxed: bool
) -> KernelmillError:
    what = f"column {name!r} is {dtype_text(one[1])} in frame {one[0]} of concat, {dtype_text(other[1])} in {other[0]}"
    can_widen = not is_relaxed and common_type(one[1], other[1]) is not None
    hint = 'how="vertical_relaxed" widens types' if can_widen else f'cast it: .cast({{"{name}": ...}})'
    return error(Code.TYPE_MISMATCH, what, hint=hint)


def _with_columns(plan: LogicalPlan, types: dict[str, pa.DataType], origin: str) -> LogicalPlan:
    """`plan` with exactly these columns."""
    columns = tuple(NamedNode(name, _column(plan.schema, name, dtype)) for name, dtype in types.items())
    is_same = list(types) == plan.schema.names and all(column.node == Column(column.name) for column in columns)
    return plan if is_same else Project(plan, columns, origin=origin)


def _column(schema: pa.Schema, name: str, dtype: pa.DataType) -> Node:
    if name not in schema.names:
        nothing: Any = pa.scalar(None, dtype)
        return Literal(nothing)
    return Column(name) if schema.field(name).type == dtype else Cast(Column(name), dtype)
