"""Aggregates of every kind of state give on a cluster the rows that they give here."""

import pyarrow as pa

import kernelmill as km
from kernelmill.engine import execute


def test_states_of_all_kinds_travel():
    c = km.col
    rows = range(3_000)
    table = pa.table(
        {
            "k": [n * 7 % 13 for n in rows], "n": [None if n % 5 == 0 else n * 31 % 101 for n in rows],
            "f": [n % 17 / 4 for n in rows], "s": [f"text {n * 11 % 29}" for n in rows],
        }
    )  # fmt: skip
    table = pa.Table.from_batches(table.to_batches(max_chunksize=500))
    aggs = {
        "first": c("s").first(), "best": c("s").max_by("n"), "low": c("s").min(), "sd": c("n").std(),
        "corr": c("n").corr("f"), "middle": c("f").median(), "share": c("n").quantile(0.9), "top": c("n").top_k(3),
        "different": c("s").n_unique(), "other": c("n").n_unique(), "some": c("n").sum().filter(c("f") > 2),
        "spread": c("n").max() - c("n").min(),
    }  # fmt: skip
    grouped = km.from_arrow(table).group_by("k").agg(**aggs)
    options = {"split_size": 1_000, "partitions": 3, "progress": False}
    with km.LocalCluster(workers=1, memory="1GiB"):
        there = grouped.collect(**options).rows()
        with execute.in_this_process():
            here = grouped.collect(**options).rows()
    assert there == here and len(here) == 13
