"""Stages of compiled maps: their size, which decides where batches of emits end, is the same whatever came before."""

from types import SimpleNamespace

import numpy as np
import pytest

import kernelmill as km
from kernelmill.engine.exec.stages import Stage
from kernelmill.kernels import _jit, usermaps

FORM = SimpleNamespace(staged=2, counters=(), side=SimpleNamespace(address=0), outputs=(), places=())


def test_a_stage_that_grew_for_a_record_has_its_first_size_at_the_next_batch():
    stage = Stage()
    stage.begin(FORM)
    first = stage.capacity, int(stage.arena[1])
    stage.state[usermaps.OVERFULL] = 1
    stage.grow_full()
    stage.grow_arena(8 * int(stage.arena[1]))
    assert stage.capacity == 2 * first[0] and stage.arena[1] == 8 * first[1]
    stage.begin(FORM)
    assert (stage.capacity, int(stage.arena[1])) == first
    assert stage.state[usermaps.CAPACITY] == stage.state[usermaps.FULL_AT] == first[0]


def add(line, emit):
    for word in line.split():
        emit(word, float(word) / 3)


@pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")
def test_sums_of_floats_do_not_know_which_thread_had_the_large_record(tmp_path):
    """Two threads take the files in any order; each flushes many times, and a large record comes in one of them."""
    random = np.random.default_rng(3)
    for number in range(6):
        words = [str(word) for word in random.integers(0, 60_000, 60_000)]
        lines = [" ".join(words[at : at + 12]) for at in range(0, len(words), 12)]
        if number == 2:
            lines.insert(0, " ".join(words))
        (tmp_path / f"{number}.txt").write_text("\n".join(lines))
    job = km.MapReduce(add, "sum", order=None, compile="require")
    found = []
    for threads in (1, 2, 2):
        job.run(f"{tmp_path}/*.txt", output=tmp_path / "out", mode="overwrite", threads=threads, split_size="1MB")
        found.append({file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()})
    assert found[0] == found[1] == found[2]
