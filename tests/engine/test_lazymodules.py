import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from kernelmill.engine.lazymodules import imported


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of some source, which can be imported by the name returned."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(source):
        name = f"made_for_{tmp_path.name.replace('-', '_')}_{len(made)}"
        (tmp_path / f"{name}.py").write_text(source)
        made.append(name)
        return name

    return make


@pytest.fixture
def collections():
    """The generations that are collected while the test runs."""
    found = []

    def note(phase, about):
        if phase == "start":
            found.append(about["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def test_nothing_is_collected_while_a_module_is_imported_nor_for_it_afterwards(module, collections):
    name = module("made = [[number] for number in range(100_000)]")
    gc.collect()
    collections.clear()
    assert len(imported(name).made) == 100_000
    assert collections == [] and gc.get_count()[0] < 100_000
    young = gc.get_objects(generation=0)
    assert len(young) < 10_000


def test_cycles_are_collected_as_before_when_the_import_is_over(module, collections):
    imported(module("number = 1"))
    collections.clear()
    held = [[] for _ in range(3 * gc.get_threshold()[0])]
    assert gc.isenabled() and collections and held


@pytest.mark.parametrize("source", ["number = 1", "raise KeyError('it fails')"])
def test_who_had_switched_collection_off_finds_it_off(module, source):
    gc.disable()
    try:
        try:
            imported(module(source))
        except KeyError:
            assert source != "number = 1"
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_import_that_fails_leaves_collection_on(module):
    with pytest.raises(KeyError, match="it fails"):
        imported(module("raise KeyError('it fails')"))
    assert gc.isenabled()


def test_objects_that_somebody_froze_stay_frozen(module):
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        imported(module("made = [[number] for number in range(1000)]"))
        assert gc.get_freeze_count() >= frozen - 100 > 0
    finally:
        gc.unfreeze()


SPINS = "OPENBLAS_THREAD_TIMEOUT"
ASKS = "import os\nfound = os.environ.get('OPENBLAS_THREAD_TIMEOUT')"


def test_numpy_is_imported_with_blas_threads_that_sleep_soon_and_the_environment_is_as_before(module, monkeypatch):
    monkeypatch.delenv(SPINS, raising=False)
    monkeypatch.delitem(sys.modules, "numpy")
    assert imported(module(ASKS)).found == "20" and SPINS not in os.environ
    with pytest.raises(KeyError):
        imported(module("raise KeyError('it fails')"))
    assert SPINS not in os.environ


def test_what_the_environment_says_of_blas_threads_holds(module, monkeypatch):
    monkeypatch.setenv(SPINS, "26")
    monkeypatch.delitem(sys.modules, "numpy")
    assert imported(module(ASKS)).found == "26" and os.environ[SPINS] == "26"


def test_nothing_is_said_of_blas_threads_that_run_already(module, monkeypatch):
    monkeypatch.delenv(SPINS, raising=False)
    monkeypatch.setitem(sys.modules, "numpy", np)
    assert imported(module(ASKS)).found is None


def test_our_first_name_is_what_imports_numpy():
    told = "'numpy' in sys.modules"
    code = f"import sys, kernelmill as km; before = {told}; km.col; print(before, {told})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def _printed(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


FROZEN = "print(gc.get_freeze_count() > 10_000, gc.isenabled())"


def test_what_a_script_imports_first_stays_out_of_collections_and_cycles_made_later_do_not():
    ring = "class Ring: pass\nring = Ring(); ring.me = ring; left = weakref.ref(ring); del ring; gc.collect()"
    code = f"import gc, weakref\nimport kernelmill as km\nkm.col; km.MapReduce\n{FROZEN}\n{ring}\nprint(left() is None)"
    assert _printed(code) == ["True", "True", "True"]


@pytest.mark.parametrize(
    "held",
    [
        "class Ring: pass\nring = Ring(); ring.me = ring",
        "import io, os\nring = [open(os.devnull, 'w')]; ring.append(ring)",
        "import io, os\nring = [open(os.devnull, 'wb')]; ring.append(ring)",
        "ring = [[number] for number in range(100_000)]",
        "try: 1 / 0\nexcept ZeroDivisionError as left: ring = [left]; ring.append(ring)",
        "def run(): yield bytes(1 << 20)\nring = [run()]; next(ring[0]); ring.append(ring)",
    ],
)
def test_what_is_in_a_cycle_before_our_first_name_is_still_collected(held):
    assert _printed(f"import gc\n{held}\nimport kernelmill as km\nkm.col\n{FROZEN}") == ["False", "True"]


def test_a_file_in_a_cycle_is_written_out_when_the_process_ends(tmp_path):
    path = tmp_path / "out.txt"
    ring = f"ring = [open({str(path)!r}, 'w')]; ring.append(ring); ring[0].write('kept')"
    _printed(f"{ring}\nimport kernelmill as km; km.col")
    assert path.read_text() == "kept"


def test_a_script_may_have_put_streams_of_its_own_in_place_of_the_process_s():
    code = (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'ascii')\nimport kernelmill as km\nkm.col"
    )
    assert _printed(f"{code}\nprint('here')") == ["here"]
    assert _printed("import sys\nsys.__stdin__ = None\nimport kernelmill as km\nkm.col\nprint('here')") == ["here"]


def test_a_module_that_is_there_is_given_without_a_look_at_all_objects(module, monkeypatch):
    name = module("number = 1")
    first = imported(name)
    monkeypatch.setattr(gc, "get_objects", lambda: pytest.fail("all objects were asked for"))
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("all objects were made old"))
    assert imported(name) is first
