from __future__ import annotations

import operator
from datetime import datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.evaluate import evaluate, split_bad_rows
from kernelmill.engine.expr import Expr, col, lit, when
from kernelmill.engine.typing import type_of

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
edges = st.sampled_from([INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX])
integers = st.none() | edges | st.integers(-100, 100)
floats = st.none() | st.floats()
truths = st.none() | st.booleans()


def run(expr: Expr, **columns) -> pa.Array:
    """The values, checked to have the type and nullability that planning told."""
    batch = pa.record_batch(columns)
    array = evaluate(expr.node, batch)
    field = type_of(expr.node, batch.schema)
    assert isinstance(array, pa.Array)
    assert array.type == field.type
    assert len(array) == batch.num_rows
    assert field.nullable or array.null_count == 0
    array.validate(full=True)
    return array


def pairs(values) -> st.SearchStrategy:
    return st.lists(st.tuples(values, values), min_size=1, max_size=20)


def columns_of_pairs(rows, dtype):
    left, right = zip(*rows, strict=True)
    return {"a": pa.array(left, dtype), "b": pa.array(right, dtype)}


def same(ours: pa.Array, expected: list) -> None:
    # NaN is no value of its own: compare texts
    assert [repr(value) for value in ours.to_pylist()] == [repr(value) for value in expected]


# Arithmetic ----------------------------------------------------------------------------------------------------------

EXACT = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod}


def python_integers(symbol, left, right):
    if left is None or right is None or (right == 0 and symbol in ("//", "%")):
        return None
    return EXACT[symbol](left, right)


@pytest.mark.parametrize("symbol", EXACT)
@given(rows=pairs(integers))
def test_integers_compute_as_python_or_overflow_at_the_first_row_that_does(symbol, rows):
    columns = columns_of_pairs(rows, pa.int64())
    expr = EXACT[symbol](col("a"), col("b"))
    expected = [python_integers(symbol, left, right) for left, right in rows]
    beyond = [row for row, value in enumerate(expected) if value is not None and not INT64_MIN <= value <= INT64_MAX]
    if not beyond:
        assert run(expr, **columns).to_pylist() == expected
        return
    with pytest.raises(KernelmillError) as caught:
        run(expr, **columns)
    assert caught.value.code is Code.OVERFLOW
    assert caught.value.where == f"row {beyond[0]} of its batch"
    assert str(rows[beyond[0]][0]) in caught.value.what


