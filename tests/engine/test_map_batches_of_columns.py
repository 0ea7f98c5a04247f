"""Expr.map_batches: a function of the user's inside expressions of all verbs."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import kernelmill as km

c = km.col
TABLE = pa.table({"n": pa.array([3, 1, None, 2, 1], pa.int64()), "s": ["a", "b", "a", None, "b"]})


def frame(batch_rows=2):
    return km.from_arrow(pa.Table.from_batches(TABLE.to_batches(max_chunksize=batch_rows)))


def rows(made):
    found = [made.collect(threads=threads, split_size=1, partitions=2).rows() for threads in (1, 2)]
    assert found[0] == found[1]
    return found[0]


def double(values):
    return pc.multiply(values, 2)


def upper(values):
    return pc.utf8_upper(values)


def is_odd(values):
    return [None if one is None else one % 2 == 1 for one in values.to_pylist()]


def test_it_stands_in_every_verb_that_takes_expressions():
    doubled = [(6,), (2,), (None,), (4,), (2,)]
    assert rows(frame().select(c("n").map_batches(double))) == doubled
    more = frame().with_columns(d=(c("n") + 1).map_batches(double) - 2)
    assert rows(more.select("d")) == doubled and more.columns == ["n", "s", "d"]
    assert rows(frame().filter(c("n").map_batches(is_odd, "bool"))) == [(3, "a"), (1, "b"), (1, "b")]
    assert rows(frame().sort(c("n").map_batches(pc.negate), nulls_last=True).select("n")) == [
        (3,),
        (2,),
        (1,),
        (1,),
        (None,),
    ]
    grouped = frame().group_by(k=c("s").map_batches(upper)).agg(
        km.len(), total=c("n").map_batches(double).sum(), after=c("n").sum().map_batches(double)
    )  # fmt: skip
    assert sorted(rows(grouped), key=repr) == [("A", 2, 6, 6), ("B", 2, 4, 4), (None, 1, 4, 4)]
    other = km.from_arrow(pa.table({"k": ["A"], "v": [7]}))
    joined = frame().join(other, left_on=c("s").map_batches(upper), right_on="k")
    assert rows(joined) == [(3, "a", 7), (None, "a", 7)]
    assert joined.columns == ["n", "s", "v"]


def test_calls_may_be_in_calls_and_equal_ones_run_once():
    called = []

    def counted(values):
        called.append(len(values))
        return double(values)

    twice = c("n").map_batches(counted)
    assert rows(frame(5).select(a=twice, b=twice + 1, q=twice.map_batches(double)))[0] == (6, 7, 12)
    assert called == [5, 5]  # once by one thread, once by two


def test_what_nobody_asks_for_is_not_called():
    def raises(values):
        raise AssertionError("not to be called")

    assert rows(frame().with_columns(x=c("n").map_batches(raises)).select("s").head(1)) == [("a",)]


def test_values_come_opened_and_go_out_as_any_array():
    coded = km.from_arrow(pa.table({"s": pa.array(["x", "y", "x"]).dictionary_encode()}))
    seen = []
    made = coded.select(c("s").map_batches(lambda values: seen.append(values.type) or np.arange(len(values)), "int64"))
    assert [n for (n,) in made.collect().rows()] == [0, 1, 2] and seen == [pa.string()]
    assert made.schema == {"s": pa.int64()}
    narrow = coded.select(n=c("s").map_batches(lambda values: pc.binary_length(values), "int64"))  # int32 is widened
    assert narrow.collect().rows() == [(1,), (1,), (1,)]
    chunks = coded.select(n=c("s").map_batches(lambda values: pa.chunked_array([values, values[:0]])))
    assert chunks.collect().rows() == [("x",), ("y",), ("x",)]
    assert (
        km.from_arrow(pa.table({"s": pa.array([], "string")})).select(c("s").map_batches(upper)).collect().rows() == []
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda values: values[1:],
        lambda values: values.cast("string"),
        lambda values: ["x"] * len(values),
        lambda values: None,
        lambda values: 1 / 0,
        lambda values: [object()] * len(values),
    ],
)
def test_other_values_or_too_few_are_told_with_the_function(function):
    with pytest.raises(km.errors.KernelmillError) as caught:
        frame().select(c("n").map_batches(function)).collect()
    assert caught.value.code.id == "KM0301" and "test_map_batches_of_columns.py" in str(caught.value)


def test_what_is_no_function_or_no_type_is_refused_at_once():
    for given in [(5,), (lambda: None,), (double, "nonsense")]:
        with pytest.raises(km.errors.KernelmillError) as caught:
            c("n").map_batches(*given)
        assert caught.value.code.id == "KM0107"


def test_plans_show_the_function_and_its_line():
    made = frame().filter(c("n").map_batches(double) > 2)
    assert 'Filter col("n").map_batches(double) > 2' in repr(made)
    assert "MapColumn double at" in made.explain() and "of n: double: int64" in made.explain()
    assert rows(made) == [(3, "a"), (2, None)]
