"""docs/examples.md lists the examples, and what they say of how to run them holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kernelmill as km

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "inputs")


def test_the_page_lists_each_example_once():
    page = (ROOT / "docs" / "examples.md").read_text()
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]", page, flags=re.M)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_it_is_run_by_names_that_it_has(name, load):
    module = load(name)
    assert f"    python examples/{name}.py" in module.__doc__
    assert callable(module.main)
    for path, target in re.findall(r"kernelmill run examples/(\w+)\.py:(\w+)", module.__doc__):
        found = getattr(module, target)
        assert path == name and (isinstance(found, km.MapReduce | km.LazyFrame) or callable(found))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_a_test_of_its_own(name):
    assert (ROOT / "tests" / "examples" / f"test_{name}.py").is_file()


def test_the_command_runs_a_job_of_an_example(tmp_path, inputs):
    log = inputs.write_access_log(tmp_path / "access.log", lines=1_000)
    target = ROOT / "examples" / "url_access_count.py"
    words = [sys.executable, "-m", "kernelmill", "run", f"{target}:job", log, "-o", "hits", "--on-bad", "reject"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    hits = km.scan_parquet(tmp_path / "hits" / "*.parquet").select(km.col("hits").sum()).collect().rows()[0][0]
    assert 900 < hits < 1_000 and "not modified" in done.stderr


def test_importing_examples_runs_nothing_and_loads_no_numba():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r})\nimport {', '.join(NAMES)}\n"
    code += "print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
