"""Examples as a user has them: modules loaded by path, `main` in a process of its own, outputs byte for byte."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def load(monkeypatch):
    """The module of an example, by its name; what it imports from its folder is found as by `python examples/x.py`."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture
def inputs(load):
    """The generators and paths of examples/inputs.py."""
    return load("inputs")


@pytest.fixture
def run_main(tmp_path):
    """Run `python examples/NAME.py ARGUMENTS` in an empty folder, warnings being errors; what it prints."""

    def run(name, *arguments):
        place = tmp_path / "main"
        place.mkdir(exist_ok=True)
        words = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


@pytest.fixture
def bytes_of(tmp_path):
    """Name -> SHA-256 of every file that a frame writes with these settings, on this many threads."""

    def digests(frame, threads, **settings):
        place = tmp_path / f"threads-{threads}"
        frame.sink_parquet(place, threads=threads, progress=False, **settings)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return digests
