from __future__ import annotations

import copy
import pickle
from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.expr import Columns, Expr, as_node, col, lit, when
from kernelmill.engine.expr import len as rows
from kernelmill.engine.nodes import Aggregate, Column, Literal, Tokenize


def code_of(make) -> KernelmillError:
    with pytest.raises(KernelmillError) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    "use",
    [
        lambda: bool(col("a") > 1),
        lambda: (col("a") > 1) and (col("b") > 1),
        lambda: not col("a"),
        lambda: 1 < col("a") < 3,
        lambda: 3 in col("a"),
    ],
)
def test_truth_of_an_expression_is_refused_with_the_operators_to_use(use):
    exc = code_of(use)
    assert exc.code is Code.AMBIGUOUS_TRUTH
    assert isinstance(exc, TypeError)
    assert all(word in exc.hint for word in ("&", "|", "~", "is_in"))
    assert exc.where.startswith("test_expr.py:") or "test_expr.py:" in exc.where


@pytest.mark.parametrize(
    ("use", "suggested"),
    [
        (lambda: col("a").fillna(0), "fill_null"),
        (lambda: col("a").is_nul(), "is_null"),
        (lambda: col("a").str.lower(), "to_lowercase"),
        (lambda: col("a").str.tokenise(), "tokenize"),
        (lambda: col("a").dt.dayofweek(), "weekday"),
        (lambda: col("a").list.size_(), "there are"),
        (lambda: col("a", "b").isnull(), "is_null"),
        (lambda: when(col("a")).then(1).astype("int8"), "cast"),
    ],
)
def test_unknown_methods_suggest_the_ones_there_are(use, suggested):
    exc = code_of(use)
    assert exc.code is Code.UNKNOWN_NAME
    assert isinstance(exc, AttributeError)
    assert suggested in exc.hint


def test_probing_for_private_names_gets_a_plain_no():
    for probe in ("_repr_html_", "__array__", "_ipython_display_", "__arrow_c_stream__"):
        for value in (col("a"), col("a", "b"), col("a").str):
            assert not hasattr(value, probe)


@pytest.mark.parametrize(
    "expr", [col("a") + 1 > 2, when(col("a")).then(1), col("s").str.tokenize(), col("a").cast("int8")]
)
def test_expressions_survive_copying(expr):
    assert copy.copy(expr).node == expr.node
    assert copy.deepcopy(expr).node == expr.node


def test_expressions_of_columns_survive_pickling():
    expr = (col("a") + col("b")).alias("c")
    assert pickle.loads(pickle.dumps(expr)).node == expr.node


def test_expressions_do_not_change_and_are_not_iterated():
    with pytest.raises(AttributeError):
        col("a").node = Column("b")
    with pytest.raises(TypeError):
        list(col("a"))


def test_nodes_are_compared_by_structure():
    assert (col("a") + 1).node == (col("a") + 1).node
    assert hash((col("a") + 1).node) == hash((col("a") + 1).node)
    assert (col("a") + 1).node != (col("a") + 2).node


def test_several_names_give_several_columns_and_methods_go_to_each():
    columns = col("a", "b")
    assert isinstance(columns, Columns)
    assert [column.node for column in columns] == [Column("a"), Column("b")]
    assert [column.node for column in columns.sum()] == [Aggregate("sum", Column("a")), Aggregate("sum", Column("b"))]


def test_reflected_operators_keep_the_order_of_their_sides():
    assert repr(1 - col("a")) == '1 - col("a")'
    assert repr(2 ** col("a")) == '2 ** col("a")'
    assert repr(7 // col("a") % 3) == '7 // col("a") % 3'
    assert repr(True & col("a")) == 'True & col("a")'
    assert repr("x" + col("a")) == '"x" + col("a")'


def test_len_counts_rows_with_and_without_a_column():
    assert rows().node == Aggregate("len", None)
    assert repr(col("a").len()) == 'len().alias("a")'


def test_strings_are_columns_only_where_asked():
    assert as_node("a", column=True) == Column("a")
    literal = as_node("a")
    assert isinstance(literal, Literal) and literal.bare and literal.value.as_py() == "a"


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, pa.bool_()),
        (1, pa.int64()),
        (2**63, pa.uint64()),
        (1.5, pa.float64()),
        ("a", pa.string()),
        (b"a", pa.binary()),
        (None, pa.null()),
        (np.int8(3), pa.int64()),
        (np.float32(0.5), pa.float64()),
        (np.datetime64("2024-01-01", "ns"), pa.timestamp("ns")),
        (np.timedelta64(3, "ns"), pa.duration("ns")),
        (np.datetime64("2024-01-01"), pa.date32()),
        (datetime(2024, 1, 1), pa.timestamp("us")),
        (Decimal("1.50"), pa.decimal128(3, 2)),
    ],
)
def test_python_values_become_literals(value, dtype):
    node = lit(value).node
    assert node.value.type == dtype
    assert node.bare
    assert repr(lit(value))


def test_a_literal_with_a_type_or_from_arrow_keeps_it():
    assert lit(3, "int8").node == Literal(pa.scalar(3, pa.int8()))
    assert not lit(pa.scalar(3, pa.int16())).node.bare
    assert code_of(lambda: lit(300, "int8")).code is Code.BAD_SETTING
    assert code_of(lambda: lit("x", int)).code is Code.BAD_SETTING


