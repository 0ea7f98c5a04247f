"""verify: finds maps that differ, combines that are not associative or commutative, and rows that differ."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

PAIRS = {"key": "string", "value": "int64"}


def mapreduce(*functions, **options):
    """A job of plain Python: these tests are about what that does."""
    return km.MapReduce(*functions, **({"compile": "never"} | options))


FRAME = km.from_arrow(pa.table({"line": [f"k{n % 7} {n}" for n in range(500)]}))


def parse(line, emit):
    key, n = line.split()
    emit.count("seen")
    emit(key, int(n))


def code_of(job, frame=FRAME):
    with pytest.raises(KernelmillError) as caught:
        job.verify(frame)
    return caught.value.code


@pytest.mark.parametrize("reduce", ["sum", "mean", "list", "first", lambda k, values, emit: emit(max(values))])
@pytest.mark.parametrize("order", ["key", None])
def test_a_right_job_is_the_same_as_plain_python(reduce, order):
    found = mapreduce(parse, reduce, schema=PAIRS, order=order).verify(FRAME)
    assert (found.records, found.rows, found.rejected) == (500, 7, 0)


def test_rejected_records_are_compared_too():
    frame = km.from_arrow(pa.table({"line": ["a 1", "b", "a 2"]}))
    assert mapreduce(parse, "sum", schema=PAIRS).verify(frame).rejected == 1


def test_a_sample_is_the_beginning(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a 1\n" * 100_000)
    found = mapreduce(parse, "sum", schema=PAIRS).verify(str(path), sample="10KiB")
    assert 0 < found.records < 5_000


@pytest.mark.parametrize("combine", [lambda a, b: a - b, lambda a, b: a, lambda a, b: (a + b) // 2])
def test_a_combine_that_is_not_associative_and_commutative_is_found(combine):
    assert code_of(mapreduce(parse, combine=combine, schema=PAIRS)) is Code.COMBINER_CONTRACT


@pytest.mark.parametrize("values", [[1, 3, 1], [1, 3], [1, 1, 1, 3], [2, 4, 6, 8]])
def test_a_mean_of_two_is_found_whatever_values_meet(values):
    frame = km.from_arrow(pa.table({"line": [f"k {n}" for n in values]}))
    job = mapreduce(
        lambda line, emit: emit(line[0], float(line[2:])),
        combine=lambda a, b: (a + b) / 2,
        schema={"key": "string", "value": "float64"},
    )
    assert code_of(job, frame) is Code.COMBINER_CONTRACT


@pytest.mark.parametrize("order", ["key", "value", None])
def test_unique_values_are_in_the_order_of_the_first_of_each(order):
    frame = km.from_arrow(pa.table({"line": [f"k{n % 3} {n * n % 11}" for n in range(200)]}))
    job = mapreduce(parse, "unique", schema=PAIRS, order=order)
    assert job.verify(frame).rows == 3
    found = dict(frame.pipe(job).collect(threads=2, split_size="1KiB").rows())["k0"]
    assert found == ([0, 1, 3, 4, 5, 9] if order == "value" else [0, 9, 3, 4, 1, 5])


def test_a_map_that_depends_on_what_it_saw_is_found():
    numbers = itertools.count()
    job = mapreduce(lambda line, emit: emit(line, next(numbers)), "sum", schema=PAIRS)
    assert code_of(job) is Code.NONDETERMINISTIC


def test_a_row_that_differs_is_found():
    seen = []

    def reduce(key, values, emit):
        seen.append(key)
        emit(sum(values) + len(seen) // 8)

    assert code_of(mapreduce(parse, reduce, schema=PAIRS)) is Code.VERIFY_DIFFERS


def test_where_compiled_integers_wrap_the_hint_says_how_wide_they_are():
    def wrapping(line, emit):
        emit(line, (len(line) * 4611686018427387904) % 1000)

    job = km.MapReduce(wrapping, "sum", schema=PAIRS, compile="require")
    with pytest.raises(km.errors.KernelmillError) as caught:
        job.verify(km.from_arrow(pa.table({"line": ["four"]})))
    assert caught.value.code.id == "KM0309"
    assert "64 bits" in caught.value.hint
