"""Types of numba's by their text, in words; and whether Python does with such values what is asked."""

import pytest

from kernelmill.kernels.functions.operands import arguments_of, loop_words, method_words, operand, operation_words


@pytest.mark.parametrize(
    ("text", "title", "sample"),
    [
        ("Text", "text", [""]),
        ("Literal[str](a, (b)", "text", [""]),
        ("OptionalType(int64)", "an int that may be None", [1]),
        ("OptionalType(float64, always)", "a float that may be None", [1.0]),
        ("list(OptionalType(Text))<iv=None>", "a list of texts that may be None", [[""]]),
        ("list(int64)<iv=[1, 2]>", "a list of ints", [[1]]),
        ("list(list(int64)<iv=None>)<iv=None>", "a list", [[[1]]]),
        ("set(int64)", "a set of ints", []),
        ("Tuple(Text, Literal[int](1), none)", "a tuple", [("", 1, None)]),
        ("UniTuple(int64 x 3)", "a tuple", [(1, 1, 1)]),
        ("Tuple(Text, Row(Text))", "a tuple", []),
        ("Pieces(spaced)", "what split gives", [[""]]),
        ("none", "None", [None]),
    ],
)
def test_a_type_has_a_title_and_a_value(text, title, sample):
    assert operand(text) == (title, sample)


def test_a_type_without_words_is_none():
    assert operand("Row(Text, int64)") is None
    assert operand("OptionalType(emit)") is None


def test_arguments_are_cut_at_commas_that_lie_in_no_brackets():
    assert arguments_of("Tuple(Text, int64), Literal[str](a,b), none") == [
        "Tuple(Text, int64)",
        "Literal[str](a,b)",
        "none",
    ]
    assert arguments_of("") == []


def test_a_function_of_the_users_is_not_taken_for_one_of_maths():
    called = ">>> dist(Literal[int](1), Literal[int](2))\n"
    said = operation_words("dist", "dist()", called, is_builtin=False)
    assert said == "dist() is not supported for such values: an int and an int"
    assert operation_words("dist", "dist()", called, is_builtin=True).endswith("raises, in Python too")


def test_an_error_of_values_is_none_of_types():
    assert "raises" not in operation_words("truediv", "the operator /", ">>> truediv(int64, bool)\n", is_builtin=True)
    assert "raises" not in operation_words("getitem", "[]", ">>> getitem(Text, int64)\n", is_builtin=True)  # IndexError
    assert "raises" not in method_words("index", "list(int64)<iv=None>", "Text")  # ValueError
    assert "raises" not in operation_words("mod", "the operator %", ">>> mod(Text, int64)\n", is_builtin=True)


def test_a_loop_over_what_has_items_is_only_not_supported():
    assert loop_words("UniTuple(int64 x 2)") == "a loop over such a value is not supported: a tuple"
    assert loop_words("Row(Text)") == "a loop over such a value is not supported"
