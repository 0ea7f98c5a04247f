"""product of groups: against plain Python, however rows lie in tasks, and what is refused."""

import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km

c = km.col
SCHEMA = pa.schema([("k", pa.string()), ("i", pa.int8()), ("u", pa.uint16()), ("f", pa.float32()), ("b", pa.bool_())])
ROWS = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", None]),
        "i": st.none() | st.integers(-3, 3),
        "u": st.none() | st.integers(0, 3),
        "f": st.none() | st.sampled_from([0.5, -2.0, 1.0, -0.0, math.inf]),
        "b": st.none() | st.booleans(),
    }
)


def frame_of(rows, batch_rows=3):
    table = pa.Table.from_pylist(rows, SCHEMA)
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=batch_rows), SCHEMA))


def product(rows, name, kind=int):
    return math.prod((kind(row[name]) for row in rows if row[name] is not None), start=kind(1))


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, max_size=25))
def test_products_of_groups_and_of_all_rows_are_as_in_python(rows):
    aggs = [c("i").product(), c("u").product(), c("f").product(), c("b").product()]
    aggs += [c("i").product().filter(c("b")).alias("p"), (c("u").product() + 1).alias("q")]

    def expected(some):
        true = [row for row in some if row["b"]]
        whole = product(some, "i"), product(some, "u")
        return *whole, product(some, "f", float), product(some, "b"), product(true, "i"), whole[1] + 1

    frame = frame_of(rows)
    found = frame.group_by("k").agg(*aggs).collect(threads=2, split_size=1, partitions=2)
    keys = list(dict.fromkeys(row["k"] for row in rows))
    groups = {key: expected([row for row in rows if row["k"] == key]) for key in keys}
    assert repr({key: tuple(rest) for key, *rest in sorted(found.rows(), key=repr)}) == repr(
        {key: groups[key] for key in sorted(keys, key=lambda key: repr((key, *groups[key])))}
    )
    types = [pa.int64(), pa.uint64(), pa.float64(), pa.int64(), pa.int64(), pa.uint64()]
    assert list(found.schema.values())[1:] == types
    assert not any(found.schema.is_nullable(name) for name in found.columns[1:])
    assert repr(frame.select(*aggs).collect(split_size=1).rows()) == repr([expected(rows)])


def test_a_product_beyond_64_bits_is_told():
    frame = km.from_arrow(pa.table({"n": [2**32, 2**31]}))
    with pytest.raises(km.errors.KernelmillError) as caught:
        frame.select(c("n").product()).collect(split_size=1)
    assert caught.value.code.id == "KM0208" and "'n'" in caught.value.what


@pytest.mark.parametrize("value", ["x", Decimal("1.5"), [1]])
def test_what_is_not_multiplied_is_refused_when_it_is_written(value):
    frame = km.from_arrow(pa.table({"n": [value]}))
    with pytest.raises(km.errors.KernelmillError) as caught:
        frame.group_by("n").agg(p=c("n").product())
    assert caught.value.code.id == "KM0102"
