"""re.findall of one class of characters, repeated, against re itself."""
# ruff: noqa: RUF001 - letters that look alike are meant

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import config

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import MIXED, WORDS, check, compiled

from kernelmill.kernels.text.runs import runs_of

PATTERNS = [
    (r"[A-Za-z0-9_]+", 0),
    (r"\w+", 0),
    (r"\w+", re.ASCII),
    (r"\w{3,}", 0),
    (r"[^,]+", 0),
    (r"[^,a]{2,}", 0),
    (r"[]a-c]{64,}", 0),
    (r"[ß-ω]{2,}", re.IGNORECASE),
]
PIECES = st.sampled_from(
    ["a", "ab", "Z_9", ",", ", ,", " ", "\n", "é", "ß", "ſ", "K", "ω", "٣", "\u3000", "𝔸", "日本", "]", "-", "a" * 63]
)
LINES = st.one_of(st.lists(PIECES, max_size=12).map("".join), MIXED, WORDS)


def of_pattern(pattern, flags):
    made = re.compile(pattern, flags)

    def found(a):
        first, last, sizes, count = a, a, 0, 0
        for run in made.findall(a):
            first, last = (run if count == 0 else first), run
            count += 1
            sizes += count * len(run)
        return first, last, sizes, count

    return found


FOUND = {one: of_pattern(*one) for one in PATTERNS}
COMPILED = {one: compiled(function) for one, function in FOUND.items()}


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@settings(max_examples=50)
@given(text=LINES)
@example(text="a" * 128)
@example(text="a" * 64 + "é" * 64 + "a" * 63)
@example(text="," * 63 + "ab" + "," * 63 + "é" * 33)
def test_runs_are_what_re_finds(pattern, text):
    check(FOUND[pattern], COMPILED[pattern], text)


def literal(a):
    runs = re.findall(r"[^,a]{2,}", a)
    return "|".join(runs), len(runs), bool(runs), "ab" in runs, runs[0] if runs else a


LITERAL = compiled(literal)


@given(LINES)
def test_a_pattern_may_be_a_literal_and_what_it_finds_is_as_a_list(text):
    check(literal, LITERAL, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "", "a", "ab+", "[a]", "[a]*", "[a]+?", "[a]++", "[a]{2}", "[a]{2,3}", "[a]{0,}", "([a]+)", "(?i)[a]+", ".+",
        "^[a]+", r"\b[a]+", r"[a]+\b", r"\B\w+", r"\w+$", "[[a]+", "[a", r"[\q]+", "[a]+[b]+", r"\W+\w+", r"[^\s\S]+",
        "a|[b]+",
    ],
)  # fmt: skip
def test_other_patterns_are_left_to_re(pattern):
    assert runs_of(pattern, 0) is None


def test_edges_of_words_around_a_run_of_word_characters_ask_nothing_more():
    assert runs_of(r"\b\w{2,}\b", 0) == runs_of(r"\w{2,}", 0)
    assert runs_of(r"\b[a-zA-Z0-9_]+", re.ASCII) == runs_of(r"\w+", re.ASCII)


def test_what_a_flag_changes_beyond_the_class_is_left_to_re():
    assert runs_of("[a b]+", re.VERBOSE) is None
    assert runs_of("[ab]+", re.MULTILINE | re.DOTALL) is not None
