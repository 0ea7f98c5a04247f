"""Build sides that tasks share: each made once, nobody waits for one that another makes, bytes stay the same."""

from __future__ import annotations

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.exec.buildside import SharedBuilds
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.planner import plan_job

c = km.col


def test_a_build_side_is_made_once_whoever_asks_first():
    builds, made = SharedBuilds(), []

    def make() -> int:
        made.append(1)
        return len(made)

    builds.make_if_nobody_does(3, 0, make)
    builds.make_if_nobody_does(3, 0, make)
    assert [builds.get(3, 0, make), builds.get(3, 1, make), builds.get(3, 1, make)] == [1, 2, 2]
    builds.drop(3)
    assert builds.get(3, 0, make) == 3


def test_one_that_is_being_made_is_passed_over_and_another_made():
    builds, is_making, may_end = SharedBuilds(), threading.Event(), threading.Event()

    def slow() -> str:
        is_making.set()
        assert may_end.wait(60)
        return "slow"

    thread = threading.Thread(target=builds.make_if_nobody_does, args=(1, 0, slow))
    thread.start()
    assert is_making.wait(60)
    builds.make_if_nobody_does(1, 0, lambda: "never")
    builds.make_if_nobody_does(1, 1, lambda: "other")
    assert builds.get(1, 1, lambda: "never") == "other"
    may_end.set()
    thread.join()
    assert builds.get(1, 0, lambda: "never") == "slow"


def test_one_that_could_not_be_made_is_made_by_the_next():
    builds = SharedBuilds()
    with pytest.raises(ZeroDivisionError):
        builds.make_if_nobody_does(1, 0, lambda: 1 // 0)
    assert builds.get(1, 0, lambda: "made") == "made"


def test_several_joins_of_a_stage_give_the_same_bytes_on_any_threads(tmp_path):
    rows = 30_000
    table = pa.table({"a": [n % 101 for n in range(rows)], "b": [n % 67 for n in range(rows)], "n": range(rows)})
    for part in range(6):
        pq.write_table(table.slice(part * 5000, 5000), tmp_path / f"{part}.parquet")
    keys = km.from_arrow(pa.table({"a": range(90), "u": [n * n for n in range(90)]}))
    others = km.from_arrow(pa.table({"b": [n % 50 for n in range(100)], "v": [n / 3 for n in range(100)]}))
    some = km.from_arrow(pa.table({"b": range(0, 67, 2)}))
    lazy = km.scan_parquet(f"{tmp_path}/*.parquet").join(keys, "a").join(others, "b").join(some, "b", "anti")
    steps = plan_job(lazy._plan, split_bytes=1 << 20).pipelines[-1].steps
    assert sum(isinstance(step, physical.Join) for step in steps) == 3
    for threads in (1, 2, 3):
        lazy.sink_parquet(tmp_path / f"out{threads}", threads=threads, progress=False)
    written = [
        {file.name: file.read_bytes() for file in (tmp_path / f"out{threads}").iterdir()} for threads in (1, 2, 3)
    ]
    assert written[0] == written[1] == written[2]
    found = pq.read_table(tmp_path / "out1")
    expected = sorted(
        (n % 101, n % 67, n, (n % 101) ** 2, m / 3)
        for n in range(rows)
        if n % 101 < 90 and n % 67 % 2
        for m in (n % 67, n % 67 + 50)
        if n % 67 < 50
    )
    assert sorted(zip(*(found[name].to_pylist() for name in ("a", "b", "n", "u", "v")), strict=True)) == expected
