"""A task counts its blocks by their indexes, and reads the first while the others are on their way."""

import pytest
from blocks import JOB, SCHEMA, rows_of, write_map

from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.blockindex import HEAD_BYTES, index_length
from kernelmill.cluster.data.serving import BlockFiles
from kernelmill.cluster.data.store import BlockGoneError, ClusterStore, ScratchPlace
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.keys.signing import ticket
from kernelmill.cluster.messages import BlockRange, Fetch
from kernelmill.cluster.worker.slotframes import BlockHere, MapHeld, SourceInputs
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task, TaskInput

KEY = b"t" * 32
MAPS = 4
PARTITION = 1


def key_of(map_task):
    return AttemptKey(1, 10 + map_task)


class Desk(BlockDesk):
    """A desk that tells when the task waits for all of a block."""

    on_wait = None

    def wait_for(self, ref, code="", *, whole=True):
        if whole and not code:
            self.on_wait(ref.task)
        return super().wait_for(ref, code, whole=whole)


class Elsewhere:
    """A reader whose maps lie on another host. Indexes come when they are asked for, the rest when the task waits."""

    def __init__(self, folder, wanted_max=64):
        self.asked, self.waited = [], []
        self.spool = folder / "spool"
        self.spool.mkdir()
        holder = BlockFiles(str(folder / "far"), "far", KEY)
        self.streams = {}
        for map_task in range(MAPS):
            write_map(folder / "far", "far", map_task, key_of(map_task))
            one = BlockRange(JOB, 0, 0, map_task, key_of(map_task), 0, PARTITION, 0, 1 << 20)
            given = ticket(KEY, JOB, 0, 0, 0, PARTITION, "reader")
            self.streams[map_task] = holder.answer(Fetch(1, given, (one,)), "reader").body
        self.desk = Desk(self.ask, wanted_max=wanted_max)
        self.desk.on_wait = self.complete
        held = tuple(MapHeld(map_task, key_of(map_task), 0) for map_task in range(MAPS))
        self.desk.take_inputs(SourceInputs(0, 0, ("far",), held))
        task = Task(1, PARTITION, b"", 0, None, (TaskInput(0, EdgeKind.HASH, PARTITION, 0, MAPS),))
        place = ScratchPlace(str(folder / "near"), "reader")
        self.store = ClusterStore(
            place, TaskKey(JOB, 1, 0, PARTITION), AttemptKey(1, 900), task, self.desk, None, lambda ref: SCHEMA
        )
        self.refs = [BlockRef(0, map_task, PARTITION) for map_task in range(MAPS)]

    def ask(self, wanted):
        self.asked.append((wanted.map_task, wanted.code))
        stream = self.streams[wanted.map_task]
        (self.spool / str(wanted.map_task)).write_bytes(stream[: index_length(stream[:HEAD_BYTES], where="")])
        self.tell(wanted.map_task, is_whole=False)

    def tell(self, map_task, **more):
        path = str(self.spool / str(map_task))
        self.desk.take_answer(BlockHere(0, map_task, 0, PARTITION, key_of(map_task), "far", path, "", **more))

    def complete(self, map_task):
        self.waited.append(map_task)
        (self.spool / str(map_task)).write_bytes(self.streams[map_task])
        self.tell(map_task)


@pytest.mark.parametrize("wanted_max", [1, 2, 64])
def test_blocks_are_counted_before_they_are_here_and_read_as_they_come(tmp_path, wanted_max):
    far = Elsewhere(tmp_path, wanted_max)
    far.store.prefetch()
    counted = far.store.rows(iter(far.refs))
    assert [rows for rows, _ in counted] == [
        sum(batch.num_rows for batch in rows_of(map_task, PARTITION)) for map_task in range(MAPS)
    ]
    assert far.waited == []
    for map_task, ref in enumerate(far.refs):
        assert list(far.store.read(ref)) == rows_of(map_task, PARTITION)
        assert far.waited == list(range(map_task + 1)), "only what is read is waited for"
    assert far.asked == [(map_task, "") for map_task in range(MAPS)]
    assert far.store.rows(iter(far.refs)) == counted
    assert far.store.consumed()[0].maps == MAPS


def test_a_block_that_is_damaged_behind_its_index_is_asked_for_again_before_a_row_of_it_is_given(tmp_path):
    far = Elsewhere(tmp_path)
    far.store.prefetch()
    counted = far.store.rows(iter(far.refs))
    whole = far.streams[1]
    far.streams[1] = whole[:-1] + b"?"
    taken = far.desk._ask

    def mended(wanted):
        taken(wanted)
        far.streams[1] = whole
        far.complete(1)

    far.desk._ask = mended
    assert list(far.store.read(far.refs[1])) == rows_of(1, PARTITION)
    assert far.asked[MAPS:] == [(1, "CORRUPT_BLOCK")]
    assert far.store.rows(iter(far.refs)) == counted


def test_a_block_that_comes_back_in_another_size_than_was_counted_ends_the_attempt(tmp_path):
    far = Elsewhere(tmp_path)
    far.store.prefetch()
    far.store.rows(iter(far.refs))
    far.streams[1] = far.streams[1][:-1] + b"?"

    def other(wanted):
        """The map was made again, of other rows, on this host."""
        write_map(tmp_path / "near", "w7", 1, AttemptKey(1, 77), rows=lambda *_: rows_of(0, PARTITION))
        far.desk.take_answer(BlockHere(0, 1, 0, PARTITION, AttemptKey(1, 77), "w7", "", ""))

    far.desk._ask = other
    with pytest.raises(BlockGoneError) as caught:
        list(far.store.read(far.refs[1]))
    assert caught.value.failure == "CORRUPT_BLOCK"
