"""Processes of a cluster run what is installed, whatever lies in the folder in which they were started."""

import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

import kernelmill
from kernelmill.cluster import children
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.worker.nursery import Nursery

SECONDS = 30.0
TRAP = "import os\nopen({ran!r}, 'w').close()\nos._exit(1)\n"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A working folder full of modules that are run by whoever looks for modules there; what they leave."""
    ran = tmp_path / "RAN"
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("xxhash", "msgspec", "pyarrow", "numpy", "kernelmill", "fake_slot"):
        (folder / f"{name}.py").write_text(TRAP.format(ran=str(ran)))
    monkeypatch.chdir(folder)
    return ran


def path_without_here(*more):
    """What Python looks for modules in, none of it by a relative name."""
    found = [*more, *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found)}


def test_the_trap_works(trap):
    done = subprocess.run([sys.executable, "-m", "kernelmill", "--help"], env=path_without_here(), capture_output=True)
    assert done.returncode == 1 and trap.exists()


def test_a_module_is_run_from_where_it_is_installed(trap):
    command = children.module_command("kernelmill", "--help")
    done = subprocess.run(command, env=path_without_here(), capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout, done
    assert not trap.exists()


def test_the_storage_process_runs_nothing_of_the_masters_working_folder(trap, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", path_without_here()["PYTHONPATH"])
    link = StorageLink([("data", str(trap.parent))])
    try:
        link._channel.setblocking(True)
        link._channel.shutdown(1)  # it is up when it takes the end of its orders, and ends
        assert link._process.wait(SECONDS) == 0
    finally:
        link.close()
    assert not trap.exists()


def test_slots_run_nothing_of_the_workers_working_folder(trap):
    fakes = str(Path(__file__).parent / "worker")
    nursery = Nursery(path_without_here(fakes), module="fake_slot")
    try:
        null = os.open(os.devnull, os.O_RDWR)
        nursery.bear(1, (null, null, null))
        os.close(null)
        assert select.select([nursery.socket], [], [], SECONDS)[0]
        (birth,) = nursery.births()
        assert birth.pid > 0, birth
        nursery.discard(birth)
    finally:
        nursery.close()
    assert not trap.exists()


def test_no_process_of_a_cluster_starts_another_in_any_other_way():
    folder = Path(kernelmill.__file__).parent / "cluster"
    sources = [path for path in folder.rglob("*.py") if path.name != "children.py"]
    assert len(sources) > 50
    starts = [line.strip() for path in sources for line in path.read_text().splitlines() if "sys.executable" in line]
    starts = [line for line in starts if "{sys.executable}" not in line]  # words of an error
    assert [line for line in starts if not re.search(r'sys\.executable, "-IS', line)] == []
