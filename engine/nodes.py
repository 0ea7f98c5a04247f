"""Expression nodes: frozen values with structural equality; `engine/expr` is the user's handle on them.

Types are Arrow types. Nodes know nothing of schemas; `typing.type_of(node, schema)` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa


class Column(msgspec.Struct, frozen=True, tag="col"):
    """The values of the input column `name`."""

    name: str


class Literal(msgspec.Struct, frozen=True, tag="lit"):
    """One value for every row. `bare` marks a Python value that takes the type of the column it meets."""

    value: pa.Scalar[Any]
    bare: bool = False


class Call(msgspec.Struct, frozen=True, tag="call"):
    """A scalar function of the table in `engine/functions`: operators (`add`, `eq`, `and`...), `str.*`, `dt.*`."""

    function: str
    args: tuple[Node, ...]
    options: tuple[tuple[str, str | int | float | bool | None], ...] = ()


class Cast(msgspec.Struct, frozen=True, tag="cast"):
    """`input` as `dtype`; a value that does not fit is an error if `strict`, else null."""

    input: Node
    dtype: pa.DataType
    strict: bool = True


class Alias(msgspec.Struct, frozen=True, tag="alias"):
    """`input` under another output name."""

    input: Node
    name: str


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Lists of the tokens of a text column. `mode` is whitespace, word, identifier, or separators."""

    input: Node
    mode: str
    lowercase: bool = False
    min_len: int = 1
    separators: bytes = b""


class MapValues(msgspec.Struct, frozen=True, tag="map_values"):
    """What a function of the user's makes of the values of `input`; `dtype` None: values of the same type.

    In plans as users write them only: `plan/callingfirst` makes plan nodes of it before there are operators.
    """

    input: Node
    function: Any
    dtype: pa.DataType | None = None


class Aggregate(msgspec.Struct, frozen=True, tag="agg"):
    """One value a group, of kind `kind` (`engine/aggregates`); `input` is None for len only.

    more: what it reads beside its input, such as the other column of corr. where: rows for which it is not true are
    left out.
    """

    kind: str
    input: Node | None
    more: tuple[Node, ...] = ()
    options: tuple[tuple[str, str | int | float], ...] = ()
    where: Node | None = None


Node = Column | Literal | Call | Cast | Alias | Tokenize | MapValues | Aggregate


def depth_of(node: Node) -> int:
    """How many expressions stand one in another; 1 for a column."""
    return max(depth for _, depth in walk(node))


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """`node` and all expressions in it, each with its depth; without recursion, whatever that depth is."""
    waiting = [(node, 1)]
    while waiting:
        here, depth = waiting.pop()
        yield here, depth
        waiting += [(below, depth + 1) for below in children(here)]


def children(node: Node) -> tuple[Node, ...]:
    """The expressions directly below `node`."""
    match node:
        case Call(args=args):
            return args
        case Cast(input=below) | Alias(input=below) | Tokenize(input=below) | MapValues(input=below):
            return (below,)
        case Aggregate(input=below, more=more, where=where):
            return tuple(one for one in (below, *more, where) if one is not None)
        case Column() | Literal():
            return ()


def rebuild(node: Node, change: Callable[[Node], Node]) -> Node:
    """`node` with `change` applied to each expression directly below it."""
    match node:
        case Call(args=args):
            return msgspec.structs.replace(node, args=tuple(map(change, args)))  # map: no frame of its own
        case Cast(input=below) | Alias(input=below) | Tokenize(input=below) | MapValues(input=below):
            return msgspec.structs.replace(node, input=change(below))
        case Aggregate(input=below, more=more, where=where):
            changed = None if below is None else change(below)
            tested = None if where is None else change(where)
            return msgspec.structs.replace(node, input=changed, more=tuple(map(change, more)), where=tested)
        case Column() | Literal():
            return node
