import gc

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
