"""Rewrites around the nodes of `rowlogical`, as pure as those of `rules`: filters, columns, limits sink into them."""

from __future__ import annotations

from collections.abc import Callable

from kernelmill.engine.plan.logical import Filter, Limit, LogicalPlan, Project, with_input, with_inputs
from kernelmill.engine.plan.rowlogical import Concat, RowIndex, Unique, Unpivot
from kernelmill.engine.plan.rules import may_fail, split_filter
from kernelmill.engine.typing import columns_of


def merge_concats(plan: LogicalPlan) -> LogicalPlan:
    """Frames put together of frames that were put together are put together once."""
    if not (isinstance(plan, Concat) and any(isinstance(below, Concat) for below in plan.frames)):
        return plan
    frames = [one for below in plan.frames for one in (below.frames if isinstance(below, Concat) else (below,))]
    return Concat(tuple(frames), origin=plan.origin)


def push_into_concat(plan: LogicalPlan) -> LogicalPlan:
    """A Filter or Project of frames that are put together is done in each: fewer and narrower rows change places."""
    if not (isinstance(plan, Filter | Project) and isinstance(plan.input, Concat)):
        return plan
    concat = plan.input
    made = with_inputs(concat, tuple(with_input(plan, frame) for frame in concat.frames))
    # an expression may be free of nulls in each frame, and not be known to be so over all of them
    return made if made.schema.equals(plan.schema) else plan


def push_limit_into_concat(plan: LogicalPlan) -> LogicalPlan:
    """No frame needs to give more rows than are asked for of all."""
    if not (isinstance(plan, Limit) and isinstance(plan.input, Concat)):
        return plan
    concat = plan.input

    def limited(frame: LogicalPlan) -> LogicalPlan:
        is_limited = isinstance(frame, Limit) and frame.rows <= plan.rows
        return frame if is_limited else Limit(frame, plan.rows, origin=plan.origin)

    below = with_inputs(concat, tuple(map(limited, concat.frames)))
    return with_input(plan, below)


def push_limit_below_index(plan: LogicalPlan) -> LogicalPlan:
    """The first rows have the same numbers without the others."""
    if isinstance(plan, Limit) and isinstance(plan.input, RowIndex):
        return with_input(plan.input, with_input(plan, plan.input.input))
    return plan


def push_filter_through_unique(plan: LogicalPlan) -> LogicalPlan:
    """Tests of the keys alone go before: rows that agree in them are kept or dropped together."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, Unique)):
        return plan
    unique = plan.input
    return split_filter(
        plan, lambda node: bool(columns_of(node)) and columns_of(node) <= set(unique.keys), _below(plan)
    )


def push_filter_through_unpivot(plan: LogicalPlan) -> LogicalPlan:
    """Test a row once before it is repeated, where the test is about the index."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, Unpivot)):
        return plan
    index = set(plan.input.index)
    return split_filter(plan, lambda node: columns_of(node) <= index and not may_fail(node), _below(plan))


def _below(plan: Filter) -> Callable[..., LogicalPlan]:
    """Puts a filter by a part of the predicate below the node that `plan` filters."""
    node = plan.input
    return lambda predicate: with_input(node, Filter(node.inputs[0], predicate, origin=plan.origin))
