"""Each method of a text against the same method of str."""
# ruff: noqa: RUF001 - letters that look alike are meant

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import CHARACTERS, MIXED, WORDS, check, compiled

PARTS = st.one_of(st.sampled_from(["a", "aa", "x", ",", "", "é", "Σ", "ab", "\n"]), WORDS)
PLACES = st.integers(-20, 160)


@st.composite
def texts_and_parts(draw):
    """A text, and a part that it often holds several times."""
    part = draw(PARTS)
    pieces = draw(st.lists(st.one_of(st.just(part), MIXED.map(lambda text: text[:40])), max_size=6))
    return "".join(pieces), part


def same_as_str(function, *strategies):
    """A test that a function gives the same compiled and interpreted; a strategy may give several arguments."""
    run = compiled(function)

    @given(st.tuples(*strategies))
    def test(drawn):
        args = [arg for one in drawn for arg in (one if isinstance(one, tuple) else (one,))]
        check(function, run, *args)

    return test


def basics(a, b):
    return len(a), bool(a), not a, a == b, a != b, a < b, a <= b, a > b, a >= b, b in a, str(a) == a


NEAR = st.tuples(MIXED, WORDS).map(lambda pair: (pair[0], pair[0] + pair[1]))
PAIRS = st.one_of(st.tuples(MIXED, MIXED), st.tuples(WORDS, WORDS), NEAR, texts_and_parts())

test_comparing = same_as_str(basics, st.tuples(PAIRS, st.booleans()).map(lambda drawn: drawn[0][:: drawn[1] or -1]))


def character(a, i):
    return a[i]


def slices(a, i, j):
    return a[i:j], a[:i], a[i:], a[i:][:j], a[-1:], a[:-1], a[1:3]


def stepped(a, i, j, k):
    return a[i:j:k], a[::k], a[i::k], a[:j:k], a[::-1]


test_indexing = same_as_str(character, st.one_of(MIXED, WORDS), st.one_of(PLACES, st.integers(-6, 6)))
test_slicing = same_as_str(slices, MIXED, PLACES, PLACES)
test_slicing_by_steps = same_as_str(stepped, MIXED, PLACES, PLACES, st.integers(-5, 5).filter(bool))


def characters(a):
    count, joined = 0, a[:0]
    for i, one in enumerate(a):
        count += i * len(one)
        joined += one
    return count, joined


test_iterating_over_characters = same_as_str(characters, MIXED)


def find(a, b):
    return a.find(b), a.rfind(b), a.count(b), b in a, a.startswith(b), a.endswith(b)


def find_within(a, b, i, j):
    return (
        a.find(b, i), a.find(b, i, j), a.rfind(b, i), a.rfind(b, i, j), a.count(b, i, j), a.count(b, i),
        a.startswith(b, i), a.startswith(b, i, j), a.endswith(b, i), a.endswith(b, i, j),
    )  # fmt: skip


def index(a, b):
    return a.index(b), a.rindex(b)


test_finding = same_as_str(find, texts_and_parts())
test_finding_within = same_as_str(find_within, texts_and_parts(), PLACES, PLACES)
test_index = same_as_str(index, texts_and_parts())


def starts(a, b, c):
    return a.startswith((b, c)), a.endswith((b, "é", c)), a.startswith(("a", "b")), a in ("a", "aa"), a in ("x", b)


test_one_of_several = same_as_str(starts, WORDS, PARTS, PARTS)


def strip(a, b):
    return a.strip(), a.lstrip(), a.rstrip(), a.strip(b), a.lstrip(b), a.rstrip(b), a.strip(" ,x"), a.strip(None)


test_stripping = same_as_str(strip, st.one_of(MIXED, st.text(CHARACTERS, max_size=9)), WORDS)


def around(a, b):
    return a.partition(b), a.rpartition(b), a.removeprefix(b), a.removesuffix(b)


test_partitioning = same_as_str(around, texts_and_parts())


def replaced(a, b, c, n):
    return a.replace(b, c), a.replace(b, c, n), a.replace(b, ""), a.replace("a", c)


test_replacing = same_as_str(replaced, texts_and_parts(), WORDS, st.integers(-2, 4))


def build(a, b, n):
    both = a + b
    both += "!"
    both += b
    return both, a + "é" + b, "<" + a, a * n, n * b, b.join(a), b.join((a, b, "x")), "-".join(a), a + str(n), str(n) + a


def pad(a, n):
    return a.ljust(n), a.rjust(n), a.center(n), a.zfill(n), a.ljust(n, "é"), a.rjust(n, "."), a.center(n, "*")


test_building = same_as_str(build, MIXED, WORDS, st.integers(-1, 5))
test_padding = same_as_str(pad, st.one_of(WORDS, WORDS.map("-{}".format)), st.integers(-2, 30))


def changed(a):
    return a.lower(), a.upper(), a.casefold(), a.title(), a.capitalize(), a.swapcase()


SIGMAS = st.text(st.sampled_from("ΣΣσaA.1'\u0301\u00ad ʰ:\u0345"), max_size=12)

test_changing_case = same_as_str(changed, st.one_of(MIXED, SIGMAS))


def kinds(a):
    return (
        a.isalpha(), a.isdecimal(), a.isdigit(), a.isnumeric(), a.isalnum(), a.isspace(), a.isprintable(), a.isascii(),
        a.isupper(), a.islower(), a.istitle(), a.isidentifier(),
    )  # fmt: skip


test_classifying = same_as_str(kinds, st.one_of(MIXED, WORDS, st.text(CHARACTERS, max_size=3)))


def formatted(a, n):
    return f"{a}:{n}", f"{n}", str(n) == a, a != str(n), "é" + str(n) + a


test_formatting_ints = same_as_str(formatted, st.one_of(WORDS, st.integers(-5, 5).map(str)), st.integers(-5, 5))


def as_keys(a, b):
    seen = set()
    for word in a.split():
        seen.add(word)
    words = sorted(a.split())
    return len(seen), b in seen, "-".join(words), hash(a) == hash(b), hash(a) == hash(a[:1] + a[1:])


SHORT_WORDS = st.lists(WORDS.map(lambda word: word[:2]), max_size=9).map(" ".join)

test_sets_and_sorting = same_as_str(as_keys, SHORT_WORDS, st.one_of(WORDS, st.just("a")))
