"""Processes whose roots are not the same: whoever lacks one is named, and others do the work."""

import os
import shutil

import pytest
import rig as rigs

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError


@pytest.fixture
def cluster():
    made = rigs.Rig()
    try:
        (made.files / "in.txt").write_text("a b\nc\n")
        made.start_master()
        yield made
    finally:
        made.close()


def write(cluster, folder, name):
    roots = {rigs.ROOT: str(folder), rigs.SCRATCH: str(cluster.rows)}
    with km.connect(str(cluster.bundle("client", "ann", is_admin=True)), roots=roots):
        return km.scan_text(str(folder / "in.txt")).sink_parquet(str(folder / name), progress=False)


def rootless(argv):
    """A worker's command line without its roots."""
    return [word for at, word in enumerate(argv) if word != "--root" and argv[at - 1] != "--root"]


@pytest.mark.timeout(120)
def test_a_worker_without_the_root_is_named_and_another_one_does_its_work(cluster):
    cluster.start_worker("w1", wrap=rootless)
    cluster.wait_workers("w1")
    with pytest.raises(KernelmillError) as caught:
        write(cluster, cluster.files, "no")
    assert caught.value.code is Code.BAD_SETTING
    assert f"worker w1 has no root {rigs.ROOT}" in caught.value.what and "--root" in caught.value.hint
    cluster.start_worker("w2")
    cluster.wait_workers("w1", "w2")
    assert write(cluster, cluster.files, "out").rows == 2
    assert cluster.history().workers(0) == {"w2"}


@pytest.mark.timeout(120)
def test_a_client_whose_root_is_another_folder_is_told_so_and_keeps_no_staging(cluster):
    cluster.start_worker("w1")
    cluster.wait_workers("w1")
    other = cluster.folder / "other"
    other.mkdir()
    (other / "in.txt").write_bytes((cluster.files / "in.txt").read_bytes())
    stamp = (cluster.files / "in.txt").stat()
    os.utime(other / "in.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(KernelmillError) as caught:
        write(cluster, other, "out")
    assert caught.value.code is Code.BAD_SETTING
    assert "worker w1 finds no staging" in caught.value.what and "the same folder" in caught.value.hint
    assert os.listdir(other) == ["in.txt"] and not (cluster.files / "out").exists()


@pytest.mark.timeout(120)
def test_an_output_folder_that_vanishes_under_a_job_is_told_as_that(cluster):
    cluster.start_worker("w1")
    cluster.wait_workers("w1")
    folder, source = str(cluster.files / "some"), str(cluster.files / "in.txt")

    def vanishing(line, emit):
        shutil.rmtree(folder, ignore_errors=True)
        emit(line, 1)

    job = km.MapReduce(vanishing, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    os.mkdir(folder)
    with cluster.connect(), pytest.raises(KernelmillError) as caught:
        job.run(source, output=os.path.join(folder, "out"), progress=False)
    assert caught.value.code is Code.COMMIT
    assert "staging of this job's output is gone" in caught.value.what and folder in caught.value.where
