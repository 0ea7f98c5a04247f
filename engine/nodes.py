"""Expression nodes: frozen values with structural equality; `engine/expr` is the user's handle on them.

Types are Arrow types. Nodes know nothing of schemas; `typing.type_of(node, schema)` does.
"""

from __future__ import annotations

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


class Aggregate(msgspec.Struct, frozen=True, tag="agg"):
    """One value a group: `kind` is len, count, sum, mean, min or max; `input` is None for len only."""

    kind: str
    input: Node | None


Node = Column | Literal | Call | Cast | Alias | Tokenize | Aggregate
