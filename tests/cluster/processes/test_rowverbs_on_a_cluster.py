"""unique, row numbers, samples, unpivot, concat on a cluster of real processes: the rows of a local run, in order."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine import execute

OPTIONS = {"split_size": 2_000, "partitions": 3, "progress": False}


@pytest.fixture(scope="module")
def cluster():
    with km.LocalCluster(workers=2, memory="1GiB") as made:
        yield made


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    for part in range(3):
        rows = range(part * 1000, part * 1000 + 1000)
        table = pa.table({"k": [str(n * n % 89) for n in rows], "n": rows, "x": [n / 4 for n in rows]})
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=250)
    return str(folder / "*.parquet")


@pytest.mark.parametrize(
    "verb",
    [
        lambda f: f.unique("k"),
        lambda f: f.unique("k", keep="last"),
        lambda f: f.with_row_index(),
        lambda f: f.filter(km.col("n") % 3 == 0).with_row_index().tail(40),
        lambda f: f.filter(km.col("n") > 5).sample(50, seed=1),
        lambda f: f.unpivot(["n", "x"], index="k").gather_every(7),
        lambda f: km.concat([f.filter(km.col("n") > 2500), f, f.head(3)]),
    ],
    ids=["unique", "last", "index", "tail", "sample", "unpivot", "concat"],
)
def test_the_rows_are_those_of_a_local_run(cluster, numbers, verb):
    there = verb(km.scan_parquet(numbers)).collect(**OPTIONS).to_arrow()
    with execute.in_this_process():
        here = verb(km.scan_parquet(numbers)).collect(**OPTIONS).to_arrow()
    assert there.num_rows and there.equals(here)
