"""What an expression is, given the columns it reads: its type, its name, the columns it needs; and rewriting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.aggregates import AVERAGES, is_averaged, opened, result_of
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.functions import FUNCTIONS, VALUE_TESTS
from kernelmill.engine.node_text import cast_text
from kernelmill.engine.node_text import node_text as node_text
from kernelmill.engine.nodes import Aggregate, Alias, Call, Cast, Column, Literal, MapValues, Node, Tokenize
from kernelmill.engine.nodes import children as children
from kernelmill.engine.nodes import depth_of as depth_of
from kernelmill.engine.nodes import rebuild as rebuild
from kernelmill.engine.nodes import walk as walk
from kernelmill.engine.promotion import Arg, arg_of, can_cast, is_bytes, is_text, number_for, plain_type
from kernelmill.engine.schema import dtype_text, find

DEPTH_MAX = 250
"""Expressions one in another: most functions here go three calls a step down, and Python allows 1000."""


def type_of(node: Node, schema: pa.Schema, *, where: str = "") -> pa.Field[Any]:
    """The field (name, type, nullable) that `node` gives over rows of `schema`.

    `where` is the user's file and line. KM0101 for a column that is not there, KM0102 for a type that does not go.
    """
    try:
        dtype, nullable = _type_of(node, schema)
    except KernelmillError as exc:
        exc.where = exc.where or where
        raise
    return pa.field(output_name(node), dtype, nullable=nullable)


def output_name(node: Node) -> str:
    """The name of the column that `node` makes when no other is given: that of its leftmost column, as in Polars."""
    match node:
        case Column(name=name) | Alias(name=name):
            return name
        case Literal():
            return "literal"
        case Call(function="if_else", args=args):
            return output_name(args[1])
        case Call(args=args):
            return output_name(args[0])
        case Aggregate(kind=kind, input=taken):
            return kind if taken is None else output_name(taken)
        case Cast(input=below) | Tokenize(input=below) | MapValues(input=below):
            return output_name(below)


def columns_of(node: Node) -> set[str]:
    """The names of all input columns that `node` reads."""
    return {below.name for below, _ in walk(node) if isinstance(below, Column)}


def read_beside_tests(node: Node) -> set[str]:
    """The columns that `node` reads for more than to test their values against literals."""
    if isinstance(node, Column):
        return {node.name}
    below = [one.input if isinstance(one, Alias) else one for one in children(node)]
    if isinstance(node, Call) and node.function in VALUE_TESTS:
        columns = [one for one in below if not isinstance(one, Literal)]
        if len(columns) == 1 and isinstance(columns[0], Column):
            return set()
    return set().union(*map(read_beside_tests, below))


def contains_aggregate(node: Node) -> bool:
    """Tell whether an aggregate occurs anywhere in `node`."""
    return any(isinstance(below, Aggregate) for below, _ in walk(node))


def check_depth(node: Node) -> Node:
    """Give back `node`; KM0107 where it is nested more than DEPTH_MAX deep."""
    if depth_of(node) > DEPTH_MAX:
        what = f"an expression has more than {DEPTH_MAX} others one in another"
        raise error(Code.BAD_SETTING, what, hint="compute parts of it first, by with_columns")
    return node


def substitute(node: Node, mapping: Mapping[str, Node]) -> Node:
    """`node` with each column named in `mapping` replaced by the expression there.

    What a bare literal stands for was settled where it was written: it keeps the type that it has alone.
    """
    if isinstance(node, Column):
        return _settled(mapping[node.name]) if node.name in mapping else node
    return rebuild(node, lambda below: substitute(below, mapping))


def _settled(node: Node) -> Node:
    while isinstance(node, Alias):
        node = node.input
    return msgspec.structs.replace(node, bare=False) if isinstance(node, Literal) else node


def _type_of(node: Node, schema: pa.Schema) -> tuple[pa.DataType, bool]:
    match node:
        case Column(name=name):
            field = find(schema, name)
            return field.type, field.nullable
        case Literal(value=value):
            return value.type, not value.is_valid
        case Alias(input=below):
            return _type_of(below, schema)
        case Call(function=function, args=args, options=options):
            if function not in FUNCTIONS:
                raise error(Code.INTERNAL, f"no function is called {function!r}")
            signature = FUNCTIONS[function].rule(function, [_arg(arg, schema) for arg in args], dict(options))
            return signature.result, signature.nullable
        case Cast():
            return _cast_type(node, schema)
        case Tokenize(input=below):
            dtype, nullable = _type_of(below, schema)
            if not (is_text(dtype) or is_bytes(dtype)):
                what = f"{node_text(node)} needs text, {node_text(below)} is {dtype_text(dtype)}"
                raise error(Code.TYPE_MISMATCH, what, hint=cast_text(below, pa.string()))
            item = pa.field("item", pa.string() if is_text(dtype) else pa.binary(), nullable=False)
            return pa.list_(item), nullable
        case MapValues(input=below, dtype=made):
            return made or plain_type(_type_of(below, schema)[0]), True
        case Aggregate():
            return _aggregate_type(node, schema)


def _arg(node: Node, schema: pa.Schema) -> Arg:
    dtype, nullable = _type_of(node, schema)
    return arg_of(node, dtype, nullable)


def _cast_type(node: Cast, schema: pa.Schema) -> tuple[pa.DataType, bool]:
    dtype, nullable = _type_of(node.input, schema)
    if not can_cast(plain_type(dtype), node.dtype):
        what = f"{node_text(node.input)} is {dtype_text(dtype)}, which cannot be cast to {dtype_text(node.dtype)}"
        raise error(Code.TYPE_MISMATCH, what, hint="cast over a type between them, or cast its parts")
    return node.dtype, nullable or not node.strict


def _aggregate_type(node: Aggregate, schema: pa.Schema) -> tuple[pa.DataType, bool]:
    if node.input is None and node.where is None:
        return pa.int64(), False
    if any(contains_aggregate(one) for one in children(node)):
        what = f"{node_text(node)} takes an aggregate of an aggregate"
        raise error(Code.TYPE_MISMATCH, what, hint="aggregate twice: group_by(...).agg(...) and again on its result")
    taken = [] if node.input is None else [_described(one, schema) for one in (node.input, *node.more)]
    if node.kind in ("sum", "product", *AVERAGES):
        for one, field in zip((node.input, *node.more), taken, strict=True):
            assert one is not None
            adds_up = node.kind == "sum" and pa.types.is_duration(opened(field.type))
            if not (adds_up or is_averaged(opened(field.type))):
                what = f"{node_text(node)} needs numbers, {field.name} is {dtype_text(field.type)}"
                raise error(Code.TYPE_MISMATCH, what, hint=_as_number(one, field.type, f".{node.kind}()"))
    if node.where is not None:
        tested, _ = _type_of(node.where, schema)
        if not pa.types.is_boolean(tested):
            what = f"{node_text(node)} needs a boolean, {node_text(node.where)} is {dtype_text(tested)}"
            raise error(Code.TYPE_MISMATCH, what, hint="compare it, such as > 0")
    result = result_of(node.kind, taken, may_be_empty=node.where is not None)
    return result.type, result.nullable


def _as_number(node: Node, dtype: pa.DataType, call: str) -> str:
    target = number_for(dtype)
    if target is not None:
        return f"{cast_text(node, target)}{call}"
    return "explode it first, or take a part of it" if pa.types.is_nested(dtype) else "take it of a column of numbers"


def _described(node: Node, schema: pa.Schema) -> pa.Field[Any]:
    dtype, nullable = _type_of(node, schema)
    return pa.field(node_text(node), dtype, nullable=nullable)
