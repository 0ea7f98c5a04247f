"""DataFrame: a result can be looked at, taken apart and handed on; its table is aligned and holds nothing unsafe."""

from __future__ import annotations

import copy
import math
import pickle
from textwrap import dedent

import polars as pl
import pyarrow as pa
import pytest

from kernelmill.engine.cells import CELL_CHARS_MAX, cell_text
from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.display import table_html, table_text
from kernelmill.engine.errors import Code, KernelmillError

TABLE = pa.table({"word": ["the", None, "nation"], "n": [63919, 1, None]})


@pytest.fixture
def result() -> DataFrame:
    return DataFrame(TABLE, counters={"seen": 3})


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def test_its_shape_and_columns(result):
    assert (result.shape, result.height, len(result), result.columns) == ((3, 2), 3, 3, ["word", "n"])
    assert dict(result.schema) == {"word": pa.string(), "n": pa.int64()}
    assert dict(result.counters) == {"seen": 3}
    assert result.rejects is None


def test_its_rows(result):
    assert result.rows() == list(result.iter_rows()) == [("the", 63919), (None, 1), ("nation", None)]
    assert (result.row(0), result.row(-1)) == (("the", 63919), ("nation", None))
    assert code_of(lambda: result.row(3)) is Code.BAD_SETTING


def test_its_columns_by_name(result):
    assert result["n"].to_pylist() == [63919, 1, None]
    assert code_of(lambda: result["N"]) is Code.COLUMN_NOT_FOUND
    assert code_of(lambda: result[0]) is Code.BAD_SETTING


def test_it_is_handed_on_in_other_forms(result):
    assert result.to_arrow() is TABLE
    assert result.to_dict() == TABLE.to_pydict()
    assert isinstance(result.to_polars(), pl.DataFrame)
    assert pa.table(result) == TABLE
    assert result.lazy().collect().to_arrow() == TABLE
    assert result.head(1).rows() == [("the", 63919)]


def test_it_writes_parquet(result, tmp_path):
    assert result.write_parquet(tmp_path / "out.parquet").rows == 3


def test_verbs_are_those_of_the_lazy_frame(result):
    with pytest.raises(AttributeError) as caught:
        result.filter  # noqa: B018
    assert isinstance(caught.value, KernelmillError)
    assert (caught.value.code, "df.lazy().filter" in caught.value.hint) == (Code.UNKNOWN_NAME, True)
    assert not hasattr(result, "_repr_mimebundle_")


def test_numbers_stand_to_the_right():
    assert table_text(TABLE) == dedent("""\
        word         n
        string   int64
        the     63,919
        null         1
        nation    null""")


def test_what_is_left_out_is_said():
    many = DataFrame(pa.table({"n": list(range(1500))}))
    assert repr(many).splitlines()[-1] == "... 1,490 more rows"
    assert many._repr_html_().endswith("<p><small>... 1,490 more rows</small></p>")


def test_the_middle_of_a_wide_table_is_left_out():
    wide = pa.table({f"c{number}": [number] for number in range(40)})
    head = table_text(wide).splitlines()[0].split()
    assert (head[0], head[6], head[-1], len(head)) == ("c0", "…", "c39", 13)


def test_wide_characters_take_two_places():
    lines = table_text(pa.table({"a": ["日本", "x"], "b": ["1", "2"]})).splitlines()
    assert lines[2:] == ["日本    1", "x       2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1234567, "1,234,567"),
        (0.5, "0.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (1e300, "1e+300"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        (b"\xff", "b'\\xff'"),
        ([1, None], "[1, None]"),
    ],
)
def test_a_value_takes_one_line_and_sends_nothing_to_the_terminal(value, text):
    assert cell_text(value) == text


def test_long_values_are_cut():
    assert len(cell_text("x" * 1000)) == CELL_CHARS_MAX
    assert cell_text("x" * 1000).endswith("…")


def test_html_is_escaped():
    page = table_html(pa.table({"<b>": ["<script>alert(1)</script>"]}))
    assert "<script" not in page
    assert "<b>" not in page


def test_a_table_without_rows_has_a_head():
    assert table_text(TABLE.slice(0, 0)).splitlines() == ["word        n", "string  int64"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda df: pickle.loads(pickle.dumps(df))])
def test_it_can_be_copied_and_pickled_with_its_counters(again):
    result = DataFrame(pa.table({"a": [1]}), counters={"lines": 3}, rejects=pa.table({"file": ["x"]}))
    twin = again(result)
    assert (twin.rows(), dict(twin.counters), twin.rejects.rows()) == ([(1,)], {"lines": 3}, [("x",)])
    with pytest.raises(TypeError):
        twin.counters["lines"] = 4
