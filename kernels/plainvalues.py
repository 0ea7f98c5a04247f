"""Which constants of a user's function are what their types say: code is made of the value alone.

A subclass of str or int has methods of its own, an enum's member a text of its own: machine code would use the base's.
"""

from __future__ import annotations

from enum import Enum, EnumMeta
from typing import Any

_BASES = (str, bytes, int, float, complex)
_OF_TUPLES = tuple(f"__{name}__" for name in "add contains eq ge getitem gt hash iter le len lt mul ne rmul".split())


def why_not_plain(value: Any) -> str:
    """What a constant is, for people, if code must not be made of its value, as "is an enum ..."; nothing if it may be.

    value: any; tuples are looked into, and such as have methods of tuples of their own are not plain. Numbers of numpy
    are what they seem.
    """
    if isinstance(value, Enum | EnumMeta):
        return "is an enum or of one, which compiled functions do not read: give the value, as in LOW = Level.LOW.value"
    if isinstance(value, tuple):
        own = type(value)
        if any(getattr(own, name) is not getattr(tuple, name) for name in _OF_TUPLES):
            return f"is of {own.__name__}, which has methods of its own: compiled functions read plain tuples"
        return next(filter(None, map(why_not_plain, value)), "")
    if isinstance(value, _BASES) and type(value) not in (*_BASES, bool) and type(value).__module__ != "numpy":
        base = next(one for one in _BASES if isinstance(value, one)).__name__
        hint = f"give a plain {base}"
        return f"is of {type(value).__name__}, a subclass of {base}, which compiled functions do not read: {hint}"
    return ""
