"""All that compiled user functions may do with a Text: importing this module tells numba."""

from __future__ import annotations

from numba.core.registry import cpu_target

from kernelmill.kernels.text import (
    building,
    casing,
    classifying,
    comparing,
    floats,
    integers,
    piecelists,
    searching,
    slicing,
    splitting,
    trimming,
)
from kernelmill.kernels.text.arena import ARENA_BYTES_MIN, forget, new_state
from kernelmill.kernels.text.jitting import keep, result_type, user_function
from kernelmill.kernels.text.pieces import CHARACTERS, LINES, SEPARATED, SPACED, TABLE
from kernelmill.kernels.text.registering import variants
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.text.views import address, is_ascii, size, text_of, text_of_int, text_of_str

MODULES = (
    building, casing, classifying, comparing, floats, integers, piecelists, searching, slicing, splitting, trimming
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
    "text_of_str",
    "user_function",
    "warm",
]


def warm() -> int:
    """Compile the helpers behind all methods for the types that nearly all calls have; returns how many these are.

    Worth its ten seconds where `keep` keeps them: a user function is then compiled in a fifth of the time.
    """
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    for function, kinds in variants():
        result_type(function, kinds)
    for pieces in (SPACED, SEPARATED, LINES, CHARACTERS, TABLE):
        result_type(pieces.begin, (pieces,))
        result_type(pieces.step, (pieces, pieces.state))
    return len(variants())
