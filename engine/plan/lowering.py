"""From verbs that take expressions to plan nodes over plain columns.

`group_by(keys).agg(expressions)`: a Project for what is computed before, the Aggregate over plain
columns, and a Project for what is computed from aggregates, such as `max - min`. Equal aggregates are made once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Aggregate as AggregateNode
from kernelmill.engine.nodes import Alias, Column, Literal, Node
from kernelmill.engine.origin import located
from kernelmill.engine.plan.derived import basic
from kernelmill.engine.plan.logical import Aggregate, LogicalPlan, Project, Sort, keep
from kernelmill.engine.plan.physical import AggSpec, NamedNode
from kernelmill.engine.typing import children, columns_of, contains_aggregate, node_text, rebuild, type_of

_ANY_VALUE = Literal(pa.scalar(True, pa.bool_()))  # made once: without its type pyarrow looks for dateutil


def lower_group_by(
    below: LogicalPlan, keys: Sequence[NamedNode], outputs: Sequence[NamedNode], origin: str
) -> LogicalPlan:
    """Plan one row a group: the `keys`, then the `outputs`, expressions over aggregates and keys.

    Without keys all rows are one group, also if there are none.
    Raises KM0102 for an output that is not an aggregate, KM0101 and KM0103 as every verb does.
    """
    with located(origin):
        return _lower(below, keys, outputs, origin)


def _lower(below: LogicalPlan, keys: Sequence[NamedNode], outputs: Sequence[NamedNode], origin: str) -> LogicalPlan:
    key_names = [key.name for key in keys]
    _check(below.schema, keys, outputs)
    taken = {*below.schema.names, *key_names, *(output.name for output in outputs)}
    before = {key.name: key.node for key in keys}
    inputs: dict[Node, str] = {}
    specs: dict[tuple[Any, ...], AggSpec] = {}

    def input_column(node: Node) -> str:
        """The column, before grouping, that holds an aggregate's input."""
        bare = unaliased(node)
        if bare not in inputs:
            name = bare.name if isinstance(bare, Column) else short_text(bare)
            if before.get(name, bare) != bare or (name in taken and not isinstance(bare, Column)):
                name = _fresh(short_text(bare), taken | set(before))
            before[name] = bare
            inputs[bare] = name
        return inputs[bare]

    def spec_of(node: AggregateNode, wanted: str | None) -> AggSpec:
        column = None if node.input is None else input_column(node.input)
        more = tuple(map(input_column, node.more))
        where = None if node.where is None else input_column(node.where)
        same = (node.kind, column, more, node.options, where)
        if same not in specs:
            text = f"{node.kind}({column or ''})"
            if more or node.options or where:
                text = short_text(node)
            name = wanted or _fresh(text, taken | {spec.name for spec in specs.values()})
            specs[same] = AggSpec(name, *same)
        return specs[same]

    after: list[NamedNode] = [NamedNode(name, Column(name)) for name in key_names]
    plain = [(output, basic(unaliased(output.node), below.schema)) for output in outputs]
    for output, node in plain:  # first those that are aggregates themselves: they give their names
        if isinstance(node, AggregateNode):
            spec_of(node, output.name)
    for output, node in plain:
        after.append(NamedNode(output.name, _above(node, lambda agg: Column(spec_of(agg, None).name))))

    if any(node != Column(name) for name, node in before.items()):
        below = Project(below, tuple(NamedNode(name, node) for name, node in before.items()), origin=origin)
    plan: LogicalPlan = Aggregate(below, tuple(key_names), tuple(specs.values()), origin=origin)
    if [NamedNode(name, Column(name)) for name in plan.schema.names] != after:
        plan = Project(plan, tuple(after), origin=origin)
    return plan


def lower_sort(
    plan: LogicalPlan,
    columns: Sequence[NamedNode],
    down: tuple[bool, ...],
    last: tuple[bool, ...],
    limit: int | None,
    origin: str,
) -> LogicalPlan:
    """Sort by expressions: those that are no column are computed before and dropped after."""
    names = list(plan.schema.names)
    computed: list[NamedNode] = []
    by: list[str] = []
    for column in columns:
        if isinstance(column.node, Column):
            by.append(column.node.name)
            continue
        name = f"sort key {len(computed)}"
        while name in names:
            name += "'"
        computed.append(NamedNode(name, column.node))
        by.append(name)
    below = Project(plan, (*keep(plan.schema, names), *computed), origin=origin) if computed else plan
    ordered = Sort(below, tuple(zip(by, down, last, strict=True)), limit, origin=origin)
    return Project(ordered, keep(plan.schema, names), origin=origin) if computed else ordered


def short_text(node: Node) -> str:
    """An expression as the name of a column that holds it: `x * 2` for `col("x") * 2`."""
    return re.sub(r'col\("([^"]*)"\)', r"\1", node_text(node))


def unaliased(node: Node) -> Node:
    """`node` without the names given to it from outside."""
    while isinstance(node, Alias):
        node = node.input
    return node


def _above(node: Node, column_of: Callable[[AggregateNode], Node]) -> Node:
    """`node` with each aggregate in it replaced by the column that holds its result."""
    if isinstance(node, AggregateNode):
        return column_of(node)
    return rebuild(node, lambda below: _above(below, column_of))


def _check(schema: pa.Schema, keys: Sequence[NamedNode], outputs: Sequence[NamedNode]) -> None:
    for key in keys:
        if contains_aggregate(key.node):
            text = node_text(key.node)
            raise error(Code.TYPE_MISMATCH, f"group_by({text}): a key is a value of each row", hint="aggregate in agg")
        type_of(key.node, schema)
    key_names = {key.name for key in keys}
    for output in outputs:
        type_of(output.node, schema)
        _check_nesting(output.node)
        loose = columns_of(_above(output.node, lambda agg: _ANY_VALUE)) - key_names
        if loose or not (contains_aggregate(output.node) or columns_of(output.node)):
            verb = "agg" if keys else "select"
            what = f"{verb}({node_text(output.node)}) is not one value {'a group' if keys else 'of all rows'}"
            name = min(loose, default="x")
            hint = f'aggregate it: km.col("{name}").sum(), .min(), .max(), .mean() or .count()'
            raise error(Code.TYPE_MISMATCH, what, hint=hint)


def _check_nesting(node: Node, inside: bool = False) -> None:
    is_aggregate = isinstance(node, AggregateNode)
    if is_aggregate and inside:
        raise error(Code.TYPE_MISMATCH, f"{node_text(node)} is inside another aggregate", hint="group twice")
    for below in children(node):
        _check_nesting(below, inside or is_aggregate)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name