@pytest.mark.parametrize(
    "make",
    [
        lambda: lit(2**64),
        lambda: lit(object()),
        lambda: col("a") + [1],
        lambda: col("a").is_in("abc"),
        lambda: col("a").is_in([1, "a"]),
        lambda: col("a").is_in(3),
        lambda: col("a").is_between(1, 2, closed="neither"),
        lambda: col("a").alias(3),
        lambda: col("a").log(0),
        lambda: col("a").round(1.5),
        lambda: col("a").cast("int46"),
        lambda: col(3),
        lambda: col(),
        lambda: col("s").str.contains("("),
        lambda: col("s").str.contains(r"(?<=a)b"),
        lambda: col("s").str.contains(col("t")),
        lambda: col("s").str.extract("(a)", 2),
        lambda: col("s").str.replace("(a)", r"\3"),
        lambda: col("s").str.replace_all("", "x", literal=True),
        lambda: col("s").str.split(""),
        lambda: col("s").str.slice(0, -1),
        lambda: col("s").str.head(-1),
        lambda: col("d").dt.truncate("soon"),
        lambda: col("d").dt.truncate("0d"),
        lambda: col("d").dt.truncate("99999999999y"),
        lambda: col("d").dt.truncate("9" * 5000 + "s"),
        lambda: col("s").str.to_date(""),
        lambda: col("s").str.to_datetime("", strict=False),
        lambda: col("a").round(1 << 63),
        lambda: col("xs").list.get(-(1 << 63) - 1),
        lambda: col("s").str.slice(1 << 63),
        lambda: col("s").str.slice(0, 1 << 63),
        lambda: col("s").str.head(1 << 64),
        lambda: col("s").str.tail(1 << 64),
        lambda: col("s").str.replace("a", "b", n=1 << 70),
        lambda: col("s").str.tokenize(min_len=1 << 70),
        lambda: col("a").log(10**400),
        lambda: lit(np.array([1, 2])),
        lambda: lit(np.array([1])),
        lambda: lit(np.complex128(1)),
        lambda: lit(np.datetime64(1, "ps")),
        lambda: lit(3, "dated"),
        lambda: col("a") == "\ud800",
        lambda: col("a").is_in(["\ud800"]),
        lambda: col("a").alias("\ud800"),
        lambda: col("s").str.contains("\ud800", literal=True),
        lambda: col("s").str.strip_chars("\ud800"),
        lambda: col("s").str.tokenize(separators="\ud800"),
    ],
)
def test_wrong_arguments_are_bad_settings_at_the_users_line(make):
    exc = code_of(make)
    assert exc.code is Code.BAD_SETTING
    assert exc.hint
    assert "test_expr.py:" in exc.where


def test_tokenize_makes_its_node():
    assert col("s").str.tokenize().node == Tokenize(Column("s"), "whitespace")
    word = col("s").str.tokenize("word", lowercase=True, min_len=3).node
    assert word == Tokenize(Column("s"), "word", True, 3)
    assert col("s").str.tokenize(separators=",; ,").node == Tokenize(Column("s"), "separators", separators=b" ,;")


def test_a_wrong_mode_of_tokenize_suggests_the_right_one():
    exc = code_of(lambda: col("s").str.tokenize("whitespaces"))
    assert exc.code is Code.BAD_SETTING
    assert "'whitespace'" in exc.hint


@pytest.mark.parametrize("options", [{"separators": ""}, {"separators": "é"}, {"separators": 3}, {"min_len": 0}])
def test_wrong_options_of_tokenize_are_refused(options):
    assert code_of(lambda: col("s").str.tokenize(**options)).code is Code.BAD_SETTING
    assert code_of(lambda: col("s").str.tokenize("word", separators=" ")).code is Code.BAD_SETTING


def test_when_chains_test_in_order():
    expr = when(col("a") > 2).then("big").when(col("a") > 1).then("mid").otherwise("small")
    nested = 'when(col("a") > 2).then("big").otherwise(when(col("a") > 1).then("mid").otherwise("small"))'
    assert repr(expr) == nested
    assert isinstance(when(col("a")).then(1), Expr)


def test_a_list_of_members_says_what_is_no_text():
    problem = code_of(lambda: col("a").is_in(["a", "\ud800"]))
    assert problem.code is Code.BAD_SETTING
    assert "is no text" in problem.what


def test_members_may_be_finer_than_pythons_moments():
    fine = pa.scalar(1, pa.timestamp("ns"))
    text = 'col("a").is_in(["1970-01-01 00:00:00.000000001"])'
    assert repr(col("a").is_in([fine])) == repr(col("a").is_in([np.datetime64(1, "ns")])) == text


def test_a_column_has_a_name():
    for make in (lambda: col("a").alias(""), lambda: col("a").len().alias("")):
        assert code_of(make).code is Code.BAD_SETTING


@pytest.mark.parametrize("form", ["", "%", "%Y%", "%Y-%m-%d %H:%M:%S.%f", "%Q", "%-", "%Y %Z", "%Y\0"])
def test_a_format_by_which_nothing_can_be_read_is_refused(form):
    assert code_of(lambda: col("a").str.to_datetime(form)).code is Code.BAD_SETTING
    assert code_of(lambda: col("a").str.to_date(form, strict=False)).code is Code.BAD_SETTING


@pytest.mark.parametrize("form", ["%", "%Y%", "%f", "%-d", "%Q", "%s", "%Y\0"])
def test_a_format_that_would_be_written_as_it_is_is_refused(form):
    assert code_of(lambda: col("a").dt.strftime(form)).code is Code.BAD_SETTING


def test_every_part_of_a_format_that_can_be_written_is_taken():
    form = "".join(f"%{letter}" for letter in "aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%") + "%Ey %Od"
    assert form in repr(col("a").dt.strftime(form))
