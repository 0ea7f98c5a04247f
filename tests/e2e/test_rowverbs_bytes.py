"""I1 of verbs over whole rows: the same files for one thread and three, with and without spilling."""

import os

import outside
import pytest

import kernelmill as km

SETTINGS = {"split_size": "2MiB", "partitions": 3}
PLANS = {
    "unique": lambda rows: rows.unique(["i", "s"]),
    "last": lambda rows: rows.unique("i", keep="last"),
    "numbers": lambda rows: rows.filter(km.col("n") > 0).with_row_index().gather_every(2),
    "sample": lambda rows: rows.filter(km.col("n") > 0).sample(fraction=0.5, seed=3),
    "concat": lambda rows: km.concat([rows.filter(km.col("n") > 0), rows.drop_nulls()]),
}


@pytest.mark.parametrize("name", PLANS)
def test_files_are_the_same_whatever_threads_and_memory(tables, name):
    frame, found = PLANS[name](km.scan_parquet(tables)), []
    for threads, is_tight in ((1, False), (3, True), (3, False)):
        memory = outside.tight_memory(frame, "out", threads, **SETTINGS) if is_tight else "4GiB"
        folder, spilled = f"{threads}-{is_tight}", outside.Spilled()
        os.mkdir(folder)
        frame.sink_parquet(f"{folder}/out", threads=threads, memory=memory, progress=spilled, **SETTINGS)
        if not is_tight or memory > outside.MEMORY_MIN:
            assert (spilled.bytes > 0) == is_tight
        found.append(outside.digests(f"{folder}/out"))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 3  # a manifest and several part files
