"""Aggregates that are made of others: any and all of max and min, std of var, median of a quantile."""

from __future__ import annotations

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.aggregates import opened
from kernelmill.engine.nodes import Aggregate, Call, Cast, Literal, Node
from kernelmill.engine.typing import rebuild, type_of

_MEDIAN = (("q", 0.5), ("interpolation", "linear"))
_EXTREME = {"any": "max", "all": "min"}


def basic(node: Node, schema: pa.Schema) -> Node:
    """`node` over rows of `schema`, with each aggregate in it made of those that have states of their own."""
    if not isinstance(node, Aggregate) or node.input is None:
        return rebuild(node, lambda below: basic(below, schema))
    match node.kind:
        case "any" | "all":  # of nothing: no value is true, and none is false
            extreme = replace(node, kind=_EXTREME[node.kind])
            return Call("fill_null", (extreme, Literal(pa.scalar(node.kind == "all"))))
        case "std":
            return Call("sqrt", (basic(replace(node, kind="var"), schema),))
        case "median":
            return basic(replace(node, kind="quantile", options=_MEDIAN), schema)
        case "mean" | "var" | "quantile" | "corr":
            more = tuple(_as_float(one, schema) for one in node.more)
            return replace(node, input=_as_float(node.input, schema), more=more)
    return node


def _as_float(node: Node, schema: pa.Schema) -> Node:
    """Decimals as floats: states of means are floats."""
    is_decimal = pa.types.is_decimal(opened(type_of(node, schema).type))
    return Cast(node, pa.float64()) if is_decimal else node
