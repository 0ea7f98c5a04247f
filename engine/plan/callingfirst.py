"""Functions of users in expressions become plan nodes: first the values that each gets, then what it makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernelmill.engine.nodes import Column, MapValues, Node, rebuild, walk
from kernelmill.engine.plan.logical import Filter, LogicalPlan, Project, keep
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.userlogical import MapColumn
from kernelmill.engine.typing import type_of


def call_first(plan: LogicalPlan) -> LogicalPlan:
    """Let `Expr.map_batches` in the expressions of a node run below it; equal calls run once."""
    match plan:
        case Project(columns=columns):
            nodes = [column.node for column in columns]
        case Filter(predicate=predicate):
            nodes = [predicate]
        case _:
            return plan
    if not any(_calls(nodes)):
        return plan
    below = plan.input
    while call := next(_calls(nodes), None):
        below, name = _called(below, call, plan.origin)
        nodes = [_replaced(node, call, Column(name)) for node in nodes]
    if isinstance(plan, Project):
        named = zip(plan.columns, nodes, strict=True)
        return Project(below, tuple(NamedNode(old.name, node) for old, node in named), origin=plan.origin)
    kept = Filter(below, nodes[0], origin=plan.origin)
    return Project(kept, keep(plan.schema, plan.schema.names), origin=plan.origin)


def _calls(nodes: Iterable[Node]) -> Iterator[MapValues]:
    """The calls whose values are made without another one."""
    for node in nodes:
        for below, _ in walk(node):
            if isinstance(below, MapValues) and not any(isinstance(one, MapValues) for one, _ in walk(below.input)):
                yield below


def _called(plan: LogicalPlan, call: MapValues, origin: str) -> tuple[LogicalPlan, str]:
    """The plan with the column that a call makes, and its name."""
    made = type_of(call, plan.schema)
    if isinstance(call.input, Column):
        column = call.input.name
    else:
        column = _fresh("values", plan)
        given = (*keep(plan.schema, plan.schema.names), NamedNode(column, call.input))
        plan = Project(plan, given, origin=origin)
    name = _fresh(call.function.name, plan)
    return MapColumn(plan, call.function, column, made.with_name(name), origin=origin), name


def _fresh(name: str, plan: LogicalPlan) -> str:
    while name in plan.schema.names:
        name += "'"
    return name


def _replaced(node: Node, call: MapValues, column: Column) -> Node:
    return column if node == call else rebuild(node, lambda below: _replaced(below, call, column))
