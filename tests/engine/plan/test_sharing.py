"""Rows that are asked for several times: which are made once, by the plan's text, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan import sharing
from kernelmill.engine.plan.explain import plan_text, plan_tree
from kernelmill.engine.plan.optimizer import optimize
from kernelmill.engine.plan.planner import plan_job

c = km.col


@pytest.fixture
def frame() -> LazyFrame:
    rows = 1000
    made = pa.table({"k": [n * 7 % 13 for n in range(rows)], "n": range(rows), "t": [str(n) for n in range(rows)]})
    return km.from_arrow(made)


def optimized(lazy: LazyFrame) -> str:
    plan = optimize(lazy._plan)
    assert plan.schema.equals(lazy._plan.schema)
    return plan_text(plan, origins=False)


def plan(lines: str) -> str:
    return dedent(lines).strip("\n")


def sums_and_most(frame: LazyFrame) -> LazyFrame:
    """The groups with the greatest sum: the groups are read twice."""
    sums = frame.group_by("k").agg(total=c("n").sum(), rows=km.len())
    most = sums.select(most=c("total").max())
    return sums.join(most, how="cross").filter(c("total") == c("most")).select("k", "total")


def test_groups_that_are_read_twice_are_made_once_with_the_columns_of_all_readers(frame):
    assert optimized(sums_and_most(frame)) == plan("""
        Project k, total
          Filter col("total") == col("most")
            Join cross: k: int64, total: int64, most: int64
              Common rows 0: k: int64, total: int64
                Aggregate by k: total=sum(n)
                  ScanTable <memory>: k: int64, n: int64
              Aggregate of all rows: most=max(total)
                Common rows 0: total: int64
        """)


def test_the_stage_of_common_rows_is_read_by_two(frame):
    graph = plan_job(sums_and_most(frame)._plan, split_bytes=1 << 20).graph
    assert sorted(len(graph.readers_of(stage.number)) for stage in graph.stages)[-1] == 2
    assert sum(stage.label == "read table" for stage in graph.stages) == 1


def test_json_shows_what_makes_common_rows_to_each_reader(frame):
    def titles(tree: dict) -> list[str]:
        return [tree["node"], *(name for below in tree["inputs"] for name in titles(below))]

    shown = titles(plan_tree(optimize(sums_and_most(frame)._plan)))
    assert shown.count("Common") == 2
    assert shown.count("ScanTable") == 2


def test_rows_made_once_are_those_made_twice(frame):
    found = sums_and_most(frame).collect().to_arrow()
    sums: dict[int, int] = {}
    for n in range(1000):
        sums[n * 7 % 13] = sums.get(n * 7 % 13, 0) + n
    most = max(sums.values())
    assert found.to_pylist() == [{"k": k, "total": total} for k, total in sums.items() if total == most]


def test_a_small_filtered_scan_is_common_and_a_bare_one_is_not(frame):
    some = frame.filter(c("n") > 10)
    means = some.select(mean=c("n").mean())
    assert optimized(some.join(means, how="cross")).count("Common") == 2
    assert "Common" not in optimized(frame.join(frame.select(mean=c("n").mean()), how="cross"))


def test_rows_of_which_every_reader_takes_a_part_are_not_common(frame):
    joined = frame.join(frame.group_by("k").agg(rows=km.len()), "k")
    low, high = joined.filter(c("n") < 10), joined.filter(c("n") > 990)
    shown = optimized(km.concat([low, high]))
    assert shown.count("Join inner") == 2
    assert shown.count('Filter col("n") < 10') == 1  # and each filter is below its join
    assert optimized(km.concat([low, joined])).count("Join inner") == 1


def test_joined_rows_are_common_only_up_to_a_size(frame, monkeypatch):
    joined = frame.join(frame.group_by("k").agg(rows=km.len()), "k")
    both = km.concat([joined.group_by("t").agg(x=c("n").sum()), joined.group_by("t").agg(x=c("rows").sum())])
    assert optimized(both).count("Join inner") == 1
    monkeypatch.setattr(sharing, "COMMON_BYTES_MAX", 100)
    assert optimized(both).count("Join inner") == 2


def test_what_explodes_or_functions_make_is_made_for_each_reader(frame):
    lists = frame.select("k", x=c("t").str.split("1")).explode("x")
    pairs = lists.group_by("x").agg(a=km.len()).join(lists.group_by("x").agg(b=c("k").sum()), "x")
    assert "Common" not in optimized(pairs)


def test_common_rows_may_be_made_of_common_rows(frame):
    groups = frame.group_by("k", "t").agg(total=c("n").sum())
    means = groups.group_by("k").agg(mean=c("total").mean())
    above = groups.join(means, "k").filter(c("total") > c("mean"))
    counts = above.group_by("k").agg(above=km.len())
    lazy = above.join(counts, "k").join(groups.select(all=c("total").sum()), how="cross").sort("t")
    shown = optimized(lazy)
    assert shown.count("ScanTable") == 1
    assert {line.split(":")[0].strip() for line in shown.splitlines() if "Common" in line} == {
        "Common rows 0",
        "Common rows 1",
    }
    rows = [(n * 7 % 13, n, str(n)) for n in range(1000)]
    mean = {key: sum(n for k, n, _ in rows if k == key) / sum(k == key for k, _, _ in rows) for key in range(13)}
    kept = [(k, n, t) for k, n, t in rows if n > mean[k]]
    count = {key: sum(k == key for k, _, _ in kept) for key in range(13)}
    expected = sorted((t, k, n, mean[k], count[k], sum(range(1000))) for k, n, t in kept)
    found = lazy.collect().to_arrow().to_pylist()
    assert [(r["t"], r["k"], r["total"], r["mean"], r["above"], r["all"]) for r in found] == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_bytes_of_what_reads_common_rows_are_the_same_on_any_threads_and_in_little_memory(tmp_path, threads):
    rows = 40_000
    table = pa.table({"k": [n * n % 1013 for n in range(rows)], "x": [n / 7 for n in range(rows)]})
    for part in range(4):
        pq.write_table(table.slice(part * 10_000, 10_000), tmp_path / f"{part}.parquet", row_group_size=2500)
    frame = km.scan_parquet(f"{tmp_path}/*.parquet")
    part = frame.filter(c("k") % 3 == 0)
    lazy = part.join(part.group_by("k").agg(mean=c("x").mean()), "k").filter(c("x") > c("mean"))
    written = []
    for name, how in (("a", {}), ("b", {"threads": threads, "memory": "64MB"})):
        lazy.sink_parquet(tmp_path / name, progress=False, **how)
        written.append({file.name: file.read_bytes() for file in Path(tmp_path / name).glob("*.parquet")})
    assert written[0] == written[1]
    assert sum(map(len, written[0].values())) > 10_000
