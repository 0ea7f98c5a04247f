"""What compiles and what must not, hashes, literals, and the helpers' code that is kept."""

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from numba import config, njit
from numba.core import errors

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import MIXED, TEXTS, WORDS, arena_of, check, compiled, laid_out

from kernelmill.kernels.hashing import PARTITION_SEED
from kernelmill.kernels.text import jitting
from kernelmill.kernels.text.library import forget, keep, text_of, warm


def hashed(a):
    return hash(a)


HASHED = compiled(hashed)


@given(st.one_of(MIXED, st.text(max_size=40)))
def test_a_hash_is_that_of_the_partition_contract(a):
    unsigned = xxhash.xxh64_intdigest(a.encode(), seed=int(PARTITION_SEED))
    assert HASHED(a) == unsigned - (unsigned >> 63 << 64)


def with_literals(a):
    return (
        a == "süß", "süß" == a, "s" in a, a in "süßes", a < "t", "" + a, a + "", "-".join((a, "b")), a in ("a", "süß"),
        a.split("ß")[0], "é" != a, a.replace("ü", "ue"), a in ["a", "b"],
    )  # fmt: skip


WITH_LITERALS = compiled(with_literals)


@given(st.one_of(st.sampled_from(["süß", "a", "b", "s", "", "ü", "es", "t", "a b"]), WORDS))
def test_literals_stand_beside_texts(a):
    check(with_literals, WITH_LITERALS, a)


def literal_or_other(a, n):
    sep = "," if n else "ü;"
    return "|".join(a.split(sep)), sep + a, a.startswith(sep), a == sep, sep != a, sep in a, "-".join((a, sep, str(n)))


LITERAL_OR_OTHER = compiled(literal_or_other)


@given(st.sampled_from(["a,bü;cü;", ",", "ü;", "ü", "ü;;", ",,", ""]), st.booleans().map(int))
def test_one_of_two_literals_stands_beside_texts(a, n):
    check(literal_or_other, LITERAL_OR_OTHER, a, n)


def code_point(a):
    return ord(a)


CODE_POINT = compiled(code_point)


@given(st.text(max_size=2))
def test_ord(a):
    check(code_point, CODE_POINT, a)


def bytes_and_characters(a):
    return 1000 * len(a.encode()) + len(a)


BYTES_AND_CHARACTERS = compiled(bytes_and_characters)


@given(st.text(max_size=20))
def test_the_length_in_bytes(a):
    check(bytes_and_characters, BYTES_AND_CHARACTERS, a)


UNCOMPILED = {
    "repr": lambda a: repr(a),
    "str of a float": lambda a: str(1.5) + a,
    "a float in an f-string": lambda a: f"{a}{1.5}",
    "str of a tuple": lambda a: str((a, 1)),
    "str of pieces": lambda a: str(a.split()),
    "append to pieces": lambda a: a.split().append(a),
    "a name for what has none": lambda a: a.find(sub="b"),
    "a character of bytes": lambda a: a.encode()[0],
    "a number's method": lambda a: a.find(5),
    "comparison with a number": lambda a: a < 5,
}


@pytest.mark.parametrize("name", UNCOMPILED)
def test_what_differs_from_str_does_not_compile(name):
    with pytest.raises((errors.TypingError, errors.LoweringError)):
        compiled(UNCOMPILED[name])("abc")


# What is known of long texts ------------------------------------------------------------------------------------------


@njit
def words_before_and_after(buffer, size, other, state, forgets):
    text = text_of(buffer, 0, size, True, state)
    before = len(text.split()), text.split()[30]
    buffer[:] = other
    if forgets:
        forget(state)
    return before, (len(text.split()), text.split()[30])


def test_a_driver_that_replaces_a_texts_bytes_says_so():
    first, second = "ab " * 300, "abc  " * 180
    buffer, size = laid_out(first, TEXTS[0])
    other = laid_out(second, TEXTS[1])[0]
    before, after = words_before_and_after(buffer, size, other, arena_of(1 << 16), True)
    assert before == (300, "ab") and after == (180, "abc")


# Kept code -----------------------------------------------------------------------------------------------------------


def kept_map(a):
    count = 0
    for word in a.lower().split():
        count += len(word) + int(word.isalpha()) + int(float("1" + a[:0]))
    return count, a.upper().title()


@pytest.fixture
def kept(monkeypatch):
    """A place for helpers' code; the process forgets that it has compiled any."""
    found = {}
    monkeypatch.setattr(jitting, "_COMPILED", {})
    monkeypatch.setattr(jitting, "_KEPT", [])
    keep(found.get, found.__setitem__)
    return found


def test_helpers_that_are_kept_are_not_compiled_again(kept, monkeypatch):
    check(kept_map, compiled(kept_map), "ÄB c 1 ΑΣ")
    assert len(kept) > 20
    monkeypatch.setattr(jitting, "_COMPILED", {})
    compiled_names = []
    original = jitting._compile
    monkeypatch.setattr(jitting, "_compile", lambda key: compiled_names.append(key[0]) or original(key))
    written = dict(kept)
    check(kept_map, compiled(kept_map), "ÄB c 1 ΑΣ")
    assert [name for name in compiled_names if name.startswith("kernelmill.")] == []
    assert kept == written


def test_code_kept_under_another_helpers_name_is_not_taken(kept, monkeypatch):
    compiled(code_point)("a")
    one, other = sorted(kept)[:2]
    kept[one] = kept[other]
    monkeypatch.setattr(jitting, "_COMPILED", {})
    check(code_point, compiled(code_point), "ü")


def test_all_methods_can_be_compiled_ahead():
    assert warm() > 60
    already = set(jitting._COMPILED)
    check(kept_map, compiled(kept_map), "ÄB c 1 ΑΣ")
    fresh = {name for name, _ in set(jitting._COMPILED) - already if name.startswith("kernelmill.")}
    assert fresh <= {"kernelmill.kernels.text.views.text_of"}  # for arrays of these types
