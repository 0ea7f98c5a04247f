"""The page "A cluster" does what it says: its commands in three terminals, its Python, and a worker that is killed."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from masters import free_address

import kernelmill as km

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
TERMINALS = PAGE.partition("```python")[0]  # the commands further down are about other things
COMMANDS = re.findall(r"^    (kernelmill .*?)(?: {2,}#.*)?$", TERMINALS, flags=re.M)
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)


@pytest.fixture
def terminals(tmp_path):
    """Start commands in tmp_path; what still runs at the end is killed, by pid."""
    running = []

    def start(command):
        words = [sys.executable, "-m", *shlex.split(os.path.expandvars(command))]
        running.append(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def workers_of(folder):
    argv = [sys.executable, "-m", "kernelmill", "workers", "--bundle", "keys/clients/me.bundle"]
    found = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    return [line.split()[0] for line in found.stdout.splitlines() if "REGISTERED" in line]


def files_in(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_three_terminals_of_the_page_count_words_though_a_worker_is_killed(tmp_path, monkeypatch, terminals):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    shutil.copytree(ROOT / "data" / "kjv", tmp_path / "data" / "kjv")
    keys = [command for command in COMMANDS if command.startswith("kernelmill keys")]
    assert len(keys) == 4 and len(COMMANDS) == 7
    for command in keys:
        more = f" --address {free_address()}" if "init" in command else ""
        words = [sys.executable, "-m", *shlex.split(command + more)]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    _, first, _ = [terminals(command) for command in COMMANDS if command not in keys]
    until = time.monotonic() + 20
    while len(workers_of(tmp_path)) < 2 and time.monotonic() < until:
        pass
    assert workers_of(tmp_path) == ["w1", "w2"]

    connecting, local, named, waiting = CODE
    exec(compile(connecting, "page.py", "exec"), {})
    on_cluster = files_in(tmp_path / "counts")
    again = connecting.replace('sink_parquet("counts/")', 'sink_parquet("again/", progress=kill)')

    def kill(_event):
        if first.poll() is None:
            os.kill(first.pid, signal.SIGKILL)

    exec(compile(again, "page.py", "exec"), {"kill": kill})
    assert first.wait() == -signal.SIGKILL
    alone = connecting.replace("with km.connect(", "with nothing(").replace("counts/", "alone/")
    exec(compile(alone, "page.py", "exec"), {"nothing": lambda *_, **__: nullcontext()})
    assert files_in(tmp_path / "alone") == on_cluster == files_in(tmp_path / "again")

    seen = {}
    with_name = connecting.replace("counts/", "first/") + textwrap.indent(named.replace("counts/", "named/"), "    ")
    exec(compile(with_name, "page.py", "exec"), seen)
    exec(compile(waiting + "    ended = job.result()\n", "page.py", "exec"), seen)
    assert seen["ended"].rows == km.read_parquet("named").to_arrow().num_rows == 31_102

    exec(compile(local, "page.py", "exec"), {})
    assert km.read_parquet("lengths").to_arrow().num_rows > 30_000
