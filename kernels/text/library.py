"""All that compiled user functions may do with a Text: importing this module tells numba.

Equal to `str`, to the last character and with the same exceptions, but for these:

    hash(text)         XXH64 of the partition contract as an int64: Python's own is another in each process
    int(text)          OverflowError beyond 64 bits
    text.split()       the pieces, found when asked for: they iterate, unpack, compare by `in`, have len, indexes and
                       slices as lists have, but are none: nothing can be appended; list(text.split()) is one
    re.findall(...)    of a pattern that is one class of characters, repeated; the same
    text.split()       that is changed, or stands beside a list, is a list in users' functions (functions/splitlists)
    str(5)             a Text in users' functions that have a Text or an emit among their arguments (functions/strings);
    "a" if x else "b"  the same. Else one of numba's strings, which may stand beside a Text in ==, +, in, join, find
                       and all others, but not in one variable

Not compiled: repr, str of all but text, int and bool, all but the len of what encode() gives, format, translate,
maketrans, expandtabs, format specifications in f-strings, None for the places that find and its like take, find and its
like of a literal ("abc".find(text)), str and repr of pieces.
"""

from __future__ import annotations

from numba import types
from numba.core.registry import cpu_target

from kernelmill.kernels.text import (
    building,
    casing,
    classifying,
    comparing,
    encoded,
    floats,
    integers,
    optionals,
    patterns,
    piecelists,
    searching,
    slicing,
    splitting,
    trimming,
)
from kernelmill.kernels.text.arena import ARENA_BYTES_MIN, forget, new_state
from kernelmill.kernels.text.jitting import keep, result_type, user_function
from kernelmill.kernels.text.pieces import CHARACTERS, LINES, SEPARATED, SPACED, TABLE
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.text.registering import refuse, variants
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.text.views import address, is_ascii, size, text_of, text_of_int, text_of_row, text_of_str

MODULES = (
    building, casing, classifying, comparing, encoded, floats, integers, optionals, patterns, piecelists, searching,
    slicing, splitting, trimming,
)  # fmt: skip
"""The modules whose methods and operators numba knows now."""

__all__ = [
    "ARENA_BYTES_MIN",
    "MODULES",
    "TEXT",
    "address",
    "forget",
    "is_ascii",
    "keep",
    "new_state",
    "size",
    "text_of",
    "text_of_int",
    "text_of_row",
    "text_of_str",
    "user_function",
    "warm",
]


for _family in (types.Float, types.Complex, types.BaseTuple, types.List, types.NoneType, types.Array):
    refuse(_family, "__str__", "__repr__")  # numba's str(1.5) is "<object type:float64>"


def warm() -> int:
    """Compile the helpers behind all methods for the types that nearly all calls have; returns how many these are.

    Worth its ten seconds where `keep` keeps them: a user function is then compiled in a fifth of the time.
    """
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    for function, kinds in variants():
        result_type(function, kinds)
    for pieces in (SPACED, SEPARATED, LINES, CHARACTERS, TABLE):
        result_type(pieces.begin, (pieces, WORDS) if pieces.room_words else (pieces,))
        result_type(pieces.step, (pieces, pieces.state))
    return len(variants())
