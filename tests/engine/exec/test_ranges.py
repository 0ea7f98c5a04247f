"""Total order over part files: rows placed between splitters that a sample of the keys gave."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.ranges import pick_splitters, range_placing, sample_keys
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.physical import PickSplitters, SampleKeys

ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["", "a", "a\0", "b", "bb" * 9]),
        st.none() | st.integers(-3, 3) | st.sampled_from([math.nan, math.inf, -0.0]),
    ),
    max_size=60,
)
KEYS = st.lists(
    st.tuples(st.sampled_from(["s", "f"]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=2,
    unique_by=lambda k: k[0],
)


def table_of(rows):
    texts, numbers = zip(*rows, strict=True) if rows else ((), ())
    columns = {"s": pa.array(texts, pa.string()), "f": pa.array(map(as_float, numbers), pa.float64())}
    return pa.table({**columns, "row": pa.array(range(len(rows)), pa.int64())})


def as_float(value):
    return None if value is None else float(value)


def sample_of(batches, keys, rows):
    schema = pa.schema([*(batches[0].schema.field(key) for key in keys), pa.field("rows", pa.int64())])
    context = TaskContext(AttemptId(TaskId(0, 0), 0))
    total = sum(batch.num_rows for batch in batches)
    return list(sample_keys(iter(batches), SampleKeys(tuple(keys), rows, schema), total, context))


def frame_of(rows):
    """Each row a batch, so that splits are as small as they are asked to be."""
    return km.from_arrow(pa.Table.from_batches(table_of(rows).to_batches(max_chunksize=2) or [], table_of([]).schema))


@settings(max_examples=25, deadline=None)
@given(ROWS, KEYS, st.integers(1, 200), st.integers(1, 5))
def test_a_sort_over_partitions_is_the_sort_in_one(rows, keys, split_bytes, partitions):
    names, down, last = zip(*keys, strict=True)
    frame = frame_of(rows).sort(*names, descending=list(down), nulls_last=list(last))
    tuned = {"split_size": split_bytes, "progress": False, "threads": 2}
    made = frame.collect(partitions=partitions, **tuned)["row"].to_pylist()
    assert made == frame.collect(partitions=1, **tuned)["row"].to_pylist()
    assert sorted(made) == list(range(len(rows)))


@given(st.integers(0, 500), st.integers(1, 50), st.lists(st.integers(0, 500), max_size=5))
def test_a_sample_is_one_row_of_every_few_however_batches_are_cut(rows, wanted, cuts):
    whole = pa.record_batch({"n": pa.array(range(rows), pa.int64())})
    bounds = sorted([0, rows, *(cut % (rows + 1) for cut in cuts)])
    pieces = [whole.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    (sample,) = sample_of(pieces, ["n"], wanted)
    assert sample == sample_of([whole], ["n"], wanted)[0]
    assert sample.num_rows <= wanted
    each = -(-rows // wanted) or 1
    assert {weight.as_py() for weight in sample["rows"]} <= {each}
    strata = [n // each for n in sample["n"].to_pylist()]
    assert strata == sorted(set(strata))
    assert len(strata) >= rows // each  # only a last stratum that is short may give none


def test_long_keys_make_a_sample_smaller_and_each_stand_for_more():
    whole = pa.record_batch({"s": [f"{n:04d}" * 2500 for n in range(1000)]})
    (sample,) = sample_of([whole.slice(0, 300), whole.slice(300)], ["s"], 1000)
    assert sample.nbytes <= 1 << 20
    assert 950 <= sum(sample["rows"].to_pylist()) <= 1050


def test_splitters_share_rows_out_evenly_also_where_tasks_differ():
    rng = np.random.default_rng(3)
    large, small = rng.normal(size=100_000), rng.normal(5, size=10_000)
    samples = []
    for values in (large, small):
        samples += sample_of([pa.record_batch({"n": values})], ["n"], 2048)
    schema = pa.schema([("n", pa.float64())])
    keys = (("n", True, False),)
    splitters = list(pick_splitters(iter(samples), PickSplitters(keys, 8, schema)))
    assert splitters[0].num_rows == 7
    place = range_placing(splitters, keys)
    parts = np.concatenate([place(pa.record_batch({"n": values}), 8) for values in (large, small)])
    counts = np.bincount(parts, minlength=8)
    assert counts.max() < 1.25 * len(parts) / 8
    assert counts.min() > 0.75 * len(parts) / 8


def test_without_rows_there_is_nothing_to_split():
    schema = pa.schema([("n", pa.int64())])
    assert list(pick_splitters(iter([]), PickSplitters((("n", False, False),), 3, schema))) == []
    place = range_placing([], (("n", False, False),))
    assert place(pa.record_batch({"n": [2, 1]}), 3).tolist() == [0, 0]


def test_files_hold_the_total_order_in_the_same_bytes_for_any_threads_and_memory(tmp_path):
    rng = np.random.default_rng(1)
    table = pa.table({"k": rng.integers(0, 5000, 60_000), "t": [f"{n:09d}" for n in rng.integers(0, 10**9, 60_000)]})
    frame = km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=5000))).sort("k", descending=True)
    seen = set()
    for number, tuned in enumerate([{"threads": 1}, {"threads": 2}, {"threads": 2, "memory": "128MiB"}]):
        out = tmp_path / f"out{number}"
        frame.sink_parquet(out, partitions=4, split_size="100KiB", progress=False, **tuned)
        parts = sorted(out.glob("part-*.parquet"))
        assert len(parts) == 4
        seen.add(b"".join(path.read_bytes() for path in [*parts, out / "_manifest.json"]))
    assert len(seen) == 1
    keys = [km.read_parquet(path)["k"].to_pylist() for path in parts]
    assert list(itertools.chain(*keys)) == sorted(table["k"].to_pylist(), reverse=True)
    assert min(map(len, keys)) > 10_000


@pytest.mark.parametrize("sizes", [[4_000], [1_500, 2_000, 0, 500], [40] * 60], ids=["one file", "several", "small"])
def test_a_sort_of_parquet_reads_it_twice_and_gives_the_bytes_of_one_that_leaves_blocks(tmp_path, sizes):
    random = np.random.default_rng(5)
    for number, rows in enumerate(sizes):
        keys = [random.bytes(3) + bytes(7) for _ in range(rows)]
        columns = {
            "key": pa.array(keys, pa.binary(10)),
            "text": pa.array([key.hex() if key[0] % 5 else None for key in keys], pa.string()),
            "payload": pa.array([key * 9 if key[1] % 7 else None for key in keys], pa.binary(90)),
        }
        folder = tmp_path / "in" / f"part={number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=300)
    frame = km.scan_parquet(tmp_path / "in").with_columns(low=km.col("part") < 2)
    for keys in (["key"], ["low", "text"]):
        seen = set()
        all_rows = frame.filter(km.col("text").is_null() | km.col("text").is_not_null())
        for made, tuned in ((all_rows, {}), (frame, {"threads": 2}), (frame, {"threads": 1, "memory": "150MiB"})):
            out = tmp_path / "out"
            options = {"partitions": 3, "split_size": "100KiB", "progress": False, "mode": "overwrite", **tuned}
            made.sort(*keys).sink_parquet(out, **options)
            seen.add(b"".join(path.read_bytes() for path in sorted(out.glob("part-*.parquet"))))
        assert len(seen) == 1
        rows = km.read_parquet(out)
        assert rows.height == sum(sizes)
        found = list(zip(*(rows[name].to_pylist() for name in keys), strict=True))
        assert found == sorted(found, key=lambda row: tuple((value is not None, value) for value in row))


def test_what_a_group_by_left_is_sorted_into_one_file(tmp_path):
    frame = km.from_arrow(pa.table({"k": ["a", "b", "a"]})).group_by("k").len().sort("k")
    frame.sink_parquet(tmp_path / "out", partitions=3, progress=False)
    (part,) = (tmp_path / "out").glob("part-*.parquet")
    assert km.read_parquet(part).rows() == [("a", 2), ("b", 1)]


# MapReduce ------------------------------------------------------------------------------------------------------------


def pairs(row, emit):
    emit(row.f, row.row)


@pytest.mark.parametrize("reduce", [None, "count", "list"])
@pytest.mark.parametrize("order", ["key", "value"])
def test_a_job_by_range_puts_all_part_files_in_order(tmp_path, reduce, order):
    rows = [("", n * 7919 % 100 // 2) for n in range(300)]
    made = {None: "int64", "count": "int64", "list": "list<int64>"}[reduce]
    types = {"key": "float64", "value": "int64"}
    schema = types if reduce is None else (types, {"value": made})
    job = km.MapReduce(pairs, reduce, schema=schema, partition="range", partitions=3, order=order)
    job.run(frame_of(rows), output=tmp_path / "out", split_size=200, progress=False)
    parts = [km.read_parquet(path) for path in sorted((tmp_path / "out").glob("part-*.parquet"))]
    assert len(parts) == 3
    assert all(part.height for part in parts)
    keys = list(itertools.chain(*(part["key"].to_pylist() for part in parts)))
    assert keys == sorted(keys)
    assert set(keys) == {float(n) for _, n in rows}
    assert sum(len(part.rows()) for part in parts) == (300 if reduce is None else 50)


def test_by_range_is_an_order_of_keys():
    for wrong in ({"order": None}, {"partition": "hash"}):
        with pytest.raises(KernelmillError) as caught:
            km.MapReduce(pairs, **{"partition": "range", **wrong})
        assert caught.value.code is Code.BAD_SETTING
