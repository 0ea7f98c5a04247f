r"""The pieces that `re.findall` gives for one class of characters, repeated: `[A-Za-z0-9_]+`, `\w+`, `[^,;]{2,}`.

Such a match is a run of characters of the class that no other such character touches, so runs are found 64 bytes at a
time, as words are. What the class holds is asked of `re` itself, character by character.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from kernelmill.kernels.text.classifying import table_test
from kernelmill.kernels.text.jitting import apart, helper, merged
from kernelmill.kernels.text.pieces import NO_LIMIT, LazyPiecesType, iterates, maker
from kernelmill.kernels.text.pointers import lowest_one, moved, ranges_mask
from kernelmill.kernels.text.points import count_points, decode, low_bits, size_at

_ZERO, _ONE, _ASCII_STOP = np.uint64(0), np.uint64(1), 128
_IN_HALF = 63
_RUN = re.compile(
    r"(?P<edge>\\b)?"
    r"(?P<class>\\[wWdDsS]|\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"(?:\+|\{(?P<least>[1-9][0-9]{0,8}),\})"
    r"(?P<stop>\\b)?",
    re.DOTALL,
)
_STATE: Any = types.Tuple((types.int64, types.uint64))


class Runs(NamedTuple):
    """Runs of at least `least` characters of a class: `ranges` of ASCII, and of what is beyond none, all or some."""

    ranges: tuple[tuple[int, int], ...]
    beyond: str
    least: int
    members: frozenset[str]


@cache
def _beyond_ascii() -> str:
    return "".join(map(chr, (*range(_ASCII_STOP, 0xD800), *range(0xE000, sys.maxunicode + 1))))


@cache
def runs_of(pattern: str, flags: int) -> Runs | None:
    """What a pattern finds; None if that is not the runs of one class."""
    found = _RUN.fullmatch(pattern)
    if found is None or flags & (re.DEBUG | re.LOCALE | re.VERBOSE):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what may mean something else one day
            re.compile(pattern, flags)
            one = re.compile(found["class"], flags)
    except (re.error, Warning):
        return None
    members = _members(one)
    if (found["edge"] or found["stop"]) and members != _members(re.compile(r"\w", flags)):
        return None  # at the edges of words there is nothing to ask: a run of \w has no other
    within = [point for point in range(_ASCII_STOP) if chr(point) in members]
    firsts = [point for point in within if point - 1 not in within]
    ranges = tuple((first, next(p for p in range(first, _ASCII_STOP + 1) if p not in within) - 1) for first in firsts)
    outside = len(members) - len(within)
    beyond = "none" if outside == 0 else "all" if outside == len(_beyond_ascii()) else "some"
    kept = members if beyond == "some" else frozenset()
    return Runs(ranges, beyond, int(found["least"] or 1), kept) if members else None


def _members(one: re.Pattern[str]) -> frozenset[str]:
    return frozenset(one.findall("".join(map(chr, range(_ASCII_STOP))) + _beyond_ascii()))


@cache
def finder_of(runs: Runs) -> tuple[LazyPiecesType, Any]:
    """The kind of pieces that these runs are, and the helper that makes them of a text."""
    digest = hashlib.sha256(repr((*runs[:3], "".join(sorted(runs.members)))).encode()).hexdigest()
    kind = LazyPiecesType(f"runs {digest[:16]}", int(digest[:12], 16))

    def begin(pieces: Any) -> Any:
        return -64, _ZERO

    begin.__qualname__ = f"begin({kind.kind})"
    step = _step(runs, kind.kind)
    step.__qualname__ = f"step({kind.kind})"
    iterates(kind, _STATE, helper(begin), merged(step))
    make = maker(kind)

    def find(text: Any) -> Any:
        return make(text, text, NO_LIMIT)

    find.__qualname__ = f"find({kind.kind})"
    return kind, helper(find)


def _step(runs: Runs, name: str) -> Callable[..., Any]:
    """The function of an iterator. The state: block, the bytes in it that are of the class and not yet walked."""
    everywhere = ((_ASCII_STOP, 255),) if runs.beyond == "all" else ()
    mask, least = ranges_mask(*runs.ranges, *everywhere), runs.least
    counts_points = runs.beyond == "all" and least > 1

    def step(pieces: Any, state: Any) -> Any:
        at, members = state
        text = pieces._text
        data, size = text._data, text._size
        while True:
            while members == _ZERO:
                at += 64
                if at >= size:
                    return False, 0, 0, (at, _ZERO)
                members = mask(data, at) & low_bits(size - at)
            start = at + lowest_one(members)
            gaps = ~(members | (members - _ONE))
            while gaps == _ZERO:
                at += 64  # at most to the end: all 64 bytes before were of the class
                members = mask(data, at) & low_bits(size - at)
                gaps = ~members
            stop = at + lowest_one(gaps)
            members &= ~low_bits(stop - at)
            if least == 1 or stop - start >= least:
                return True, start, stop, (at, members)

    def step_counting(pieces: Any, state: Any) -> Any:
        text = pieces._text
        while True:
            found, start, stop, state = step_anyhow(pieces, state)
            if not found or count_points(moved(text._data, start), stop - start) >= least:
                return found, start, stop, state

    if counts_points:
        step_anyhow = step
        step.__qualname__ = f"step_anyhow({name})"
        merged(step)
        return step_counting
    if runs.beyond != "some":
        return step
    step_in_ascii, step_beyond = step, _step_beyond(runs, name)
    step.__qualname__ = f"step_in_ascii({name})"
    merged(step)

    def step_by_text(pieces: Any, state: Any) -> Any:
        if pieces._text._is_ascii:
            return step_in_ascii(pieces, state)
        return step_beyond(pieces, state)

    return step_by_text


def _step_beyond(runs: Runs, name: str) -> Any:
    """As `_step`, one character after the other; the state has where the next one starts."""
    members, least = runs.members, runs.least

    def is_member(character: str) -> bool:
        return character in members

    is_member.__qualname__ = f"is_member({name})"
    ascii_set = sum(1 << point for first, last in runs.ranges for point in range(first, last + 1))
    low, high = np.uint64(ascii_set & (1 << 64) - 1), np.uint64(ascii_set >> 64)
    beyond_ascii = table_test(is_member)

    def step_beyond(pieces: Any, state: Any) -> Any:
        text = pieces._text
        data, size = text._data, text._size
        at = max(state[0], 0)
        start, length = at, 0
        while at < size:
            byte = np.int64(data[at])
            if byte < _ASCII_STOP:
                half = low if byte < 64 else high
                is_in = half >> np.uint64(byte & _IN_HALF) & _ONE != _ZERO
            else:
                is_in = beyond_ascii(decode(data, at))
            if is_in:
                length += 1
            elif length >= least:
                return True, start, at, (at, _ZERO)
            else:
                length = 0
            at += size_at(data, at)
            if length == 0:
                start = at
        return length >= least, start, size, (size, _ZERO)

    step_beyond.__qualname__ = f"step_beyond({name})"
    return apart(step_beyond)
