"""Which values are side data, of what kind, and which functions come by them."""

import math

import numpy as np
import pytest

from kernelmill.kernels.sidekinds import TUPLE_ITEMS_MAX, kind_of
from kernelmill.kernels.sidetables import SideTables, column_of
from kernelmill.kernels.sidevalues import SideRef, bind, takes_side

LONG = tuple(range(TUPLE_ITEMS_MAX + 1))
KINDS = [
    (set(), ("set", "none")),
    ({"a", np.str_("b")}, ("set", "text")),
    (frozenset({1, np.int8(-2)}), ("set", "int64")),
    ({}, ("dict", "none", "int64")),
    ({"a": 1.5, "b": None}, ("dict", "text", "float64?")),
    ({1: True}, ("dict", "int64", "boolean")),
    ([], ("list", "int64")),
    (["a", None], ("list", "text?")),
    (LONG, ("list", "int64")),
    (LONG[1:], None),
    (np.zeros((2, 3)), ("array", "float64", 2)),
    (np.zeros(2, bool), ("array", "bool", 1)),
    (True, None),
    ("text", None),
    (None, None),
    (len, None),
]


@pytest.mark.parametrize(("value", "kind"), KINDS)
def test_a_value_has_the_kind_of_all_its_items(value, kind):
    assert kind_of(value, "x") == kind


@pytest.mark.parametrize(
    "value",
    [{1, "a"}, {1.5}, {None}, {"a": 1, "b": 1.5}, {"a": None}, [[1]], [2**63], ["\ud800"], [True, 1], [b"a"],
     np.zeros(1, np.float32), np.zeros((1, 1, 1)), np.zeros(1, ">i8"), np.array(["a"])],
)  # fmt: skip
def test_what_is_mixed_or_unknown_has_a_reason_instead(value):
    why = kind_of(value, "x")
    assert isinstance(why, str) and "'x'" in why


@pytest.mark.parametrize(("value", "kind"), [(5, "int64"), (-(2**63), "int64"), (0.5, "float64")])
def test_numbers_are_side_data_as_keywords_alone(value, kind):
    assert kind_of(value, "x") is None
    assert kind_of(value, "x", is_keyword=True) == ("scalar", kind)


@pytest.mark.parametrize("value", [2**63, range(5), lambda: 1, object(), iter(())])
def test_a_keyword_that_no_code_can_hold_has_a_reason(value):
    why = kind_of(value, "x", is_keyword=True)
    assert isinstance(why, str) and "'x'" in why
    assert kind_of(value, "x") is None


@pytest.mark.parametrize("value", [None, True, "a", b"a", (1, "a"), len, math, int, np.float32(1)])
def test_a_keyword_that_is_a_constant_is_no_side_data(value):
    assert kind_of(value, "x", is_keyword=True) is None


STOP, FACTOR = {"the"}, 3


def kept(word):
    return word not in STOP


def never(word):
    return len(word) > FACTOR


def test_copies_are_made_of_what_leads_to_side_data_alone():
    def function(line, emit):
        emit(kept(line), never(line))

    bound = bind([(function, 2)], {})
    assert takes_side(bound.function) and not takes_side(function)
    names = bound.function.__globals__
    assert takes_side(names["kept"]) and names["never"] is never
    assert isinstance(names["kept"].__globals__["STOP"], SideRef) and STOP == {"the"}
    assert bound.side.kinds == (("set", "text"),)
    assert bind([(never, 1)], {}).function is never


def test_functions_that_call_one_another_are_copied_together():
    def even(n):
        return n in numbers or odd(n - 1)

    def odd(n):
        return not even(n - 1)

    numbers = [0]
    bound = bind([(even, 1), (odd, 1)], {})
    cells = dict(zip(bound.functions[0].__code__.co_freevars, bound.functions[0].__closure__, strict=True))
    assert all(map(takes_side, bound.functions)) and isinstance(cells["numbers"].cell_contents, SideRef)
    assert takes_side(cells["odd"].cell_contents)


def test_one_value_by_two_names_is_one_table():
    words = {"a": 1}

    def function(line, emit, *, table, other=words):
        emit(line, words, table, other)

    bound = bind([(function, 2)], {"table": words})
    assert bound.side.kinds == (("dict", "text", "int64"),)
    assert set(bound.function.standing) == {"table", "other"}


def test_columns_hold_what_python_holds():
    column = column_of("text?", ["ä", None, ""])
    assert bytes(column.data[:2]).decode() == "ä" and column.offsets.tolist() == [0, 2, 2, 2]
    assert column.validity.tolist() == [1, 0, 1]
    assert column_of("boolean", [True, False]).data.tolist() == [1, 0]


def test_contents_are_taken_when_the_words_are_first_asked_for():
    values = ["a"]
    tables = SideTables([(("list", "text"), values)])
    values.append("b" * 1000)
    before = tables.nbytes
    values.append("c" * 1000)
    assert 1000 < before == tables.nbytes and tables.address == tables.address


def test_an_array_is_read_where_it_is():
    values = np.zeros(1000)
    assert SideTables([(("array", "float64", 1), values)]).nbytes < 100
    assert SideTables([(("array", "float64", 1), values[::2])]).nbytes > 4000
