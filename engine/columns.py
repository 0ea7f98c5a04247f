"""What users write in the brackets of a verb, as named expressions: strings are columns, other values literals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kernelmill.engine.errors import BadSettingError, Code, error
from kernelmill.engine.expr import Expr, as_node
from kernelmill.engine.nodes import Call, Column, Node
from kernelmill.engine.options import column_name
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.typing import check_depth, output_name

Columns = Any
"""A column's name, an expression, or a list of these."""


def expand(values: Iterable[Columns]) -> list[NamedNode]:
    """Name each expression; lists and `km.col("a", "b")` give several. KM0107 for what is no column."""
    return [NamedNode(output_name(node), unaliased(node)) for value in values for node in _nodes(value)]


def expand_named(values: Iterable[Columns], named: Mapping[str, Any]) -> list[NamedNode]:
    """The same, then the keyword arguments `name=expression`, where a value that is no expression is a literal."""
    return expand(values) + [
        NamedNode(column_name(name), unaliased(_one(name, value))) for name, value in named.items()
    ]


def predicates(conditions: Iterable[Any], equals: Mapping[str, Any]) -> list[Node]:
    """The conditions of a filter, and `column == value` for each keyword argument. KM0107 if there are none."""
    nodes = [unaliased(node) for condition in conditions for node in _nodes(condition, "filter")]
    nodes += [check_depth(Call("eq", (Column(name), as_node(value)))) for name, value in equals.items()]
    if not nodes:
        raise error(Code.BAD_SETTING, "filter needs a condition", hint='filter(km.col("n") > 3)')
    return nodes


def join_keys(on: Columns, left_on: Columns, right_on: Columns, how: str) -> tuple[list[NamedNode], list[NamedNode]]:
    """The keys of both sides of a join: `on` for both, or one for each; none for cross. KM0107 for anything else."""
    given = [name for name, value in (("on", on), ("left_on", left_on), ("right_on", right_on)) if value is not None]
    if how == "cross":
        if given:
            raise error(Code.BAD_SETTING, f"a cross join has no {given[0]}=", hint="leave it out, or say how='inner'")
        return [], []
    if given == ["on"]:
        left_on = right_on = on
    elif given != ["left_on", "right_on"]:
        what = "a join needs on=, or left_on= and right_on=" + (f", not {' and '.join(given)}" if given else "")
        raise error(Code.BAD_SETTING, what, hint='join(other, on="id"); all pairs: how="cross"')
    left, right = expand((left_on,)), expand((right_on,))
    if not left:
        raise error(Code.BAD_SETTING, "a join needs at least one key", hint='join(other, on="id")')
    return left, right


def asof_keys(on: Columns, left_on: Columns, right_on: Columns) -> tuple[NamedNode, NamedNode]:
    """What rows of both sides of a join_asof are compared by: one column each. KM0107 for anything else."""
    try:
        left, right = join_keys(on, left_on, right_on, "asof")
    except BadSettingError as problem:
        problem.hint = 'join_asof(other, on="time"), or left_on= and right_on='
        raise
    if len(left) != 1 or len(right) != 1:
        what = f"join_asof compares one column of each side, not {max(len(left), len(right))}"
        raise error(
            Code.BAD_SETTING, what, hint='columns that must be equal are by=: join_asof(other, on="time", by="id")'
        )
    return left[0], right[0]


def _one(name: str, value: Any) -> Node:
    """The expression of `name=value`; a string is a column here too."""
    nodes = _nodes(value) if isinstance(value, str | Expr | list | tuple) else [as_node(value)]
    if len(nodes) != 1:
        what = f"{name}= takes one expression, this is {len(nodes)}"
        raise error(Code.BAD_SETTING, what, hint="name them one by one")
    return nodes[0]


def _nodes(value: Any, verb: str = "") -> list[Node]:
    if isinstance(value, Expr):
        return [check_depth(value.node)]
    if isinstance(value, str) and verb != "filter":
        return [Column(value)]
    if isinstance(value, list | tuple):
        return [node for item in value for node in _nodes(item, verb)]
    if isinstance(value, bool):  # the result of comparing names, not columns
        hint = 'compare columns: km.col("n") > 3, not "n" > 3'
        raise error(Code.BAD_SETTING, f"{value!r} is no expression", hint=hint)
    what = f"{value!r} is no expression" if verb else f"{value!r} is no column"
    raise error(Code.BAD_SETTING, what, hint='give a name, km.col("name"), or km.lit(value)')
