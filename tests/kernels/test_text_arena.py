"""The harness of the tests of texts, and tests of what the driver relies on: bounds, the arena, the way back.

Every text and the arena end 64 bytes, and no more, before a page that may not be touched: a read beyond the slack ends
the test run. The arena starts with as few bytes as one may have and grows by exactly what was wanted.
"""
# ruff: noqa: RUF001 - letters that look alike are meant

import ctypes
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config, njit, types

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from kernelmill.kernels.text.arena import CAPACITY, USED, WANTED
from kernelmill.kernels.text.jitting import user_function
from kernelmill.kernels.text.library import (
    ARENA_BYTES_MIN,
    TEXT,
    address,
    is_ascii,
    new_state,
    size,
    text_of,
    text_of_int,
    text_of_str,
)
from kernelmill.kernels.text.pointers import SLACK_BYTES

PAGE = mmap.PAGESIZE


class Guarded:
    """Memory that ends where a page begins that must not be read or written."""

    def __init__(self, capacity):
        pages = -(-capacity // PAGE)
        self._map = mmap.mmap(-1, (pages + 1) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.all = np.frombuffer(self._map, np.uint8)[: pages * PAGE]
        libc = ctypes.CDLL(None, use_errno=True)
        end = self.all.ctypes.data + self.all.size
        assert libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(PAGE), 0) == 0

    def end(self, count):
        """Its last `count` bytes."""
        return self.all[self.all.size - count :]


TEXTS = [Guarded(1 << 20) for _ in range(4)]
ARENA = Guarded(1 << 25)


def laid_out(string, place):
    """The bytes of a string at the end of guarded memory, slack behind them, and 0xFF in the slack."""
    raw = string.encode()
    buffer = place.end(len(raw) + SLACK_BYTES)
    buffer[: len(raw)] = np.frombuffer(raw, np.uint8)
    buffer[len(raw) :] = 0xFF
    return buffer, len(raw)


def arena_of(capacity):
    state = new_state()
    capacity = capacity + 7 & ~7
    state[:2] = ARENA.end(capacity).ctypes.data, capacity
    return state


def entry_for(function, texts):
    """A compiled entry for a function of so many texts and a tuple of numbers."""
    user = user_function(function)

    def one(a, state, more):
        return user(text_of(a[0], 0, a[1], a[2], state), *more)

    def two(a, b, state, more):
        return user(text_of(a[0], 0, a[1], a[2], state), text_of(b[0], 0, b[1], b[2], state), *more)

    def three(a, b, c, state, more):
        return user(
            text_of(a[0], 0, a[1], a[2], state),
            text_of(b[0], 0, b[1], b[2], state),
            text_of(c[0], 0, c[1], c[2], state),
            *more,
        )

    return njit((one, two, three)[texts - 1])


def compiled(function):
    """A function of strings and ints, run compiled over texts; called as the Python function is."""
    entries = {}

    def run(*args):
        strings = [arg for arg in args if isinstance(arg, str)]
        more = tuple(arg for arg in args if not isinstance(arg, str))
        entry = entries.setdefault(len(strings), entry_for(function, len(strings)) if not entries else None)
        buffers = [laid_out(string, place) for string, place in zip(strings, TEXTS, strict=False)]
        results = [in_arena(entry, buffers, flags, more) for flags in told(strings)]
        assert len({repr(result) for result in results}) == 1, results
        return raised_or_given(results[0])

    return run


def told(strings):
    """The flags is_ascii that the driver may give: the truth, and always False for that is allowed."""
    truth = tuple(string.isascii() for string in strings)
    return {truth, (False,) * len(strings)}


def in_arena(entry, buffers, flags, more):
    state = arena_of(ARENA_BYTES_MIN)
    texts = [(*buffer, flag) for buffer, flag in zip(buffers, flags, strict=True)]
    while True:
        state[USED:] = 0
        try:
            result = entry(*texts, state, more)
        except Exception as problem:
            if state[WANTED] == 0:
                return problem
            state = arena_of(int(state[CAPACITY] + state[WANTED]))
        else:
            assert state[WANTED] == 0
            return result


def raised_or_given(result):
    if isinstance(result, Exception):
        raise result
    return result


def outcome(function, args):
    try:
        return function(*args)
    except (ValueError, IndexError, TypeError) as problem:
        return type(problem)


def check(function, compiled_function, *args):
    """Compiled and interpreted give the same, or raise the same."""
    assert outcome(compiled_function, args) == outcome(function, args)


ASCII = "abcXYZ019 \t\n\r\x00\x1c\x1f_,.-'~\x7f"
SPACES = "\x0b\x0c\x1d\x1e\x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
CASES = "éÉßẞŉǅǰΐİıſﬃΣσςſKΑαᾳᾼᏸꭰⓐʰªԱև\U00010400\U0001e921"
OTHERS = "\u0301\u0307\u00b7\u00ad\u200b\u200d\ufeff٣५㎡¹½Ⅷⅷ²一語あ\u0345\u1680\ue000😀\U0001d7ce\U000e0101\U0010ffff"
CHARACTERS = st.one_of(st.sampled_from(ASCII), st.sampled_from(SPACES + CASES + OTHERS), st.sampled_from("ab ,Σ"))
WORDS = st.text(CHARACTERS, max_size=12)
MIXED = st.one_of(
    st.text(CHARACTERS, max_size=90),
    st.text(st.sampled_from(ASCII), max_size=150),
    st.builds(lambda n, text, m: "x" * n + text + "y" * m, st.integers(0, 130), WORDS, st.integers(0, 70)),
    st.builds("{}".format, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
)


# Tests ---------------------------------------------------------------------------------------------------------------


@njit
def place_and_size(buffer, start, length, state):
    text = text_of(buffer, start, length, False, state)
    return address(text), size(text)


def test_address_and_size_lead_back_to_the_buffer():
    buffer = np.zeros(100, np.uint8)
    assert place_and_size(buffer, 7, 20, new_state()) == (buffer.ctypes.data + 7, 20)


@njit
def entirely_ascii(buffer, start, stop):
    return is_ascii(buffer, start, stop)


@given(st.integers(0, 600), st.integers(0, 600), st.integers(0, 600))
def test_is_ascii_looks_at_its_range_alone(count, high, start):
    buffer, _ = laid_out("a" * count, TEXTS[0])
    high, start = min(high, count), min(start, count)
    buffer[high] = 0xC3
    assert entirely_ascii(buffer, start, count) == (not start <= high < count)


@njit
def digits(value, state):
    return text_of_int(value, state)


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_digits_of_an_int(value):
    assert digits(value, arena_of(4096)) == str(value)


@njit
def copied(string, state):
    return text_of_str(string, state)


@given(MIXED)
def test_a_string_of_numba_becomes_a_text(string):
    assert copied(string, arena_of(4096)) == string


def joined_twice(text, times):
    return (text + text) * times, (text * times).upper()


@given(MIXED, st.integers(0, 40))
def test_an_arena_that_is_too_small_says_how_much_is_missing(text, times):
    check(joined_twice, JOINED_TWICE, text, times)


JOINED_TWICE = compiled(joined_twice)


def test_a_text_that_cannot_be_is_an_error_and_not_a_wish():
    with pytest.raises(OverflowError):
        JOINED_TWICE("abc", 2**62)


def test_texts_are_part_of_numbas_types():
    kernel = njit(types.boolean(TEXT, TEXT))(lambda a, b: a == b)
    assert kernel.signatures == [(TEXT, TEXT)]


def either(text, n):
    found = "none"
    if n == 1:
        found = text
    elif n == 2:
        found = text[1:]
    return found * 2 + text, found == "none", found.upper(), found.split()[-1:][0]


EITHER = compiled(either)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_variable_may_hold_a_literal_or_a_text(n):
    check(either, EITHER, "süß", n)


def perhaps(text, n):
    found = None
    if n == 1:
        found = text
    if found is None:
        return "nothing", 0
    return found, len(found)


PERHAPS = compiled(perhaps)


@pytest.mark.parametrize("n", [0, 1])
def test_a_text_may_be_none(n):
    check(perhaps, PERHAPS, "süß", n)
