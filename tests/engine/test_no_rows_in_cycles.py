"""No step of a task leaves rows in a cycle of references: they would take memory until Python collects its garbage."""

from __future__ import annotations

import gc

import numpy as np
import pyarrow as pa
import pytest

import kernelmill as km

c = km.col
OTHER = pa.table({"k": ["0", "1", "5"], "m": [1.5, 2.5, 3.5]})

VERBS = {
    "filter": lambda f: f.filter(c("n") % 3 == 1),
    "select": lambda f: f.select(c("n") + 1, t=c("k").str.to_uppercase()),
    "cast": lambda f: f.cast({"k": "int64"}),
    "explode": lambda f: f.select(word=c("k").str.tokenize()).explode("word"),
    "unpivot": lambda f: f.unpivot(["n", "x"], index="k"),
    "group_by": lambda f: f.group_by("k").agg(km.len(), c("n").sum(), c("x").median(), u=c("n").n_unique()),
    "groups of two": lambda f: f.group_by("k", "n").agg(c("x").max()),
    "sort": lambda f: f.sort("x", "k", descending=True),
    "top_k": lambda f: f.top_k(7, by="n"),
    "unique": lambda f: f.unique("k", keep="last"),
    "join": lambda f: f.join(km.from_arrow(OTHER), "k"),
    "full join": lambda f: f.join(km.from_arrow(OTHER), "k", "full"),
    "asof": lambda f: f.join_asof(km.from_arrow(OTHER), left_on="x", right_on="m"),
    "index": lambda f: f.filter(c("n") > 9).with_row_index().tail(50),
    "concat": lambda f: km.concat([f, f]),
    "map_batches": lambda f: f.map_batches(lambda batch: batch),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", [{}, {"on_bad": "reject"}])
def test_what_a_job_leaves_to_the_garbage_collector_holds_no_rows(verb, how):
    rows = range(400)
    table = pa.table({"k": [str(n % 7) for n in rows], "n": rows, "x": [n / 4 for n in rows]})
    frame = VERBS[verb](km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=50), table.schema)))
    options = {"split_size": "1KB", "partitions": 3, "progress": False, **how}
    frame.collect(**options)  # what is loaded and remembered at the first time is no garbage of a job
    gc.collect()
    gc.disable()
    try:
        made = frame.collect(**options)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [one for one in gc.garbage if isinstance(one, pa.RecordBatch | pa.Array | np.ndarray)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert made.height
    assert left == []