@given(values=st.lists(integers, min_size=1, max_size=10), divisor=edges | st.integers(-9, 9))
def test_division_by_a_literal_is_that_by_a_column(values, divisor):
    columns = {"a": pa.array(values, pa.int64()), "b": pa.array([divisor] * len(values), pa.int64())}
    assert run(col("a") % divisor, **columns).equals(run(col("a") % col("b"), **columns))
    if divisor != -1:
        assert run(col("a") // divisor, **columns).equals(run(col("a") // col("b"), **columns))


@given(rows=pairs(st.none() | st.floats(-1e6, 1e6)))
def test_floats_divide_as_python(rows):
    columns = columns_of_pairs(rows, pa.float64())
    known = [row for row in rows if row[1] != 0]
    if known:
        same(
            run(col("a") // col("b"), **columns_of_pairs(known, pa.float64())),
            [None if None in row else row[0] // row[1] for row in known],
        )
    assert len(run(col("a") % col("b"), **columns)) == len(rows)


def test_floats_divided_by_zero_follow_ieee():
    columns = {"a": pa.array([1.0, -1.0, 0.0, None])}
    same(run(col("a") / 0, **columns), [float("inf"), float("-inf"), float("nan"), None])
    same(run(col("a") // 0, **columns), [float("inf"), float("-inf"), float("nan"), None])


@given(rows=pairs(integers))
def test_true_division_is_that_of_floats(rows):
    ours = run(col("a") / col("b"), **columns_of_pairs(rows, pa.int64()))
    theirs = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row").select(pl.col("a") / pl.col("b"))
    same(ours, theirs["a"].to_list())


def test_narrow_integers_are_checked_in_their_own_width():
    with pytest.raises(KernelmillError) as caught:
        run(col("a") + 1, a=pa.array([1, None, 127], pa.int8()))
    assert caught.value.code is Code.OVERFLOW
    assert caught.value.where == "row 2 of its batch"
    assert run(col("a") + 1000, a=pa.array([127], pa.int8())).to_pylist() == [1127]


def test_overflow_below_a_null_is_none():
    hidden = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x02"), pa.array([INT64_MAX, 1]).buffers()[1]])
    assert run(col("a") + 1, a=hidden).to_pylist() == [None, 2]
    assert run(col("a") // -1, a=hidden).to_pylist() == [None, -1]


def test_powers_negation_and_abs_are_checked():
    values = pa.array([2, 3])
    assert run(col("a") ** 3, a=values).to_pylist() == [8, 27]
    assert run(col("a") ** -1, a=values).to_pylist() == pytest.approx([0.5, 1 / 3])
    for expr in (col("a") ** 64, -col("least"), col("least").abs(), col("a") ** col("b")):
        with pytest.raises(KernelmillError) as caught:
            run(expr, a=values, b=pa.array([1, -1]), least=pa.array([0, INT64_MIN]))
        assert caught.value.code is Code.OVERFLOW


def test_integers_wider_than_a_float_are_rounded_not_refused():
    assert run(col("a") + 0.0, a=pa.array([2**53 + 1])).to_pylist() == [float(2**53)]
    assert run(col("a") == 0.5, a=pa.array([2**53 + 1])).to_pylist() == [False]


# Logic ---------------------------------------------------------------------------------------------------------------


def kleene(symbol, left, right):
    decisive = symbol == "|"
    if decisive in (left, right):
        return decisive
    return None if None in (left, right) else not decisive


@given(rows=pairs(truths))
def test_logic_has_three_values(rows):
    columns = columns_of_pairs(rows, pa.bool_())
    assert run(col("a") & col("b"), **columns).to_pylist() == [kleene("&", *row) for row in rows]
    assert run(col("a") | col("b"), **columns).to_pylist() == [kleene("|", *row) for row in rows]
    either = [None if None in row else row[0] != row[1] for row in rows]
    assert run(col("a") ^ col("b"), **columns).to_pylist() == either
    assert run(~col("a"), **columns).to_pylist() == [None if left is None else not left for left, _ in rows]


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge", "eq_missing", "ne_missing"])
@given(rows=pairs(integers))
def test_comparisons_agree_with_polars(name, rows):
    ours = run(_compare(col("a"), col("b"), name), **columns_of_pairs(rows, pa.int64()))
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    assert ours.to_pylist() == frame.select(_compare(pl.col("a"), pl.col("b"), name)).to_series().to_list()


def _compare(left, right, name):
    return getattr(operator, name, lambda a, b: getattr(a, name)(b))(left, right)


def test_integers_compare_bit_by_bit():
    assert run(col("a") & 6, a=pa.array([3, None, 7], pa.int8())).to_pylist() == [2, None, 6]
    assert run(~col("a"), a=pa.array([0])).to_pylist() == [-1]


# Any type ------------------------------------------------------------------------------------------------------------


def test_literals_are_repeated_for_each_row():
    batch = {"a": pa.array([1, 2, 3])}
    assert run(lit("x"), **batch).to_pylist() == ["x"] * 3
    assert run(lit(1) + 2, **batch).to_pylist() == [3] * 3
    assert run(lit(None), **batch).to_pylist() == [None] * 3
    assert run(lit(7) // 2, **batch).to_pylist() == [3] * 3
    assert run(lit(7) // 0, **batch).to_pylist() == [None] * 3


@pytest.mark.parametrize("rows", [0, 1])
def test_short_batches_are_no_exception(rows):
    batch = {"a": pa.array([5] * rows, pa.int64()), "s": pa.array(["x"] * rows, pa.string())}
    for expr in (col("a") // 2, lit(1), col("a").is_in([5]), col("s").str.split("x").list.first(), col("s") + "y"):
        assert len(run(expr, **batch)) == rows


def test_sliced_batches_are_read_from_their_offset():
    lists = pa.array([[1], [2, 3], None, [4], []])
    batch = pa.record_batch({"a": pa.array([1, 2, None, 4, 5]), "x": lists}).slice(1, 3)
    assert evaluate((col("a") // 2).node, batch).to_pylist() == [1, None, 2]
    assert evaluate(col("x").list.last().node, batch).to_pylist() == [3, None, 4]
    assert evaluate(col("x").list.contains(3).node, batch).to_pylist() == [True, None, False]


def test_dictionaries_and_views_are_read_as_their_values():
    words = pa.array(["a", None, "b", "a"])
    for column in (words.dictionary_encode(), words.cast(pa.string_view()), words.cast(pa.large_string())):
        assert run(col("w") == "a", w=column).to_pylist() == [True, None, False, True]
        assert run(col("w").str.to_uppercase(), w=column).to_pylist() == ["A", None, "B", "A"]
        assert run(col("w").is_in(["b"]), w=column).to_pylist() == [False, None, True, False]
        assert run(col("w").fill_null("z"), w=column).to_pylist() == ["a", "z", "b", "a"]
        assert run(col("w").cast("binary"), w=column).to_pylist() == [b"a", None, b"b", b"a"]


def test_membership_is_null_for_null_and_ignores_null_members():
    values = pa.array([1, None, 2])
    assert run(col("a").is_in([1, None]), a=values).to_pylist() == [True, None, False]
    assert run(col("a").is_in([]), a=values).to_pylist() == [False, None, False]
    assert run(col("a").is_in([1.0, 2.5]), a=values).to_pylist() == [True, None, False]
    assert run(col("a").is_in([300]), a=values.cast(pa.int8())).to_pylist() == [False, None, False]


def test_a_null_test_takes_the_other_branch():
    values = pa.array([1, None, 3])
    assert run(when(col("a") > 2).then("big").otherwise("small"), a=values).to_pylist() == ["small", "small", "big"]
    assert run(when(col("a") > 2).then(col("a")), a=values).to_pylist() == [None, None, 3]
    assert run(when(None).then(1).otherwise(2), a=values).to_pylist() == [2, 2, 2]


@given(values=st.lists(floats, min_size=1, max_size=20))
def test_float_functions_agree_with_polars(values):
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Float64)})
    for name in ("is_nan", "is_finite", "fill_nan", "floor", "ceil", "abs"):
        args = (1.5,) if name == "fill_nan" else ()
        theirs = frame.select(getattr(pl.col("a"), name)(*args))["a"].to_list()
        same(run(getattr(col("a"), name)(*args), a=pa.array(values, pa.float64())), theirs)


def test_roots_logarithms_and_rounding():
    values = pa.array([0.25, 4.0, None, -1.0])
    same(run(col("a").sqrt(), a=values), [0.5, 2.0, None, float("nan")])
    assert run(col("a").log(2), a=pa.array([8, 1])).to_pylist() == [3.0, 0.0]
    assert run(col("a").log(3), a=pa.array([9])).to_pylist() == pytest.approx([2.0])
    assert run(col("a").exp(), a=pa.array([0])).to_pylist() == [1.0]
    assert run(col("a").round(), a=pa.array([0.5, 1.5, -2.5])).to_pylist() == [0.0, 2.0, -2.0]
    assert run(col("a").round(1), a=pa.array([0.26])).to_pylist() == [0.3]
    assert run(col("a").round(-1), a=pa.array([17], pa.int8())).to_pylist() == [20]
    assert run(col("a").round(2), a=pa.array([17], pa.int8())).to_pylist() == [17]


def test_clip_keeps_nan_and_null():
    values = pa.array([1.0, 5.0, None, float("nan"), 9.0])
    same(run(col("a").clip(2, 8), a=values), [2.0, 5.0, None, float("nan"), 8.0])
    assert run(col("a").clip(upper_bound=3), a=pa.array([1, 7])).to_pylist() == [1, 3]


# Casts ---------------------------------------------------------------------------------------------------------------

CASTS = [
    (["1", "-7", None, "x", "", "1.5", "99999999999999999999", "0x1F", " 1"], pa.string(), "int64"),
    (["1", "1e3", "nan", "inf", None, "x", ""], pa.string(), "float64"),
    ([1, 127, 128, -129, None], pa.int64(), "int8"),
    ([1.9, -1.9, float("nan"), float("inf"), 1e300, None], pa.float64(), "int64"),
    (["2024-02-29", "2023-02-29", "x", None], pa.string(), "date32"),
    ([b"ok", b"\xff", None], pa.binary(), "string"),
    ([-1, 5], pa.int64(), "uint64"),
]


@pytest.mark.parametrize(("values", "dtype", "target"), CASTS)
def test_a_lenient_cast_gives_null_exactly_where_a_strict_one_fails(values, dtype, target):
    lenient = run(col("a").cast(target, strict=False), a=pa.array(values, dtype)).to_pylist()
    for row, (value, given_back) in enumerate(zip(values, lenient, strict=True)):
        one = pa.array([value], dtype)
        if value is not None and given_back is None:
            with pytest.raises(KernelmillError) as caught:
                run(col("a").cast(target), a=one)
            assert caught.value.code is Code.CAST
        else:
            same(run(col("a").cast(target), a=one), [lenient[row]])


def test_a_failed_cast_names_value_and_row():
    with pytest.raises(KernelmillError) as caught:
        run(col("year").cast("int64"), year=pa.array(["1990"] * 1000 + ["n/a"] + ["x"] * 10))
    exc = caught.value
    assert exc.code is Code.CAST
    assert "'n/a'" in exc.what and 'col("year")' in exc.what and "int64" in exc.what
    assert exc.where == "row 1000 of its batch"


def test_casts_cut_off_what_is_finer():
    moments = pa.array([datetime(2024, 1, 5, 23, 59, 59, 999999)])
    assert run(col("t").cast("timestamp[s]"), t=moments).to_pylist() == [datetime(2024, 1, 5, 23, 59, 59)]
    assert run(col("t").cast("date32"), t=moments).to_pylist() == [datetime(2024, 1, 5).date()]
    assert run(col("a").cast("int64"), a=pa.array([2.9, -2.9])).to_pylist() == [2, -2]
    tenths = pa.array([Decimal("1.59"), None, Decimal("-1.99")], pa.decimal128(5, 2))
    assert run(col("a").cast("int8"), a=tenths).to_pylist() == [1, None, -1]
    assert run(col("a").cast(pa.decimal128(5, 1)), a=tenths).to_pylist() == [Decimal("1.5"), None, Decimal("-1.9")]
    for target in ("uint8", pa.decimal128(2, 2)):  # what is left does not fit
        with pytest.raises(KernelmillError) as caught:
            run(col("a").cast(target), a=tenths)
        assert caught.value.code is Code.CAST


@pytest.mark.parametrize(
    ("dtype", "target", "a_day"),
    [("int32", "time32[s]", 86400), ("int32", "time32[ms]", 86400000), ("int64", "time64[us]", 86400 * 10**6)],
)
def test_an_integer_is_a_time_only_within_a_day(dtype, target, a_day):
    values = pa.array([0, None, a_day - 1, a_day, -1, 1 << 30 if dtype == "int32" else 1 << 50], dtype)
    read = run(col("a").cast(target, strict=False), a=values)
    assert read.is_valid().to_pylist() == [True, False, True, False, False, False]
    assert run(col("a").cast(target), a=values[:3]) == read[:3]
    with pytest.raises(KernelmillError) as caught:
        run(col("a").cast(target), a=values[3:])
    assert caught.value.code is Code.CAST


def test_bare_numbers_meet_decimals_as_they_are_written():
    prices = pa.array([Decimal("1.50"), Decimal("24.00"), None, Decimal("30.25")], pa.decimal128(5, 2))
    assert run(col("a") < 24, a=prices).to_pylist() == [True, False, None, False]
    assert run(col("a") >= 30.25, a=prices).to_pylist() == [False, False, None, True]
    assert run(col("a").fill_null(-7), a=prices).to_pylist()[2] == Decimal("-7.00")
    assert run(when(col("a") > 20).then(col("a")).otherwise(0), a=prices).to_pylist() == [0, 24, 0, Decimal("30.25")]


@given(st.lists(st.none() | st.integers(-(10**15) + 1, 10**15 - 1), max_size=20), st.integers(0, 15), st.integers(0, 3))
def test_decimals_become_the_floats_that_python_makes_of_them(numbers, scale, skipped):
    decimals = [None if number is None else Decimal(number).scaleb(-scale) for number in numbers]
    column = pa.array([Decimal(0)] * skipped + decimals, pa.decimal128(15, scale)).slice(skipped)
    assert run(col("a").cast("float64"), a=column).to_pylist() == [d if d is None else float(d) for d in decimals]


@pytest.mark.parametrize(
    "test",
    [col("a") == "x", col("a") != "x", col("a") < "xy", "x" <= col("a"), col("a").is_in(["x", "z"])]
    + [col("a").str.contains("y"), col("a").str.starts_with("x"), col("a").str.ends_with("y"), ~(col("a") == "x")]
    + [col("a").is_null(), col("a").fill_null("x") == "x", col("a").eq_missing(None)],
)
@pytest.mark.parametrize("values", [["x", None, "xy", "x", "x", None], [None, None], ["x", None], []])
def test_tests_of_a_dictionary_are_those_of_its_values(test, values):
    plain = pa.array(values, pa.string())
    coded = pa.DictionaryArray.from_arrays(
        pa.array([None if v is None else ["unused", "x", "xy"].index(v) for v in values], pa.int32()),
        pa.array(["unused", "x", "xy"]),
    )
    assert run(test, a=coded).to_pylist() == run(test, a=plain).to_pylist()
    if values:
        assert run(test, a=coded.slice(1)).to_pylist() == run(test, a=plain.slice(1)).to_pylist()


def near_halves(dtype, decimals) -> list[int]:
    limits, unit = np.iinfo(dtype), 10**-decimals
    around = [sign * (unit * halves // 2 + more) for halves in range(4) for more in (-1, 0, 1) for sign in (-1, 1)]
    return [value for value in (*around, limits.min, limits.max, 5) if limits.min <= value <= limits.max]


@pytest.mark.parametrize(
    ("dtype", "decimals"),
    [
        *[("int8", -2), ("int8", -3), ("uint8", -3), ("int16", -5), ("uint16", -4), ("uint16", -5), ("int32", -10)],
        *[("uint32", -9), ("uint32", -10), ("int64", -18), ("int64", -19), ("int64", -20), ("int64", -(1 << 40))],
        *[("uint64", -18), ("uint64", -19), ("uint64", -20), ("uint64", -400)],
    ],
)
def test_integers_round_as_python_or_overflow(dtype, decimals):
    limits, fine = np.iinfo(dtype), []
    for value in near_halves(dtype, max(decimals, -30)):
        rounded = round(value, max(decimals, -400))
        if limits.min <= rounded <= limits.max:
            fine.append((value, rounded))
            continue
        with pytest.raises(KernelmillError) as caught:
            run(col("a").round(decimals), a=pa.array([None, value], dtype))
        assert caught.value.code is Code.OVERFLOW
    values, expected = zip(*fine, (None, None), strict=True)
    assert run(col("a").round(decimals), a=pa.array(values, dtype)).to_pylist() == list(expected)


def test_many_bad_values_are_nulled_quickly():
    values = pa.array([str(row) if row % 2 else "x" for row in range(65536)])
    assert run(col("a").cast("int64", strict=False), a=values).null_count == 32768


# Bad rows, tokens, mistakes of ours ----------------------------------------------------------------------------------


@given(values=st.lists(st.sampled_from(["1", "2", "x", "y"]), max_size=30))
def test_bad_rows_are_told_apart_one_by_one(values):
    batch = pa.record_batch({"a": pa.array(values, pa.string())})
    found = []
    for start, made in split_bad_rows(batch, lambda part: evaluate(col("a").cast("int64").node, part)):
        assert start == len(found)
        if isinstance(made, KernelmillError):
            assert made.code is Code.CAST
            assert repr(values[start]) in made.what
            assert values[start] not in made.reason
        found += [None] if isinstance(made, KernelmillError) else made.to_pylist()
    assert found == [int(value) if value.isdigit() else None for value in values]


def test_the_first_bad_row_is_found_without_trying_them_all():
    tried = []

    def work(part):
        tried.append(part.num_rows)
        return evaluate(col("a").cast("int64").node, part)

    batch = pa.record_batch({"a": ["x"] * (1 << 16)})
    assert next(split_bad_rows(batch, work))[0] == 0
    assert len(tried) == 17


def test_other_errors_are_not_bad_rows():
    with pytest.raises(KernelmillError) as caught:
        next(split_bad_rows(pa.record_batch({"a": [1]}), lambda part: evaluate(col("b").node, part)))
    assert caught.value.code is Code.COLUMN_NOT_FOUND


def test_tokens_come_from_the_function_given():
    def tokenize(array, node):
        assert array.type == pa.string() and node.mode == "whitespace"
        lists = [None if text is None else text.split() for text in array.to_pylist()]
        return pa.array(lists, pa.list_(pa.string()))

    lines = pa.array(["a b", None, ""])
    for column in (lines, lines.dictionary_encode(), lines.cast(pa.large_string())):
        batch = pa.record_batch({"line": column})
        assert evaluate(col("line").str.tokenize().node, batch, tokenize).to_pylist() == [["a", "b"], None, []]
        counted = evaluate(col("line").str.tokenize().list.len().node, batch, tokenize)
        assert counted.to_pylist() == [2, None, 0]


@pytest.mark.parametrize("expr", [col("a").sum(), col("s").str.tokenize()])
def test_what_has_no_value_in_a_row_is_a_bug_of_the_planner(expr):
    with pytest.raises(KernelmillError) as caught:
        evaluate(expr.node, pa.record_batch({"a": [1], "s": ["x"]}))
    assert caught.value.code is Code.INTERNAL


def test_one_expression_reads_batches_whose_columns_have_other_types_in_turn():
    is_a, twice = (col("s") == "a").node, (col("n") + col("n")).node
    strings = [pa.array(["a", "b", None]).cast(kind) for kind in (pa.string(), pa.large_string())]
    strings.append(strings[0].dictionary_encode())
    numbers = [pa.array([100, 2, None], kind) for kind in (pa.int64(), pa.int16(), pa.float32())]
    for turn in (0, 1, 2, 1, 0, 0, 2):
        batch = pa.RecordBatch.from_arrays([strings[turn], numbers[turn]], names=["s", "n"])
        assert evaluate(is_a, batch).to_pylist() == [True, False, None]
        sums = evaluate(twice, batch)
        assert sums.to_pylist() == [200, 4, None] and sums.type == numbers[turn].type
