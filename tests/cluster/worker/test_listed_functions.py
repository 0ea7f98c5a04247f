"""A worker that cannot have a function that it lists says so when it starts; the check imports nothing here."""

import sys

import pytest

from kernelmill.cluster.worker.listedfunctions import check_listed
from kernelmill.engine.errors import Code, KernelmillError


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "fleet_jobs.py").write_text("print('noise')\nTABLE = {}\ndef words(line, emit):\n    emit(line, 1)\n")
    (tmp_path / "fleet_broken.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "fleet_gone.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "fleet_slow.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.delitem(sys.modules, "fleet_jobs", raising=False)  # another test's
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(filter(None, sys.path))}")


def test_functions_that_are_there_pass_and_are_not_imported_here(modules):
    check_listed(["fleet_jobs:words"])
    check_listed([])
    assert "fleet_jobs" not in sys.modules


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nomod_anywhere:f", "No module named 'nomod_anywhere'"),
        ("fleet_jobs:count", "has no function count"),
        ("fleet_jobs:TABLE", "has no function TABLE"),
        ("fleet_broken:f", "SystemExit: 3"),
    ],
)
def test_a_function_that_cannot_be_had_is_refused_by_name(modules, name, said):
    with pytest.raises(KernelmillError) as caught:
        check_listed(["fleet_jobs:words", name])
    assert caught.value.code is Code.BAD_SETTING
    assert name in caught.value.what and said in caught.value.what


@pytest.mark.parametrize("name", ["fleet_gone:f", "fleet_slow:f"])
def test_a_module_that_never_comes_to_its_end_is_refused(modules, name):
    with pytest.raises(KernelmillError) as caught:
        check_listed([name], patience_s=2.0 if "slow" in name else 60.0)
    assert caught.value.code is Code.BAD_SETTING and name in caught.value.what
