"""Memory grants: how many tasks run at once and what is left for blocks; too little is told at once."""

import re

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.grants import plan_grants
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.settings import Settings
from kernelmill.engine.sizes import parse_bytes
from kernelmill.kernels import _jit

MIB = 1 << 20


@pytest.fixture
def jobs(tmp_path):
    """Jobs of several shapes over sparse files of 64 MiB splits."""
    path = tmp_path / "big.txt"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "small.txt").write_text("a b\n")
    table = pa.table({"k": ["a", "b"], "n": [1, 2]})
    lines = km.scan_text(path)
    words = lines.select(km.col("line").str.tokenize().alias("w")).explode("w").group_by("w").len()
    small = km.scan_text(tmp_path / "small.txt").group_by("line").len()
    frames = [words, small, lines, lines.sort("line"), km.from_arrow(table).group_by("k").agg(km.col("n").sum())]
    return [plan_job(frame._plan, split_bytes=64 * MIB) for frame in frames]


def settings_of(memory_mib, threads=8):
    return Settings(threads=threads, memory_bytes=memory_mib * MIB)


def least_of(job):
    """The smallest memory, in MiB, that a job is granted; by bisection, for more must never be worse."""
    low, high = 0, 1 << 14
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan_grants(job, settings_of(middle))
            high = middle
        except KernelmillError as problem:
            assert problem.code is Code.MEMORY_LIMIT
            low = middle
    return high


def test_slots_are_at_least_one_and_at_most_the_threads(jobs):
    for job in jobs:
        for memory in (256, 1024, 1 << 16):
            for threads in (1, 3, 64):
                grants = plan_grants(job, settings_of(memory, threads))
                assert len(grants.slots_of_stage) == len(job.graph.stages)
                assert all(1 <= slots <= threads for slots in grants.slots_of_stage)
                assert 0 <= grants.store_bytes < memory * MIB


def test_ample_memory_fills_every_thread(jobs):
    for job in jobs:
        assert set(plan_grants(job, settings_of(1 << 16, 16)).slots_of_stage) == {16}


def test_tasks_and_blocks_together_stay_within_the_memory(jobs):
    for job in jobs:
        least = least_of(job)
        for memory in (least, 2 * least, 5 * least + 3):
            grants = plan_grants(job, settings_of(memory))
            assert max(grants.slots_of_stage) * 1 * MIB + grants.store_bytes <= memory * MIB
            assert max(grants.slots_of_stage) <= max(1, memory * MIB // (16 * MIB))


def test_too_little_is_told_with_the_least_that_would_do(jobs):
    for job in jobs:
        least = least_of(job)
        assert plan_grants(job, settings_of(least)).slots_of_stage
        with pytest.raises(KernelmillError) as caught:
            plan_grants(job, settings_of(least - 1))
        assert caught.value.code is Code.MEMORY_LIMIT
        named = re.search(r"at least ([0-9.,]+ [KMG]?i?B)", caught.value.what)[1]
        named_bytes = parse_bytes(named, name="memory", where="")
        assert plan_grants(job, Settings(threads=1, memory_bytes=named_bytes))


def test_a_small_input_needs_less_than_a_large_one(jobs):
    words, small = jobs[:2]
    assert least_of(small) < least_of(words)


def test_more_memory_gives_no_stage_fewer_slots(jobs):
    for job in jobs:
        least = least_of(job)
        slots = [plan_grants(job, settings_of(least + more)).slots_of_stage for more in range(0, 2000, 100)]
        for before, after in zip(slots, slots[1:], strict=False):
            assert all(a <= b for a, b in zip(before, after, strict=True))


def test_a_sort_may_hold_more_where_there_is_more(jobs):
    sorting = jobs[3]
    least = least_of(sorting)
    held = [plan_grants(sorting, settings_of(memory, 2)).held_bytes_of_stage for memory in (least, 10 * least, 1 << 16)]
    assert MIB <= held[0][-1] < held[1][-1] <= held[2][-1]
    assert held[2][-1] < 10 << 30  # what 1 GiB of input cannot need is the blocks'
    assert {sizes[0] for sizes in held} == {0}  # the stage that reads holds nothing


def test_what_a_map_emits_may_be_held_though_it_is_far_more_than_its_text(tmp_path):
    path = tmp_path / "big.txt"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    types = {"word": "string", "line": "string"}
    index = km.MapReduce(words_with_line, "list", key="word", value="line", schema=types, order=None, compile="never")
    job = plan_job(km.scan_text(path).pipe(index)._plan, split_bytes=64 * MIB)
    text_bytes = (1 << 30) // job.graph.stages[-1].tasks
    assert plan_grants(job, settings_of(1 << 16, 2)).held_bytes_of_stage[-1] >= 16 * text_bytes


def words_with_line(line, emit):
    for word in line.split():
        emit(word, line)


def test_rows_that_are_held_are_part_of_the_memory(jobs):
    for memory in (512, 1024, 4096):
        for job in jobs:
            grants = plan_grants(job, settings_of(memory))
            for slots, held in zip(grants.slots_of_stage, grants.held_bytes_of_stage, strict=True):
                assert slots * held + grants.store_bytes <= memory * MIB


def emitted_words(line, emit):
    for word in line.split():
        emit(word, 1)


AVERAGED = km.Combiner(
    init=lambda: (0, 0),
    step=lambda state, value: (state[0] + value, state[1] + 1),
    merge=lambda a, b: (a[0] + b[0], a[1] + b[1]),
    finish=lambda state: state[0] / state[1],
)
SETS = km.Combiner(
    init=lambda: set(),
    step=lambda state, value: state | {value},
    merge=lambda a, b: a | b,
    finish=lambda state: len(state),
)


def test_a_users_fold_is_granted_what_its_table_and_its_states_take(tmp_path):
    path = tmp_path / "big.txt"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    pair = {"key": "string", "value": "int64"}, {"value": "float64"}
    folds = [
        km.MapReduce(emitted_words, "sum", schema=pair[0], compile="never"),
        km.MapReduce(emitted_words, combine=lambda a, b: a + b, schema=pair[0], compile="never"),
        km.MapReduce(emitted_words, combine=AVERAGED, schema=pair),
        km.MapReduce(emitted_words, combine=SETS, schema=pair, compile="never"),
    ]
    plans = [plan_job(km.scan_text(path).pipe(job)._plan, split_bytes=64 * MIB) for job in folds]
    needs = [least_of(plan) for plan in plans]
    if _jit.JIT_DISABLED or _jit.BOUNDS_CHECKED:  # then all states but numbers of the values' own types are objects
        assert needs[0] < needs[1] < needs[3]
    else:
        assert needs[0] < needs[1] < needs[2] < needs[3]
