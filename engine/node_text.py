"""Expressions as text, for explain and for errors: `(col("n") + 1).cast("int64") > 3`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from kernelmill.engine.nodes import (
    Aggregate,
    Alias,
    Call,
    Cast,
    Column,
    Literal,
    MapValues,
    Node,
    Tokenize,
    children,
    depth_of,
    rebuild,
)
from kernelmill.engine.pyvalues import python_value
from kernelmill.engine.schema import dtype_text

# Infix operators: function -> (symbol, Python's precedence of it)
_INFIX: dict[str, tuple[str, int]] = {
    **{"eq": ("==", 1), "ne": ("!=", 1), "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1)},
    **{"or": ("|", 2), "xor": ("^", 3), "and": ("&", 4), "add": ("+", 5), "sub": ("-", 5)},
    **{"mul": ("*", 6), "truediv": ("/", 6), "floordiv": ("//", 6), "mod": ("%", 6), "pow": ("**", 8)},
}
_PREFIX = {"neg": "-", "not": "~"}
_PREFIX_LEVEL = 7
_ATOM_LEVEL = 9
_DEPTH_MAX = 100  # of what is shown: each step down takes three calls, and Python allows 1000
_DEEPER = "\ud800"  # no column can be called so


def node_text(node: Node) -> str:
    """The expression as a user would write it; `...` stands for what is very deep inside."""
    return _text(node if depth_of(node) <= _DEPTH_MAX else _without_depths(node, _DEPTH_MAX))[0]


def _without_depths(node: Node, levels: int) -> Node:
    if not levels and children(node):
        return Column(_DEEPER)
    return rebuild(node, lambda below: _without_depths(below, levels - 1))


def cast_text(node: Node, dtype: pa.DataType) -> str:
    """How a user would cast the expression, for hints."""
    return node_text(Cast(node, dtype))


def _text(node: Node) -> tuple[str, int]:
    match node:
        case Column(name=name):
            return "..." if name == _DEEPER else f'col("{name}")', _ATOM_LEVEL
        case Literal(value=value):
            text = _value_text(value)
            return text, _PREFIX_LEVEL if text.startswith("-") else _ATOM_LEVEL
        case Call():
            return _call_text(node)
        case Cast(input=below, dtype=dtype, strict=strict):
            return f'{_at(below, 9)}.cast("{dtype_text(dtype)}"{"" if strict else ", strict=False"})', _ATOM_LEVEL
        case Alias(input=below, name=name):
            return f'{_at(below, 9)}.alias("{name}")', _ATOM_LEVEL
        case Tokenize():
            return f"{_at(node.input, 9)}.str.tokenize({_tokenize_text(node)})", _ATOM_LEVEL
        case MapValues(input=below, function=function):
            return f"{_at(below, 9)}.map_batches({function.name})", _ATOM_LEVEL
        case Aggregate(kind=kind, input=taken, more=more, options=options, where=where):
            inner = [_text(one)[0] for one in more] + [f"{name}={value!r}" for name, value in options]
            called = f"{kind}({', '.join(inner)})"
            called = called if taken is None else f"{_at(taken, 9)}.{called}"
            return called if where is None else f"{called}.filter({_text(where)[0]})", _ATOM_LEVEL


def _at(node: Node, level: int) -> str:
    text, own = _text(node)
    if isinstance(node, Literal) and level == _ATOM_LEVEL:
        return f"lit({text})"  # a method is called on it
    return text if own >= level else f"({text})"


def _call_text(node: Call) -> tuple[str, int]:
    if node.function in _INFIX:
        symbol, level = _INFIX[node.function]
        left, right = node.args
        # a comparison in a comparison needs parentheses on both sides: Python would chain them
        left_level = level + 1 if level == 1 or node.function == "pow" else level
        return f"{_operand(left, left_level)} {symbol} {_operand(right, level + 1)}", level
    if node.function in _PREFIX:
        return f"{_PREFIX[node.function]}{_operand(node.args[0], _PREFIX_LEVEL)}", _PREFIX_LEVEL
    if node.function == "if_else":
        test, then, otherwise = (_text(arg)[0] for arg in node.args)
        return f"when({test}).then({then}).otherwise({otherwise})", _ATOM_LEVEL
    first, *others = node.args
    inner = [_text(other)[0] for other in others]
    inner += [f"{name}={value!r}" for name, value in node.options]
    return f"{_at(first, _ATOM_LEVEL)}.{node.function}({', '.join(inner)})", _ATOM_LEVEL


def _operand(node: Node, level: int) -> str:
    text, own = _text(node)
    return text if own >= level or isinstance(node, Literal) else f"({text})"


def _tokenize_text(node: Tokenize) -> str:
    parts = [f"separators={node.separators!r}" if node.mode == "separators" else f'"{node.mode}"']
    parts += ["lowercase=True"] if node.lowercase else []
    parts += [f"min_len={node.min_len}"] if node.min_len != 1 else []
    return ", ".join(parts)


def _value_text(value: pa.Scalar[Any]) -> str:
    if pa.types.is_list(value.type) and value.is_valid:
        items: Any = value.values  # type: ignore[attr-defined]
        shown = [_value_text(item) for item in items[:10]]
        return f"[{', '.join(shown)}{', ...' if len(items) > 10 else ''}]"
    if not value.is_valid:
        return "None"
    if pa.types.is_duration(value.type):
        return f'"{value.cast(pa.int64())} {value.type.unit}"'  # as_py() of nanoseconds would need pandas
    if pa.types.is_temporal(value.type):
        return f'"{python_value(value)}"'
    plain = python_value(value)
    text = f'"{plain}"' if isinstance(plain, str) else repr(plain)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"
