"""Every code point that Unicode has, through each table."""

import numpy as np
import pytest
from numba import config, njit

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import arena_of

from kernelmill.kernels.text.jitting import user_function
from kernelmill.kernels.text.library import text_of

POINTS = [*range(0xD800), *range(0xE000, 0x110000)]
CHARACTERS = [chr(point) for point in POINTS]
OTHERS = [one for one in CHARACTERS if one != "\n"]
SEPARATED = "\n".join(OTHERS)


@njit
def kinds_of_each(buffer, start, length, state, found):
    i = 0
    for one in text_of(buffer, start, length, False, state):
        found[i] = (
            one.isalpha() | one.isdecimal() << 1 | one.isdigit() << 2 | one.isnumeric() << 3 | one.isalnum() << 4
            | one.isspace() << 5 | one.isprintable() << 6 | one.isupper() << 7 | one.islower() << 8
            | one.istitle() << 9 | one.isidentifier() << 10
            | (len(one.split()) == 0) << 11 | (len(one.strip()) == 0) << 12
        )  # fmt: skip
        i += 1
    return i


def kinds(one):
    return (
        one.isalpha() | one.isdecimal() << 1 | one.isdigit() << 2 | one.isnumeric() << 3 | one.isalnum() << 4
        | one.isspace() << 5 | one.isprintable() << 6 | one.isupper() << 7 | one.islower() << 8
        | one.istitle() << 9 | one.isidentifier() << 10
            | (len(one.split()) == 0) << 11 | (len(one.strip()) == 0) << 12
    )  # fmt: skip


def padded(string):
    raw = string.encode()
    return np.frombuffer(raw + bytes(64), np.uint8), len(raw)


def test_each_character_is_of_the_kinds_that_python_says():
    found = np.zeros(len(POINTS), np.int64)
    buffer, size = padded("".join(CHARACTERS))
    assert kinds_of_each(buffer, 0, size, arena_of(1 << 20), found) == len(POINTS)
    expected = np.fromiter(map(kinds, CHARACTERS), np.int64, len(POINTS))
    assert [hex(POINTS[i]) for i in np.flatnonzero(found != expected)] == []


CHANGES = {
    "lower": lambda a: a.lower(),
    "upper": lambda a: a.upper(),
    "casefold": lambda a: a.casefold(),
    "title": lambda a: a.title(),
    "swapcase": lambda a: a.swapcase(),
    "sigma before it": lambda a: a.replace("\n", "\nAΣ").lower(),
    "sigma behind it": lambda a: a.replace("\n", "Σ\n").lower(),
    "sigma behind a letter and it": lambda a: a.replace("\n", "Σ\na").lower(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_character_changes_case_as_in_python(name):
    change = user_function(CHANGES[name])
    run = njit(lambda buffer, size, state: change(text_of(buffer, 0, size, False, state)))
    found = run(*padded(SEPARATED), arena_of((1 << 25) - 4096)).split("\n")
    expected = CHANGES[name](SEPARATED).split("\n")
    assert [one for one in zip(OTHERS, expected, found, strict=True) if one[1] != one[2]] == []
