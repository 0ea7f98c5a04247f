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
)
_PLURALS = {"a bool": "bools", "an int": "ints", "a float": "floats", "text": "texts", "a tuple": "tuples"}
_BARE = {bool: types.boolean, int: types.int64, float: types.float64, str: TEXT}


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
    """Python's class, with its title, of values whose type numba writes so; None for other than str, int and float."""
    for begin, found in (("OptionalType(", None), ("Text", str), ("unicode_type", str), ("Literal[str]", str),
                         ("int64", int), ("Literal[int]", int), ("float64", float), ("list(", list)):  # fmt: skip
        if text.startswith(begin):
            inner = text.removeprefix(begin)
            return class_of(inner) if found is None else (found, title_of(_BARE[found]) if found in _BARE else "a list")
    return None
