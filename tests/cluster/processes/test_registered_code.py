"""A cluster whose workers run registered functions only: names go, code does not, from whatever client."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.cluster.cli.worker import _checked
from kernelmill.cluster.client.connecting import connect
from kernelmill.engine.errors import Code, KernelmillError

MODULE = """
def words(line, emit, least):
    for word in line.split():
        if len(word) >= least:
            emit(word, 1)
"""


@pytest.mark.timeout(180)
def test_workers_run_what_they_list_and_refuse_what_is_sent_along(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fleet_words.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    import fleet_words

    (tmp_path / "in.txt").write_text("the cat and a dog\nthe cat\n")
    source, made = str(tmp_path / "in.txt"), tmp_path / "made"

    def sneaky(line, emit):
        made.touch()
        emit(line, 1)

    typed = {"schema": {"key": "string", "value": "int64"}, "compile": "never"}
    with km.LocalCluster(workers=1, memory="1GiB", registered=["fleet_words:words"]) as cluster:
        job = km.MapReduce(fleet_words.words, "sum", side={"least": 3}, **typed)
        job.run(source, output=str(tmp_path / "out"), progress=False)
        rows = {row["key"]: row["value"] for row in pq.read_table(tmp_path / "out").to_pylist()}
        assert rows == {"the": 2, "cat": 2, "and": 1, "dog": 1}
        lines = km.scan_text(source).select(n=km.col("line").str.len_chars()).collect(progress=False)
        assert lines.height == 2  # no code at all
        with pytest.raises(KernelmillError) as by_client:
            km.MapReduce(sneaky, "sum", **typed).run(source, output=str(tmp_path / "no"), progress=False)
        roots = {"files": "/", "scratch": cluster.folder / "scratch-rows"}
        with (
            connect(cluster.folder / "keys" / "clients" / "here.bundle", roots=roots),
            pytest.raises(KernelmillError) as by_worker,
        ):
            km.MapReduce(sneaky, "sum", **typed).run(source, output=str(tmp_path / "no"), progress=False)
    assert by_client.value.code is by_worker.value.code is Code.CODE_REFUSED
    assert "registered functions only" in by_worker.value.what and "fleet_words:words" in by_worker.value.hint
    assert not made.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "modules", "out"]


@pytest.mark.parametrize(
    "name", ["words", "fleet_words", "fleet_words:", ":words", "a:b.c", "a-b:c", "a:b:c", "a..b:c"]
)
def test_a_name_that_is_no_functions_is_refused_when_the_worker_starts(name):
    with pytest.raises(KernelmillError) as caught:
        _checked((name,))
    assert caught.value.code is Code.BAD_SETTING
    assert _checked(("fleet.words:words",)) == ("fleet.words:words",)


def test_an_empty_list_is_refused_before_anything_starts():
    with pytest.raises(KernelmillError) as caught:
        km.LocalCluster(registered=[])
    assert caught.value.code is Code.BAD_SETTING


def test_the_worker_says_what_it_takes():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "kernelmill", "worker", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "--registered MODULE:FUNCTION" in done.stdout
