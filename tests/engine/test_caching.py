"""Cached frames: computed once, read by any number of plans, the same bytes as without, freed, bounded."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine import caching
from kernelmill.engine.errors import Code, KernelmillError

PAIRS = {"key": "int64", "value": "int64"}
MIB = 1 << 20


@pytest.fixture
def numbers():
    n = 20_000
    table = pa.table({"k": [i * 7919 % 997 for i in range(n)], "v": list(range(n))})
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=2000)))


@pytest.fixture
def spills(tmp_path, monkeypatch):
    place = tmp_path / "spills"
    place.mkdir()
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(place))
    return place


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


def code_of(call, *arguments, **options):
    with pytest.raises(KernelmillError) as caught:
        call(*arguments, **options)
    return caught.value.code


def counted():
    calls = []

    def fn(batch):
        calls.append(batch.num_rows)
        return batch

    return fn, calls


def test_what_is_cached_is_computed_once(numbers):
    fn, calls = counted()
    cached = numbers.map_batches(fn).cache()
    assert sum(calls) == cached.height == 20_000
    assert cached.select(km.len()).collect().rows() == [(20_000,)]
    assert cached.filter(km.col("v") < 3).collect().to_dict()["v"] == [0, 1, 2]
    assert sum(calls) == 20_000


def test_a_cached_frame_has_the_rows_and_their_order(numbers):
    frame = numbers.group_by("k").agg(km.col("v").sum())
    assert frame.cache(partitions=3).collect().rows() == frame.collect(partitions=3).rows()
    assert numbers.filter(km.col("v") < 0).cache().collect().rows() == []


def doubled(row, emit):
    emit(row.k % 50, row.v)


def total(key, values, emit):
    emit(sum(values) % 1009)


PLANS = {
    "scan": (lambda lf: lf, lambda lf: lf),
    "group": (lambda lf: lf.group_by("k").agg(s=km.col("v").sum()), lambda lf: lf.filter(km.col("s") % 2 == 0)),
    "sort": (lambda lf: lf.group_by("k").agg(s=km.col("v").sum()), lambda lf: lf.sort("k").head(5000)),
    "ranges": (lambda lf: lf.filter(km.col("k") > 3), lambda lf: lf.sort("k", "v")),
    "mean": (
        lambda lf: lf.with_columns(x=km.col("v") / 7),
        lambda lf: lf.group_by("k").agg(km.col("x").mean(), km.col("x").sum().alias("sum")),
    ),
    "job": (
        lambda lf: lf.pipe(km.MapReduce(doubled, "sum", schema=PAIRS, compile="never", partitions=2)),
        lambda lf: lf.rename({"key": "k", "value": "v"}).pipe(
            km.MapReduce(doubled, total, schema=PAIRS, compile="never", order=None)
        ),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_over_cached_rows_give_the_bytes_that_they_give_without(numbers, name, tmp_path, spills):
    before, after = PLANS[name]
    settings = {"split_size": "40KB", "partitions": 3, "progress": False}
    after(before(numbers)).sink_parquet(tmp_path / "without", **settings)
    expected = digests(tmp_path / "without")
    for number, own in enumerate([{"threads": 1}, {"threads": 3}, {"threads": 2, "memory": "700MiB"}]):
        cached = before(numbers).cache(**settings, **own)
        if number == 2:
            caching.spill_cached()
            assert any(spills.iterdir())
        after(cached).sink_parquet(tmp_path / f"with-{number}", **settings, **own)
        assert digests(tmp_path / f"with-{number}") == expected
    assert len(expected) > (1 if name == "sort" else 3)


def test_cached_rows_are_freed_with_the_last_plan_that_reads_them(numbers, spills):
    before = caching.cached_bytes()
    cached = numbers.cache()
    held = caching.cached_bytes() - before
    assert held >= 20_000 * 16
    later = cached.filter(km.col("v") > 3)
    caching.spill_cached()
    assert caching.cached_bytes() == 0 and any(spills.iterdir())
    del cached
    gc.collect()
    assert later.select(km.len()).collect().rows() == [(19_996,)]
    del later
    gc.collect()
    assert not any(spills.iterdir())


def test_a_closed_frame_says_so(numbers):
    with numbers.cache() as cached:
        later = cached.select(km.len())
        assert later.collect().rows() == [(20_000,)]
    assert code_of(later.collect) is Code.BAD_SETTING
    cached.close()


def test_rows_above_a_quarter_of_memory_are_on_disk(spills):
    frame = km.from_arrow(pa.table({"v": np.arange(4_000_000)}))
    cached = frame.cache(memory="96MiB", split_size="4MiB")
    assert 0 < caching.cached_bytes() <= 24 * MIB
    assert sum(path.stat().st_size for path in spills.rglob("*.data")) > 4 * MIB
    assert cached.select(km.col("v").sum()).collect().rows() == [(4_000_000 * 3_999_999 // 2,)]
    cached.close()
    assert caching.cached_bytes() == 0 and not any(spills.iterdir())


def test_cached_rows_give_way_to_a_job_that_needs_the_memory(spills):
    frame = km.from_arrow(pa.table({"v": np.arange(4_000_000)}))
    cached = frame.cache(memory="400MiB", split_size="64MiB")
    assert caching.cached_bytes() > 30 * MIB
    groups = cached.group_by(km.col("v") % 10).agg(km.len())
    assert len(groups.collect(memory="410MiB", partitions=1).rows()) == 10
    tight = cached.group_by(km.col("v") % 10, b=km.col("v") % 7).agg(km.len())
    assert len(tight.collect(memory="293MiB", partitions=1).rows()) == 70
    assert caching.cached_bytes() == 0


def test_a_damaged_spill_is_an_error_and_no_endless_retry(numbers, spills):
    cached = numbers.cache()
    caching.spill_cached()
    (data,) = spills.rglob("*.data")
    broken = bytearray(data.read_bytes())
    broken[len(broken) // 2] ^= 1
    data.write_bytes(broken)
    assert code_of(cached.collect) is Code.CORRUPT_BLOCK


def test_a_failed_job_leaves_nothing_cached(numbers, spills):
    def fails(batch):
        raise ValueError("no")

    held = caching.cached_bytes()
    assert code_of(numbers.map_batches(fails).cache) is Code.FUNCTION_FAILED
    gc.collect()
    assert caching.cached_bytes() == held and not any(spills.iterdir())


def test_counters_and_rejects_stay_with_the_rows():
    def halves(n, emit):
        emit.count("seen")
        if n % 2:
            emit.reject("odd")
        emit(n // 2, 1)

    job = km.MapReduce(halves, "sum", schema=PAIRS, compile="never")
    cached = km.from_arrow(pa.table({"n": list(range(10))})).pipe(job).cache(on_bad="reject")
    assert cached.counters == {"seen": 5} and cached.height == 5
    assert cached.rejects is not None and cached.rejects.to_dict()["reason"] == ["odd"] * 5


def test_an_error_over_cached_rows_names_the_task_that_made_them(numbers):
    def fails(row, emit):
        emit(1 // (row.v - 10), 1)

    job = km.MapReduce(fails, "sum", schema=PAIRS, compile="never")
    with pytest.raises(KernelmillError) as caught:
        numbers.cache().pipe(job).collect()
    assert caught.value.code is Code.FUNCTION_FAILED and "row 10" in caught.value.where


# Loops ----------------------------------------------------------------------------------------------------------------


def components(edges):
    """Connected components: each node takes the least label beside it until none changes."""
    calls = []

    def spread(row, emit):
        calls.append(1)
        emit(row.a, row.label)
        emit(row.b, row.label)

    def least(node, labels, emit):
        emit(min(labels))

    job = km.MapReduce(spread, least, key="node", value="label", schema={"node": "int64", "label": "int64"},
                       compile="never")  # fmt: skip
    labels = {node: node for edge in edges for node in edge}
    rounds, found = 0, None
    while found != labels:
        rounds, found = rounds + 1, labels
        table = pa.table(
            {
                "a": [a for a, _ in edges],
                "b": [b for _, b in edges],
                "label": [min(labels[a], labels[b]) for a, b in edges],
            }
        )
        labels = dict(km.from_arrow(table).pipe(job).cache().collect().rows())
    return labels, rounds, len(calls)


def test_a_loop_ends_and_calls_each_map_once_a_round():
    labels, rounds, calls = components([(1, 2), (2, 3), (3, 4), (7, 8)])
    assert labels == {1: 1, 2: 1, 3: 1, 4: 1, 7: 7, 8: 7}
    assert rounds == 4 and calls == rounds * 4


def test_a_loop_over_cached_frames_runs_no_round_again_and_plans_as_fast_in_the_fiftieth():
    calls = []

    def step(row, emit):
        calls.append(1)
        emit(row.node, row.value + 1)

    job = km.MapReduce(step, "sum", key="node", schema={"node": "int64", "value": "int64"}, compile="never")
    frame = km.from_arrow(pa.table({"node": [1, 2, 3], "value": [0, 0, 0]}))
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        frame = frame.pipe(job)
        frame.explain()
        seconds.append(time.perf_counter() - began)
        frame = frame.cache(threads=1)
    assert frame.collect().rows() == [(1, 50), (2, 50), (3, 50)]
    assert len(calls) == 50 * 3
    assert min(seconds[40:]) < 10 * min(seconds[:10])
    assert frame.explain().count("MapRecords") == 0


def test_a_spill_folder_of_cached_rows_is_not_taken_for_a_dead_jobs(numbers, spills):
    cached = numbers.cache()
    caching.spill_cached()
    assert numbers.cache().height == 20_000  # clears what dead jobs left
    assert cached.select(km.len()).collect().rows() == [(20_000,)]
    assert len(os.listdir(spills)) >= 1
