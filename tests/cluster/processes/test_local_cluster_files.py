"""Files of all kinds, read by a cluster's processes and written in an exact number, have the bytes of a local run."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine import execute


@pytest.fixture(scope="module")
def cluster():
    with km.LocalCluster(workers=2, memory="1GiB") as made:
        yield made


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
        "folders": km.scan_parquet(inputs / "lake").filter(km.col("k") == 1),
    }
    options = {"split_size": 1000, "files": 3, "on_bad": "reject", "progress": False}
    for name, frame in frames.items():
        made = frame.sink_parquet(tmp_path / f"{name}-there", **options)
        with execute.in_this_process():
            frame.sink_parquet(tmp_path / f"{name}-here", **options)
        assert len(made.files) == 3, name
        assert files_in(tmp_path / f"{name}-there") == files_in(tmp_path / f"{name}-here"), name
