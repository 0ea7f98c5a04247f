"""Inputs that are large in one way, here small: each job of the command ends with what the formulas say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from bench import largetables
from bench.large import KINDS
from bench.peers import kernelmill_large

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"wide": 40, "files": 30, "text": 300_000, "groups": 5_000}


@pytest.fixture(scope="module", params=list(SIZES))
def made(request, tmp_path_factory):
    """An input's kind, size and place."""
    source = tmp_path_factory.mktemp("large") / request.param
    largetables.make(request.param, SIZES[request.param], source)
    return request.param, SIZES[request.param], source


def test_an_input_is_what_its_page_says(made):
    kind, size, source = made
    match kind:
        case "wide":
            table = pq.read_table(source)
            assert table.num_columns == size + 1 and table.num_rows == largetables.WIDE_ROWS
        case "files":
            assert len(list(source.glob("parquet/*/*.parquet"))) == len(list(source.glob("text/*/*.txt"))) == size
        case "text":
            assert pq.ParquetFile(source).num_row_groups == 1
            lengths = pc.binary_length(pq.read_table(source).column("s"))
            assert pc.sum(lengths).as_py() >= size and pc.max(lengths).as_py() == largetables.TEXT_BYTES
        case "groups":
            keys = pq.read_table(source).column("k")
            assert pc.count_distinct(keys).as_py() == len(keys) == size


def test_jobs_check_what_they_made(tmp_path):
    """All in one process, which may open 256 files and no more from then on: not that of the tests."""
    calls = []
    for kind, works in {
        "wide": ["write", "group all"],
        "files": ["parquet"],
        "text": ["sort", "join"],
        "groups": ["group"],
    }.items():
        source = tmp_path / kind
        largetables.make(kind, SIZES[kind], source)
        assert set(works) <= set(KINDS[kind].work)
        calls += [
            [kind, work, str(source), str(SIZES[kind]), str(tmp_path / f"{kind} {work}"), "1GB", "2"] for work in works
        ]
    program = f"from bench.peers.kernelmill_large import main\nfor given in {calls!r}: main(*given)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(facts) == len(calls) and all(one["rows"] > 0 for one in facts)
    assert facts[-1]["job_peak_bytes"] < 1_300_000_000


def test_rows_that_are_wrong_are_found(tmp_path):
    pq.write_table(pa.table({"k": [0, 1, 1], "len": [1, 1, 1], "v": [0, 1, 2]}), tmp_path / "out.parquet")
    pq.write_table(pa.table({"k": [0, 1, 2], "v": [0, 1, 2]}), tmp_path / "input.parquet")
    _, check = kernelmill_large._groups("group", str(tmp_path / "input.parquet"), 3)
    with pytest.raises(AssertionError):
        check(ds.dataset(tmp_path / "out.parquet"))
