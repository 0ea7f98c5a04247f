"""What numba's types are called to people."""

from __future__ import annotations

from typing import Any

from numba import types

from kernelmill.kernels.text.pieces import PiecesType
from kernelmill.kernels.text.texttype import TEXT

_TITLES = (
    (types.Boolean, "a bool"),
    (types.Integer, "an int"),
    (types.Float, "a float"),
    (types.Complex, "a complex number"),
    (types.List | types.LiteralList, "a list"),
    (PiecesType, "what split gives"),
    (types.DictType | types.LiteralStrKeyDict, "a dict"),
    (types.Set, "a set"),
    (types.BaseTuple, "a tuple"),
    (types.UnicodeType, "text"),
    (types.NoneType, "None"),
    (types.BoundFunction, "a method that is not called"),
    (types.Bytes, "bytes"),
    (types.Array, "an array"),
    (types.RangeType, "a range"),
    (types.SliceType, "a slice"),
    (types.Generator, "a generator"),
    (types.IteratorType, "an iterator"),
    (types.Module, "a module"),
    (types.ClassType | types.NumberClass, "a class"),
    (types.Callable, "a function"),
)
_PLURALS = {"a bool": "bools", "an int": "ints", "a float": "floats", "text": "texts", "a tuple": "tuples"}
_CLASSES: dict[type, str] = {str: "text", bytes: "bytes", int: "an int", float: "a float", list: "a list"}
_BEGINS: tuple[tuple[str, type | None], ...] = (
    ("OptionalType(", None),
    ("Text.encode", bytes),
    ("Text", str),
    ("unicode_type", str),
    ("Literal[str]", str),
    ("int64", int),
    ("Literal[int]", int),
    ("float64", float),
    ("list(", list),
)


def title_of(kind: Any) -> str:
    """A type of numba's for people: `an int`, `text that may be None`; its own name for one that has no other."""
    if isinstance(kind, types.Optional):
        return f"{title_of(kind.type)} that may be None"
    for family, title in _TITLES:
        if isinstance(kind, family):
            return title
    return "bytes" if str(kind).startswith("Text.encode") else "text" if kind == TEXT else str(kind)


def items_title(kind: Any) -> str:
    """The items of a list for people: `ints`, `texts that may be None`."""
    if isinstance(kind, types.Optional):
        return f"{items_title(kind.type)} that may be None"
    return _PLURALS.get(title_of(kind), "other items")


def class_of(text: str) -> tuple[type, str] | None:
    """Python's class, with its title, of values whose type numba writes so; None for others than these."""
    for begin, found in _BEGINS:
        if text.startswith(begin):
            inner = text.removeprefix(begin)
            return class_of(inner) if found is None else (found, _CLASSES[found])
    return None
