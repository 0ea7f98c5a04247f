"""split, rsplit, splitlines and what may be done with their results, against str and list."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import config, njit

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import CHARACTERS, MIXED, SPACES, WORDS, check, compiled

from kernelmill.kernels.text.pointers import PUT_WORDS, put_ones, words_of
from kernelmill.kernels.text.whitespace import put_ones_in_turn

GAPS = st.one_of(st.sampled_from([" ", "  ", "\n", "\r\n", "\u3000", "\xa0", "\x85", "\u2028", "\r"]), st.just(" "))
LIMITS = st.integers(-2, 5)
SEPARATORS = st.one_of(st.sampled_from([",", "ab", "aa", "é", "\u3000", "-", "xyx", "\x00"]), WORDS.filter(bool))


@st.composite
def spaced(draw):
    """Words of any length with whitespace of all sorts between them, so that both meet block edges at every place."""
    words = draw(st.lists(st.one_of(WORDS, st.integers(0, 70).map("w".__mul__)), max_size=12))
    return "".join(word + draw(GAPS) for word in words) + draw(WORDS)


@st.composite
def separated(draw):
    separator = draw(SEPARATORS)
    fields = draw(st.lists(st.one_of(WORDS, st.integers(0, 70).map("a".__mul__), st.just("")), max_size=9))
    return separator.join(fields), separator


LINES = st.one_of(spaced(), MIXED, st.text(st.sampled_from("a b" + SPACES), max_size=140))


def split(a):
    count, joined = 0, ""
    for i, word in enumerate(a.split()):
        count += i * len(word)
        joined += word
        joined += "|"
    return count, joined + a, len(a.split()), bool(a.split()), not a.split(), a in a.split(), "w" in a.split()


def split_limited(a, n):
    return ("|".join(a.split(None, n)), "|".join(a.split(maxsplit=n)), len(a.split(None, n)), "|".join(a.split(None)),
            "|".join(a.rsplit(None, n)), "|".join(a.rsplit()), len(a.rsplit(None, n)))  # fmt: skip


def split_at(a, b, n):
    return ("|".join(a.split(b)), len(a.split(b)), "|".join(a.split(b, n)), "|".join(a.split(sep=b, maxsplit=n)),
            "|".join(a.rsplit(b)), "|".join(a.rsplit(b, n)), len(a.rsplit(b)), b in a.split(b))  # fmt: skip


def lines(a):
    return "|".join(a.splitlines()), "|".join(a.splitlines(True)), len(a.splitlines()), "|".join(a.splitlines(False))


@given(LINES)
@example("w" * 63 + "\u3000" + "w" * 62 + "\u2003" + "w")
@example("w" * 64)
@example("w" * 62 + "\u3000" * 25)
def test_split(a):
    check(split, SPLIT, a)


@pytest.mark.parametrize("gap", [" ", "\u3000", "\n\n"])
def test_split_where_words_and_gaps_meet_the_128_bytes_looked_through_at_a_time(gap):
    """Words of 1 and of 300 bytes, ending and beginning on either side of each edge."""
    for before in range(56, 72):
        for between in ("w" * 56, "w" * 184, "w " * 32, "w" * 300):
            check(split, SPLIT, "w" * before + gap + between + gap + "v" * before)


@njit
def both_ways(bits, base, at, entries, others):
    put_ones(bits, base, words_of(entries), at)
    put_ones_in_turn(bits, base, words_of(others), at)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 70))
@example(2**64 - 1, 0, 64)
@example(2**33 - 1, 64, 1)
def test_places_of_bits_by_one_instruction_and_in_turn(bits, base, at):
    entries, others = np.zeros(at + PUT_WORDS, np.int64), np.zeros(at + PUT_WORDS, np.int64)
    both_ways(np.uint64(bits), base, at, entries, others)
    wanted = [base + i for i in range(64) if bits >> i & 1]
    assert entries[at : at + len(wanted)].tolist() == others[at : at + len(wanted)].tolist() == wanted
    assert not entries[:at].any() and not others[:at].any()


@given(LINES, LIMITS)
def test_split_with_a_limit(a, n):
    check(split_limited, SPLIT_LIMITED, a, n)


@given(separated(), LIMITS)
def test_split_at_a_separator(pair, n):
    check(split_at, SPLIT_AT, *pair, n)


@given(LINES)
@example("a\r" * 32 + "\n" + "b\r\n" * 40)
def test_splitlines(a):
    check(lines, SPLITLINES, a)


SPLIT, SPLIT_LIMITED, SPLIT_AT, SPLITLINES = map(compiled, [split, split_limited, split_at, lines])


def test_an_empty_separator_is_an_error():
    for raises in (lambda a, b: len(a.split(b)), lambda a, b: len(a.rsplit(b)), lambda a, b: a.partition(b)[0]):
        with pytest.raises(ValueError, match="empty separator"):
            compiled(raises)("abc", "")


def indexed(a, i):
    return a.split()[i], a.split("a")[i], a.splitlines()[i], a.rsplit(" ", 3)[i]


INDEXED = compiled(indexed)


@given(LINES, st.integers(-5, 9))
def test_an_index_into_pieces(a, i):
    check(indexed, INDEXED, a, i)


def every_index(a):
    words, fields, found = a.split(), a.split(" "), ""
    for i in range(len(words)):
        found += words[i]
        found += words[-i] if i % 2 else words[len(words) - 1 - i]
    for i in range(len(fields)):
        found += fields[i]
        found += ";"
    return found + a


EVERY_INDEX = compiled(every_index)


@given(LINES, st.sampled_from([1, 1, 9, 40]))
def test_all_indexes_into_pieces_of_short_and_long_texts(a, times):
    check(every_index, EVERY_INDEX, (a + " ") * times)


def many_long_texts(a):
    found, first = "", a.split()
    for i in range(len(first)):  # more texts than the arena's header remembers, each asked for several times
        for line in a.splitlines():
            words = line.split()
            if len(words) > i:
                found += words[i]
    return found + a


MANY_LONG_TEXTS = compiled(many_long_texts)


def test_more_long_texts_than_are_remembered():
    line = " ".join(f"w{i}" for i in range(150))
    check(many_long_texts, MANY_LONG_TEXTS, "\n".join(line + "é" * i for i in range(8)))


def long_texts(a, b):
    first, second, shorter = a.split(), b.split(), a[:-7].split()
    found = ""
    for i in range(20, 40):
        found += first[i] + second[i] + shorter[i] + a.split("a")[i] + a.split("b")[i] + a.splitlines(True)[i]
        found += a.split(None, i)[i]
        found += b.split("a")[i] + a[:-7].split("a")[i] + a.split("a")[i]
    counts = len(first), len(second), len(shorter), len(a.split("a")), len(a.split(None, 1)), len(a.splitlines(True))
    return found, first[-1], shorter[-1], a.split("a")[-1], a[:-7].split("a")[-1], counts


LONG_TEXTS = compiled(long_texts)


def test_what_is_remembered_of_one_long_text_is_not_taken_for_another():
    one = "".join(f"aw{i}b\n" for i in range(100, 220))
    check(long_texts, LONG_TEXTS, one, one[::-1].replace("\n", " b\n"))
    check(long_texts, LONG_TEXTS, one, one[3:] + one[:3])


def sliced(a, i, j, k):
    words = a.split()
    return (
        "|".join(words[i:j]), "|".join(words[i:]), "|".join(words[:j]), "|".join(words[::k]), "|".join(words[i:j:k]),
        "|".join(a.split(",")[::k][1:]), len(words[i:j]), "|".join(words[1:][::-1]), bool(words[i:j]),
    )  # fmt: skip


SLICED = compiled(sliced)


@given(LINES, st.integers(-9, 9), st.integers(-9, 9), st.integers(-3, 3).filter(bool))
def test_slices_of_pieces(a, i, j, k):
    check(sliced, SLICED, a, i, j, k)


def unpacked(a):
    first, second = a.split()
    return first, second


def unpacked_fields(a):
    first, second, third = a.split(",")
    return first, second, third


UNPACKED, UNPACKED_FIELDS = compiled(unpacked), compiled(unpacked_fields)


@given(st.lists(st.sampled_from(["a", "bé", "c" * 70]), max_size=4), st.sampled_from([" ", ","]))
def test_unpacking_wants_as_many_pieces_as_names(words, gap):
    check(unpacked, UNPACKED, gap.join(words))
    check(unpacked_fields, UNPACKED_FIELDS, gap.join(words))


def as_lists(a):
    words = [word.lower() for word in a.split() if word]
    pairs = [one + two for one, two in zip(a.split(), a.split()[1:])]  # noqa: B905 - numba's has no strict
    listed = list(a.split())
    listed.append(a)
    return "|".join(words), "|".join(pairs), listed[-1], max(listed), len(sorted(a.split()))


AS_LISTS = compiled(as_lists)


@given(st.lists(WORDS, max_size=6).map(" ".join))
def test_lists_of_pieces(a):
    check(as_lists, AS_LISTS, a)


def characters_as_pieces(a):
    return "-".join(a), len([c for c in a]), "".join([c for c in a if c != " "])  # noqa: C416


CHARACTERS_AS_PIECES = compiled(characters_as_pieces)


@given(st.text(CHARACTERS, max_size=30))
def test_a_list_of_characters(a):
    check(characters_as_pieces, CHARACTERS_AS_PIECES, a)
