"""What the running Python knows of characters, as small arrays that go into compiled code.

Taken from the methods of `str` themselves, so that a compiled function agrees with the interpreter it runs under,
whatever its Unicode version. Made at the first use of a method that meets a character beyond ASCII when compiled.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_STOP = 0xE0200
"""No code point from here on has a case or is of any class: the rest is private or unassigned."""

_NOTHING_FROM, _NOTHING_TO = 0x40000, 0xE0000

BLOCK_BITS = 6
"""Tables have two stages: the block of 64 code points, then the code point in it."""

SEVERAL = 1 << 28
"""Records of case tables from here on stand for several code points."""

U64s = npt.NDArray[np.uint64]
I32s = npt.NDArray[np.int32]
U16s = npt.NDArray[np.uint16]


@cache
def _points() -> npt.NDArray[np.int64]:
    points = np.concatenate([np.arange(_NOTHING_FROM), np.arange(_NOTHING_TO, _STOP)])
    return points[(points < 0xD800) | (points >= 0xE000)]


@cache
def _characters() -> list[str]:
    return [chr(point) for point in _points()]


@cache
def _about_case() -> list[str]:
    """The characters that may have a case or be case-ignorable: a tenth of all."""
    plain = {"Lo", "Cn", "Co"}  # letters of scripts without cases, and what is assigned to nothing
    return [one for one in _characters() if unicodedata.category(one) not in plain or one.islower()]


def _in_blocks(values: npt.NDArray[Any]) -> tuple[U16s, npt.NDArray[Any]]:
    """The number of each block among the different ones, and these, one after the other."""
    used = np.flatnonzero(values)
    blocks = (int(used[-1]) >> BLOCK_BITS) + 1 if used.size else 0
    number_of: dict[bytes, int] = {}
    rows = values[: blocks << BLOCK_BITS].reshape(blocks, 1 << BLOCK_BITS)
    numbers = [number_of.setdefault(row.tobytes(), len(number_of)) for row in rows]
    return np.array(numbers, np.uint16), np.frombuffer(b"".join(number_of), values.dtype)


@cache
def bits_of(holds: Callable[[str], bool]) -> tuple[U16s, U64s]:
    """For each block of code points the number of its word of 64 bits; the words, a bit set where `holds` is true."""
    bits = np.zeros(_STOP, dtype=np.bool_)
    if holds in (is_cased, is_case_ignorable, is_title, str.isupper, str.islower):
        bits[[ord(one) for one in _about_case() if holds(one)]] = True
    else:
        bits[_points()] = np.fromiter(map(holds, _characters()), np.bool_, len(_characters()))
    numbers, blocks = _in_blocks(bits)
    return numbers, np.packbits(blocks, bitorder="little").view(np.uint64)


@cache
def case_table(change: Callable[[str], str]) -> tuple[U16s, U16s, I32s, I32s]:
    """How `change` maps each character alone: numbers of blocks, blocks of record numbers, records, code points.

    A record is what to add to the code point; or SEVERAL + 4 * i + n for the n code points from points[i] on.
    """
    records, points = [0], [0]
    number_of = {0: 0}
    numbers = np.zeros(_STOP, dtype=np.uint16)
    for character in _about_case():
        changed = change(character)
        if changed == character:
            continue
        if len(changed) == 1:
            record = ord(changed) - ord(character)
        else:
            record = SEVERAL + 4 * len(points) + len(changed)
            points += map(ord, changed)
        if record not in number_of:
            number_of[record] = len(records)
            records.append(record)
        numbers[ord(character)] = number_of[record]
    block_numbers, blocks = _in_blocks(numbers)
    return block_numbers, blocks, np.array(records, np.int32), np.array(points, np.int32)


def is_cased(character: str) -> bool:
    """Unicode's Cased: title() leaves what follows it in lower case."""
    return (character + "a").title()[-1] == "a"


def is_case_ignorable(character: str) -> bool:
    """Unicode's Case_Ignorable: the rule for a final sigma looks through it."""
    if is_cased(character):
        return (character + "Σ").lower()[-1] == "σ"  # noqa: RUF001
    return ("A" + character + "Σ").lower()[-1] == "ς"


def is_title(character: str) -> bool:
    """Unicode's title case letters, such as U+01C5, which are neither upper nor lower."""
    return character.istitle() and not character.isupper()


def continues_identifier(character: str) -> bool:
    """True for what may stand in an identifier after its start."""
    return ("a" + character).isidentifier()


@cache
def decimal_zeros() -> I32s:
    """The code points of the digit 0 in all scripts, in order; 1 to 9 follow each."""
    zeros = [ord(c) for c in _characters() if c.isdecimal() and unicodedata.decimal(c) == 0]
    return np.array(zeros, np.int32)
