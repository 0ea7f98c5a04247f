"""Which rows an attempt takes: numbers and keys are the same however batches are cut, and what is left out is told."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster.fields import Origin
from kernelmill.cluster.worker.selection import RowNamed, Selection, group_keys, key_hashes
from kernelmill.cluster.worker.slotframes import Only
from kernelmill.engine.io.context import RowPlace
from kernelmill.engine.plan import physical


def batch_of(keys):
    return pa.RecordBatch.from_arrays([pa.array(keys, pa.string()), pa.array(range(len(keys)))], names=["k", "n"])


def run(selection, keys, cuts):
    """What is taken of rows that come in batches cut at these places."""
    batch, found = batch_of(keys), []
    for start, stop in zip([0, *cuts], [*cuts, len(keys)], strict=True):
        part = batch.slice(start, stop - start)
        taken, which = selection.taken(part, start, lambda row, start=start: RowPlace("a", 10 * (start + row)), "task")
        rows = list(range(part.num_rows))[which] if isinstance(which, slice) else which.tolist()
        assert taken.column(1).to_pylist() == [start + row for row in rows]
        found += taken.column(1).to_pylist()
    return found


cuts_of = st.lists(st.integers(0, 20), max_size=5).map(sorted)


@given(st.sets(st.integers(0, 19), max_size=6), st.integers(0, 19), st.integers(0, 19), cuts_of)
def test_rows_are_taken_by_number_and_those_left_out_are_told_once(out, first, last, cuts):
    rejects = []
    left_out = [Origin(0, 0, row, b"") for row in out]
    selection = Selection((), left_out, Only(first, last, False, False), rejects.append)
    keys = [f"k{i}" for i in range(20)]
    expected = [row for row in range(20) if first <= row <= last and row not in out]
    assert run(selection, keys, cuts) == expected == run(selection, keys, [])
    told = sorted(row for row in out if first <= row <= last)
    assert sorted(one.offset for one in rejects) == [10 * row for row in told]
    assert {json.loads(one.record)["n"] for one in rejects} == set(told)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=20), st.sets(st.sampled_from("abcdef")), st.data())
def test_groups_are_taken_by_the_hash_of_their_key(keys, out, data):
    cuts = data.draw(st.lists(st.integers(0, len(keys)), max_size=4).map(sorted))
    hash_of = dict(zip(keys, map(int, key_hashes(batch_of(keys), ["k"])), strict=True))
    rejects = []
    left_out = [Origin(0, 0, 0, hash_of[key].to_bytes(8, "little")) for key in out if key in hash_of]
    taken = run(Selection(("k",), left_out, None, rejects.append), keys, cuts)
    assert taken == [row for row, key in enumerate(keys) if key not in out]
    assert sorted(json.loads(one.record)["k"] for one in rejects) == sorted(out & set(keys))
    middle = sorted(hash_of.values())[len(hash_of) // 2]
    only = Only(middle, middle, True, False)
    (key,) = [key for key, hashed in hash_of.items() if hashed == middle]
    assert run(Selection(("k",), (), only, rejects.append), keys, cuts) == [i for i, k in enumerate(keys) if k == key]


def test_a_naming_probe_says_what_its_row_is_and_runs_nothing():
    with pytest.raises(RowNamed) as named:
        run(Selection((), (), Only(7, 7, False, True), lambda _: None), [f"k{i}" for i in range(20)], [5])
    assert named.value.origin == Origin(0, 70, 7, b"") and named.value.place.offset == 70 and "k7" in named.value.text


def test_only_tasks_that_begin_with_groups_leave_out_groups():
    schema = pa.schema([("k", pa.string())])
    gather = physical.GatherGroups(("k",))
    end = physical.ToBlocks()
    assert group_keys(physical.Pipeline(None, (gather,), end, schema)) == ("k",)
    assert group_keys(physical.Pipeline(None, (physical.Limit(3), gather), end, schema)) == ()
    assert group_keys(physical.Pipeline(None, (), end, schema)) == ()
