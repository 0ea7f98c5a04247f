from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.expr import Expr, col, lit, when
from kernelmill.engine.expr import len as rows
from kernelmill.engine.nodes import Literal
from kernelmill.engine.typing import columns_of, contains_aggregate, node_text, output_name, substitute, type_of

SCHEMA = pa.schema(
    [
        pa.field("i8", pa.int8()),
        pa.field("i64", pa.int64(), nullable=False),
        pa.field("u8", pa.uint8()),
        pa.field("u64", pa.uint64()),
        pa.field("f32", pa.float32()),
        pa.field("f64", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("ls", pa.large_string()),
        pa.field("b", pa.binary()),
        pa.field("ok", pa.bool_()),
        pa.field("d", pa.date32()),
        pa.field("t", pa.timestamp("ms")),
        pa.field("tz", pa.timestamp("us", "UTC")),
        pa.field("money", pa.decimal128(10, 2)),
        pa.field("xs", pa.list_(pa.int64())),
        pa.field("dict", pa.dictionary(pa.int32(), pa.string())),
        pa.field("st", pa.struct([("a", pa.int64())])),
    ]
)


def typed(expr: Expr) -> str:
    field = type_of(expr.node, SCHEMA)
    return f"{field.type}{'' if field.nullable else ' not null'}"


def code_of(expr: Expr) -> Code:
    with pytest.raises(KernelmillError) as caught:
        type_of(expr.node, SCHEMA)
    return caught.value.code


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (col("i8") + 1, "int8"),
        (col("i8") + 300, "int64"),
        (col("i64") + 1, "int64 not null"),
        (1 - col("i64"), "int64 not null"),
        (col("i64") + col("i8"), "int64"),
        (col("i8") + col("u8"), "int16"),
        (col("u64") + 1, "uint64"),
        (col("i64") + 1.5, "double not null"),
        (col("f32") + 0.1, "float"),
        (col("f32") + 1e300, "double"),
        (col("f32") + col("i8"), "float"),
        (col("f32") + col("i64"), "double"),
        (col("i64") / 2, "double not null"),
        (col("f32") / 2, "double"),
        (col("i64") // 2, "int64 not null"),
        (col("i64") // 0, "int64"),
        (col("i64") % col("i8"), "int64"),
        (col("f64") // 0, "double"),
        (col("i64") ** 2, "int64 not null"),
        (col("i64") ** -2, "double not null"),
        (-col("i8"), "int8"),
        (col("s") + "x", "string"),
        (col("s") + col("ls"), "large_string"),
        (col("dict") + "x", "string"),
        (col("i64") + None, "int64"),
        (col("i64") == 1, "bool not null"),
        (col("u64") == 1, "bool"),
        (col("i8") < 1000, "bool"),
        (col("b") == "abc", "bool"),
        (col("money") > 1.5, "bool"),
        (col("money") > Decimal("1.5"), "bool"),
        (col("d") >= date(2024, 1, 1), "bool"),
        (col("t") >= date(2024, 1, 1), "bool"),
        (col("t") >= datetime(2024, 1, 1), "bool"),
        (col("d") < col("t"), "bool"),
        (col("t") + timedelta(days=1), "timestamp[us]"),
        (timedelta(days=1) + col("t"), "timestamp[us]"),
        (col("t") - col("t"), "duration[ms]"),
        (col("d") - col("d"), "duration[s]"),
        (col("ok") & (col("i64") > 1), "bool"),
        (col("i8") & 1, "int8"),
        (~col("ok"), "bool"),
        (col("f64").is_null(), "bool not null"),
        (col("f64").eq_missing(None), "bool not null"),
        (col("f64").fill_null(0), "double not null"),
        (col("f64").fill_null(None), "double"),
        (col("i8").is_in([1, 2]), "bool"),
        (col("i64").is_between(1, 2), "bool not null"),
        (when(col("ok")).then(1).otherwise(2.5), "double not null"),
        (when(col("ok")).then("a"), "string"),
        (when(col("ok")).then(col("i8")).otherwise(0), "int8"),
        (col("i64").sqrt(), "double not null"),
        (col("f32").log(), "float"),
        (col("i64").clip(0, 9), "int64 not null"),
        (col("s").str.len_chars(), "int64"),
        (col("b").str.len_bytes(), "int64"),
        (col("s").str.split(","), "list<item: string>"),
        (col("s").str.tokenize(), "list<item: string not null>"),
        (col("b").str.tokenize("word"), "list<item: binary not null>"),
        (col("dict").str.tokenize(), "list<item: string not null>"),
        (col("s").str.to_date(), "date32[day]"),
        (col("d").dt.year(), "int64"),
        (col("t").dt.truncate("1h"), "timestamp[ms]"),
        (col("xs").list.len(), "int64"),
        (col("xs").list.first(), "int64"),
        (col("xs").list.contains(3), "bool"),
        (col("i64").cast("string"), "string not null"),
        (col("i64").cast("int8", strict=False), "int8"),
        (lit(None), "null"),
        (lit(2**63), "uint64 not null"),
        (lit(3, "int8"), "int8 not null"),
        (rows(), "int64 not null"),
        (col("i8").sum(), "int64 not null"),
        (col("u8").sum(), "uint64 not null"),
        (col("f32").sum(), "double not null"),
        (col("ok").sum(), "int64 not null"),
        (col("i64").mean(), "double not null"),
        (col("f32").mean(), "double"),
        (col("s").min(), "string"),
        (col("s").count(), "int64 not null"),
        (col("i64").max() - col("i64").min(), "int64 not null"),
    ],
    ids=repr,
)
def test_types_follow_the_tables_of_the_user_guide(expr, expected):
    assert typed(expr) == expected


@pytest.mark.parametrize(
    "expr",
    [
        col("s") > 1990,
        col("s") + 1,
        col("i64") + col("u64"),
        col("u64") > -1,
        col("ok") + 1,
        col("ok") & 1.5,
        ~col("f64"),
        -col("u8"),
        col("s").sqrt(),
        col("s") == b"x",
        col("d") > "2024-01-01",
        col("t") == col("tz"),
        col("d") == col("tz"),
        col("money") + col("i64"),
        col("money") > 1.005,
        col("xs") == col("xs"),
        col("st") == col("st"),
        col("i64").str.len_bytes(),
        col("b").str.to_lowercase(),
        col("s").dt.year(),
        col("d").dt.hour(),
        col("s").list.len(),
        col("xs").list.join(","),
        col("xs").list.contains("a"),
        col("i64").is_in(["a"]),
        col("i64").fill_null("a"),
        col("i64").fill_nan(0),
        when(col("i64")).then(1).otherwise(2),
        when(col("ok")).then(1).otherwise("b"),
        col("xs").cast("int64"),
        col("i64").str.tokenize(),
        col("s").sum(),
        col("money").top_k(2),
        col("xs").max(),
        col("i64").sum().max(),
    ],
    ids=repr,
)
def test_what_does_not_go_together_is_refused_with_a_hint(expr):
    with pytest.raises(TypeError) as caught:
        type_of(expr.node, SCHEMA, where="report.py:9")
    exc = caught.value
    assert isinstance(exc, KernelmillError)
    assert exc.code is Code.TYPE_MISMATCH
    assert exc.where == "report.py:9"
    assert exc.hint


def test_a_type_error_names_both_types_and_the_cast():
    with pytest.raises(KernelmillError) as caught:
        type_of((col("s") > 1990).node, SCHEMA)
    assert "string with int64" in caught.value.what
    assert caught.value.hint == 'col("s").cast("int64")'


@pytest.mark.parametrize(
    "expr",
    [
        lit(1).str.to_lowercase(),
        lit(1).str.tokenize(),
        (col("i64") + 1).str.to_lowercase(),
        col("i64") > lit("x", "string"),
        col("i64") + (1 << 63),
        col("f64") * col("ok"),
        -col("u8"),
        (col("s") + "x").sum(),
        lit("x").mean(),
        col("s") > 1,
        col("d").sum(),
        col("t").mean(),
        col("t").round(),
    ],
    ids=str,
)
def test_a_cast_in_a_hint_is_python_and_mends_the_type(expr):
    with pytest.raises(KernelmillError) as caught:
        type_of(expr.node, SCHEMA)
    hint = caught.value.hint.removesuffix(" can be negative").split(": ")[-1]
    mended = eval(hint, {"col": col, "lit": lit})
    assert type_of(mended.node, SCHEMA).type in (pa.string(), pa.int64(), pa.float64())


def test_what_has_no_numbers_gets_no_cast_in_its_hint():
    for expr in (col("list").sum(), col("list").round()):
        with pytest.raises(KernelmillError) as caught:
            type_of(expr.node, pa.schema({"list": pa.list_(pa.int64())}))
        assert (caught.value.code, "cast" in caught.value.hint) == (Code.TYPE_MISMATCH, False)


def test_a_very_deep_expression_is_shown_as_far_as_it_can_be():
    deep = col("i64")
    for _ in range(3000):
        deep = deep + 1
    assert repr(deep).startswith("... + 1 + 1")
    with pytest.raises(KernelmillError) as caught:
        bool(deep)
    assert caught.value.code is Code.AMBIGUOUS_TRUTH


def test_signed_with_uint64_asks_for_a_cast():
    with pytest.raises(KernelmillError) as caught:
        type_of((col("i64") + col("u64")).node, SCHEMA)
    assert 'col("u64").cast("int64")' in caught.value.hint


def test_an_unknown_column_is_found_anywhere():
    assert code_of(when(col("ok")).then(col("nope").str.len_chars()).otherwise(1)) is Code.COLUMN_NOT_FOUND


@pytest.mark.parametrize(
    ("expr", "name"),
    [
        (col("a"), "a"),
        (col("a") + col("b"), "a"),
        (col("a").sum(), "a"),
        (col("a").cast("int64").str.len_chars(), "a"),
        (col("a").alias("x"), "x"),
        (rows(), "len"),
        (lit(1), "literal"),
        (lit(1) + col("a"), "literal"),
        (when(col("p")).then(col("a")).otherwise(col("b")), "a"),
        (col("a").len(), "a"),
    ],
    ids=repr,
)
def test_a_column_is_named_after_its_leftmost(expr, name):
    assert output_name(expr.node) == name


def test_columns_and_aggregates_are_found():
    expr = when(col("a") > 1).then(col("b").str.tokenize()).otherwise(col("c").alias("z"))
    assert columns_of(expr.node) == {"a", "b", "c"}
    assert columns_of(rows().node) == set()
    assert contains_aggregate((col("a").sum() + 1).node)
    assert not contains_aggregate(expr.node)


def test_substitution_replaces_columns_and_settles_literals():
    node = substitute((col("a") + col("b")).node, {"a": lit(1).alias("a").node, "b": (col("i8") * 2).node})
    assert node_text(node) == '1 + col("i8") * 2'
    assert isinstance(node.args[0], Literal) and not node.args[0].bare
    # alone the literal was an int64 column: beside int8 it stays one
    assert type_of(node, SCHEMA).type == pa.int64()


def test_substitution_happens_once():
    node = substitute((col("a") + col("b")).node, {"a": col("b").node, "b": col("a").node})
    assert node_text(node) == 'col("b") + col("a")'


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (col("n") > 3, 'col("n") > 3'),
        ((col("n") + 1) * 2, '(col("n") + 1) * 2'),
        (col("n") - (col("m") - 1), 'col("n") - (col("m") - 1)'),
        ((col("n") > 1) & ~(col("m") == "x"), '(col("n") > 1) & ~(col("m") == "x")'),
        ((col("a") > 1) == (col("b") > 1), '(col("a") > 1) == (col("b") > 1)'),
        (-(col("n") ** 2), '-col("n") ** 2'),
        ((-col("n")) ** 2, '(-col("n")) ** 2'),
        ((col("n") + 1).cast("float64"), '(col("n") + 1).cast("float64")'),
        (col("n").is_in([1, 2]), 'col("n").is_in([1, 2])'),
        (col("s").str.tokenize("word", lowercase=True), 'col("s").str.tokenize("word", lowercase=True)'),
        (col("s").str.tokenize(separators=" ,"), "col(\"s\").str.tokenize(separators=b' ,')"),
        (col("n").sum() / rows(), 'col("n").sum() / len()'),
        (when(col("p")).then(1).otherwise(None), 'when(col("p")).then(1).otherwise(None)'),
        (lit(3).cast("int8"), 'lit(3).cast("int8")'),
        (col("s").str.slice(1, 2), 'col("s").str.slice(offset=1, length=2)'),
    ],
)
def test_text_reads_as_it_was_written(expr, text):
    assert node_text(expr.node) == text


def test_planning_imports_no_numba():
    code = "import sys, kernelmill.engine.expr, kernelmill.engine.typing; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
