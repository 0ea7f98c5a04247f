"""map_batches and map_groups: whole Arrow batches and groups, checked against their schema."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

FRAME = km.from_arrow(pa.table({"k": ["a", "b", "a", None], "n": [1, 2, 3, 4]}))


def code_of(frame):
    with pytest.raises(KernelmillError) as caught:
        frame.collect(progress=False)
    return caught.value.code


def test_batches_are_mapped_with_the_same_schema_or_another():
    def double(batch):
        return batch.set_column(1, "n", pc.multiply(batch["n"], 2))

    same = FRAME.map_batches(double)
    assert same.filter(km.col("n") > 2).select("n").collect(progress=False).rows() == [(4,), (6,), (8,)]
    other = FRAME.map_batches(lambda batch: pa.table({"x": pc.add(batch["n"], 0.5)}), schema={"x": "float64"})
    assert other.collect(progress=False).rows() == [(1.5,), (2.5,), (3.5,), (4.5,)]


def test_integers_may_be_narrower_than_the_schema_says():
    """pc.utf8_length gives int32, and its users say int64."""

    def lengths(batch):
        length = pc.utf8_length(batch["k"])
        return pa.table({"length": length, "short": length.cast("uint8")})

    found = FRAME.map_batches(lengths, schema={"length": "int64", "short": "int16"}).collect(progress=False)
    assert found.rows() == [(1, 1), (1, 1), (1, 1), (None, None)]
    assert [str(kind) for kind in found.to_arrow().schema.types] == ["int64", "int16"]


@pytest.mark.parametrize(
    ("given", "wanted"), [("int64", "int32"), ("uint32", "int32"), ("int32", "uint64"), ("int32", "float64")]
)
def test_integers_that_may_not_fit_and_other_types_are_refused(given, wanted):
    made = FRAME.map_batches(lambda batch: pa.table({"n": batch["n"].cast(given)}), schema={"n": wanted})
    assert code_of(made) is Code.FUNCTION_FAILED


@pytest.mark.parametrize(
    "function",
    [
        lambda batch: batch.select(["k"]),
        lambda batch: 3,
        lambda batch: 1 / 0,
        lambda batch: pa.table({"k": batch["k"], "n": batch["n"].cast("float64")}),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(function):
    assert code_of(FRAME.map_batches(function)) is Code.FUNCTION_FAILED
    assert code_of(FRAME.group_by("k").map_groups(function)) is Code.FUNCTION_FAILED


def test_groups_are_mapped_each_as_one_table():
    def top(group):
        return pa.table({"k": group["k"][:1], "most": [max(group["n"].to_pylist())], "rows": [group.num_rows]})

    schema = {"k": "string", "most": "int64", "rows": "int64"}
    got = FRAME.group_by("k").map_groups(top, schema=schema).collect(progress=False, split_size=1, partitions=2)
    assert sorted(got.rows(), key=str) == [("a", 3, 2), ("b", 2, 1), (None, 4, 1)]


def test_groups_by_an_expression_have_its_column_too():
    frame = FRAME.group_by(odd=km.col("n") % 2).map_groups(lambda group: group.slice(0, 1))
    assert frame.columns == ["k", "n", "odd"]
    got = frame.collect(progress=False, partitions=1).rows()
    assert [row[1:] for row in got] == [(1, 1), (2, 0)]


def test_arguments_that_make_no_sense_are_refused():
    for call in (lambda: FRAME.map_batches(3), lambda: FRAME.map_batches(lambda: 0)):
        with pytest.raises(KernelmillError) as caught:
            call()
        assert caught.value.code is Code.BAD_SETTING
    with pytest.raises(KernelmillError):
        FRAME.map_batches(lambda batch: batch, schema=7)
