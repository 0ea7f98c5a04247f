"""Matrix row 17: rows that make a user's function raise, crash its process, or never return."""

import known
import pytest

from kernelmill.engine.errors import Code, KernelmillError

ROWS = 4000
POISON = (1234, 3777)
"""Ids of the rows that the functions below cannot take: one in each of two maps."""
WITHIN_S = 100.0
"""Each crash costs a process, some 15 of them a row; a busy machine may take a second for each."""
CODES = {"raise": Code.FUNCTION_FAILED, "segv": Code.FUNCTION_CRASHED}


def poisoned_truth(rig, way):
    return rig.truth(known.poisoned(way, POISON, ROWS))


@pytest.mark.parametrize("way", ["raise", *(pytest.param(way, marks=pytest.mark.faults) for way in ("segv", "exit"))])
def test_poison_rows_are_set_aside_just_they_and_with_their_origin(rig, strikes, way):
    truth = poisoned_truth(rig, way)
    rig.start_master()
    rig.start_workers("w1", "w2")
    result = rig.done(rig.begin(truth, on_bad="reject", max_rejects=10), WITHIN_S)
    strikes.add(way, len(POISON))
    target = rig.files / "out"
    assert known.differences(truth.job.expected(), known.rows_of(target)) == known.NO_DIFFERENCES
    assert known.problems_of_manifest(target) == []
    assert sum(result.rejects.values()) == len(POISON)
    if way == "raise":
        truth.run_here(rig.files / "local", on_bad="reject", max_rejects=10)
        assert known.bytes_of(target) == known.bytes_of(rig.files / "local")
    assert known.rejected_lines(target) == sorted(known.line(number) for number in POISON)


@pytest.mark.parametrize("way", ["raise", pytest.param("segv", marks=pytest.mark.faults)])
def test_a_poison_row_fails_a_job_that_wants_no_bad_rows_and_is_named(rig, strikes, way):
    truth = poisoned_truth(rig, way)
    rig.start_master()
    rig.start_workers("w1", "w2")
    with pytest.raises(KernelmillError) as caught:
        rig.done(rig.begin(truth), WITHIN_S)
    strikes.add(way)
    assert caught.value.code is CODES[way]
    assert any(known.line(number) in str(caught.value) for number in POISON)
    assert not (rig.files / "out").exists()
    rig.no_staging()
