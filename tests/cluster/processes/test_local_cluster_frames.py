"""Frames on a cluster of real processes: files of all kinds, aggregates, joins and verbs over rows, as a local run."""

from __future__ import annotations

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine import execute
from kernelmill.engine.events import StageStarted
from kernelmill.engine.plan import estimates

OPTIONS = {"split_size": 2_000, "partitions": 3, "progress": False}
c = km.col


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
    return km.scan_parquet(str(folder / "*.parquet"))


VERBS = {
    "unique": lambda f: f.unique("k"),
    "last": lambda f: f.unique("k", keep="last"),
    "index": lambda f: f.with_row_index(),
    "tail": lambda f: f.filter(c("n") % 3 == 0).with_row_index().tail(40),
    "sample": lambda f: f.filter(c("n") > 5).sample(50, seed=1),
    "unpivot": lambda f: f.unpivot(["n", "x"], index="k").gather_every(7),
    "concat": lambda f: km.concat([f.filter(c("n") > 2500), f, f.head(3)]),
    "asof": lambda f: f.join_asof(f.filter(c("n") % 11 == 5), on="n", by="k", strategy="nearest"),
    "all": lambda f: (
        km.concat([f, f.filter(c("n") > 2000)]).with_row_index("i").join(f.group_by("k").agg(m=c("x").median()), "k")
        .unique(["k", "m"], keep="last").sort("i")
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_the_rows_of_a_verb_come_in_the_order_of_a_local_run(cluster, numbers, verb):
    frame = VERBS[verb](numbers)
    there = frame.collect(**OPTIONS).to_arrow()
    with execute.in_this_process():
        here = frame.collect(**OPTIONS).to_arrow()
    assert there.num_rows and there.equals(here)


@pytest.mark.parametrize("how", ["inner", "left", "anti"])
def test_a_partition_of_a_join_is_shared_by_tasks_as_in_a_local_run(cluster, numbers, how, monkeypatch):
    monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", -1)
    few = km.from_arrow(pa.table({"k": ["1", "4", "88", "89"], "name": ["a", "b", "c", "d"]}))
    joined = numbers.join(few, "k", how)
    options = {**OPTIONS, "partitions": 6}
    there = joined.collect(**options).to_arrow()
    with execute.in_this_process():
        here = joined.collect(**options).to_arrow()
    assert there.num_rows and there.equals(here)


def test_a_job_of_a_cluster_ends_when_it_is_cancelled(cluster, numbers):
    begun = threading.Event()

    def hear(event):
        if isinstance(event, StageStarted):
            begun.set()

    def for_ever(batch):
        while True:
            if batch.num_rows < 0:
                return batch

    frame = numbers.map_batches(for_ever)
    job = km.start(frame.collect, progress=hear)
    assert begun.wait(60)
    job.cancel()
    assert job.wait(60) == "CANCELLED"
    assert numbers.head(1).collect(progress=False).height == 1


def test_states_of_all_aggregates_travel(cluster):
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
    there = grouped.collect(**OPTIONS).rows()
    with execute.in_this_process():
        here = grouped.collect(**OPTIONS).rows()
    assert there == here and len(here) == 13


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_all_kinds_give_the_bytes_of_a_local_run(cluster, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.csv").write_text("n,s\n" + "".join(f'{n},"v{n % 5}"\n' for n in range(300)) + "bad\n")
    (inputs / "a.jsonl").write_text("".join(f'{{"n":{n},"s":"v{n % 5}"}}\n' for n in range(300)) + "null\n")
    (inputs / "a.bin").write_bytes(b"".join(b"%03dv" % n for n in range(300)))
    table = pa.table({"n": list(range(300)), "s": [f"v{n % 5}" for n in range(300)]})
    with pa.ipc.new_file(str(inputs / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    for number in range(70):
        folder = inputs / "lake" / f"k={number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(number, 2), folder / f"{number:02}.parquet")
    frames = {
        "csv": km.scan_csv(inputs / "a.csv", schema={"n": "int64", "s": "string"}),
        "ndjson": km.scan_ndjson(inputs / "a.jsonl", include_file_paths="path").select("n", "s"),
        "records": km.scan_records(inputs / "a.bin", width=4, fields={"n": 3, "s": 1}),
        "ipc": km.scan_ipc(inputs / "a.arrow"),
        "folders": km.scan_parquet(inputs / "lake").filter(c("k") == 1),
    }
    options = {"split_size": 1000, "files": 3, "on_bad": "reject", "progress": False}
    for name, frame in frames.items():
        made = frame.sink_parquet(tmp_path / f"{name}-there", **options)
        with execute.in_this_process():
            frame.sink_parquet(tmp_path / f"{name}-here", **options)
        assert len(made.files) == 3, name
        assert files_in(tmp_path / f"{name}-there") == files_in(tmp_path / f"{name}-here"), name


CUTS = {
    "folders": {"partition_by": ["k", "half"], "max_rows_per_file": 11},
    "rows": {"max_rows_per_file": 100, "compression_level": 3},
    "size": {"target_file_bytes": "64KiB", "compression": "none"},
}


@pytest.mark.parametrize("cut", CUTS)
def test_several_files_of_a_task_are_those_of_a_local_run(cluster, numbers, tmp_path, cut):
    frame = numbers.with_columns(half=c("n") % 2 == 0).filter(c("k") < "3")
    made = frame.sink_parquet(tmp_path / "there", **OPTIONS, **CUTS[cut])
    with execute.in_this_process():
        result = frame.sink_parquet(tmp_path / "here", **OPTIONS, **CUTS[cut])
        back = km.scan_parquet(tmp_path / "there").sort("n").select(*frame.columns).collect()
        assert back.rows() == frame.sort("n").collect().rows()
    assert made.files == result.files and len(made.files) > 3
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")


def test_folders_of_no_rows_are_one_file_on_a_cluster_too(cluster, numbers, tmp_path):
    frame = numbers.filter(c("n") < 0)
    made = frame.sink_parquet(tmp_path / "there", partition_by="k", **OPTIONS)
    with execute.in_this_process():
        frame.sink_parquet(tmp_path / "here", partition_by="k", **OPTIONS)
    assert made.files == ("part-00000.parquet",)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
