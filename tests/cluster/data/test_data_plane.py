"""Blocks and parts over real sockets: who gets what, what comes, and what happens when a holder is gone or damaged."""

import hashlib
import os
import shutil
import threading
import time

import pytest
from blocks import JOB, PARTITIONS, batch_of, reader, refs, rows_of, write_map
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster import sockets
from kernelmill.cluster.data.answering import enveloped
from kernelmill.cluster.data.blockindex import (
    OutputId,
    Piece,
    attempt_folder,
    encode_index,
    output_stem,
    read_index,
    stream_bytes_max,
)
from kernelmill.cluster.data.partserver import PartServer
from kernelmill.cluster.data.plane import DataPlane, DataSettings
from kernelmill.cluster.data.serving import Served
from kernelmill.cluster.data.spool import is_whole_block
from kernelmill.cluster.fields import AttemptKey, JobPart
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.keys.signing import ticket
from kernelmill.cluster.messages import BlockRange, Fetch, Peer
from kernelmill.cluster.sockets import connect_dealer, new_context
from kernelmill.cluster.wire import HOLDER_TO_READER
from kernelmill.cluster.worker.events import BlockBegan, BlockCame, BlockMissed, PartsCame, PartsMissed, Want
from kernelmill.cluster.worker.slotframes import BlockHere
from kernelmill.engine.errors import Code, KernelmillError

DEADLINE_S = 20.0
BLOCK_BYTES = 1 << 30
KEY = b"t" * 32
ATTEMPT = AttemptKey(1, 7)
NO_MASTER = "ipc:///nowhere", make_pair().public


class Worker:
    """A data plane with a scratch folder of its own: another host, as far as files go."""

    def __init__(self, folder, name, parts=None):
        self.name, self.pair, self.scratch = name, make_pair(), str(folder / name)
        endpoint = f"ipc://{folder}/{name}.data"
        self.bell = threading.Event()
        settings = DataSettings(self.scratch, name, self.pair, KEY, endpoint, *(parts or NO_MASTER))
        self.plane = DataPlane(settings, self.bell.set)
        self.seen = []

    @property
    def peer(self):
        return Peer(self.name, self.plane.endpoint, self.pair.public.encode())

    def outcomes(self, count):
        """Wait for this many outcomes in all."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.seen) < count:
            assert self.bell.wait(deadline - time.monotonic()), f"only {self.seen}"
            self.bell.clear()
            self.seen += self.plane.take()
        return self.seen


def want_of(map_task, partition, holder="w1", attempt=ATTEMPT, gen=0):
    return Want(JOB, 0, gen, map_task, attempt, holder, 0, partition)


def ticket_of(want, name="w2", key=KEY):
    return ticket(key, want.job, want.stage, want.gen, want.output, want.partition, name)


@pytest.fixture
def two(tmp_path):
    workers = [Worker(tmp_path, name) for name in ("w1", "w2")]
    for worker in workers:
        worker.plane.set_peers([each.peer for each in workers])
    yield workers
    for worker in workers:
        worker.plane.close()


def damage(worker, map_task_attempt, partition):
    stem = output_stem(worker.scratch, worker.name, JOB, map_task_attempt, 0)
    piece = read_index(stem + ".index").pieces(partition)[-1]
    with open(stem + ".data", "r+b") as file:
        file.seek(piece.offset + piece.length - 1)
        file.write(b"?")


def test_blocks_of_another_host_come_whole_and_are_read_as_those_in_place(two):
    holder, far = two
    wants = []
    for number in range(4):
        attempt = AttemptKey(1, 10 + number)
        write_map(holder.scratch, "w1", number, attempt)
        wants.append(want_of(number, 1, attempt=attempt))

    def ask(wanted):
        want = next(each for each in wants if each.map_task == wanted.map_task)
        far.plane.want(want, ticket_of(want), BLOCK_BYTES)

    store, desk, _ = reader(far.scratch, 1, [(w.map_task, w.attempt, "w1") for w in wants], maps=4, ask=ask)
    desk.want(refs(4, 1))
    for came in far.outcomes(4):
        assert isinstance(came, BlockCame)
        want = came.want
        desk.take_answer(BlockHere(0, want.map_task, 0, 1, want.attempt, "w1", came.path, ""))
    expected = [batch for number in range(4) for batch in rows_of(number, 1)]
    assert [batch for ref in refs(4, 1) for batch in store.read(ref)] == expected
    assert store.consumed()[0].sums.rows == sum(batch.num_rows for batch in expected)
    paths = [came.path for came in far.seen]
    for want in wants:
        far.plane.forget(want)
    far.plane.close()
    assert not any(os.path.exists(path) for path in paths)


def test_a_block_without_rows_comes_as_one(two):
    write_map(two[0].scratch, "w1", 0, ATTEMPT, rows=lambda task, part: [])
    want = want_of(0, 1)
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    (came,) = two[1].outcomes(1)
    store, desk, _ = reader(two[1].scratch, 1, [(0, ATTEMPT, "w1")], maps=1)
    desk.want(refs(1, 1))
    desk.take_answer(BlockHere(0, 0, 0, 1, ATTEMPT, "w1", came.path, ""))
    assert list(store.read(refs(1, 1)[0])) == [] and store.consumed() == [(1, (0, 0, 0))]


def test_a_stream_of_many_megabytes_comes_in_pieces_whatever_order_they_were_written_in(two, monkeypatch):
    from kernelmill.engine.shuffle import writer

    monkeypatch.setattr(writer, "PIECE_BYTES_MAX", 1 << 20)
    batches = [batch_of(number, 60_000) for number in range(12)]
    write_map(two[0].scratch, "w1", 0, ATTEMPT, rows=lambda task, part: batches[part::PARTITIONS])
    want = want_of(0, 2)
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    began, came = two[1].outcomes(2)
    assert began == BlockBegan(want, came.path)
    assert os.path.getsize(came.path) > 3 << 20
    store, desk, _ = reader(two[1].scratch, 2, [(0, ATTEMPT, "w1")], maps=1)
    desk.want(refs(1, 2))
    desk.take_answer(BlockHere(0, 0, 0, 2, ATTEMPT, "w1", came.path, ""))
    assert list(store.read(refs(1, 2)[0])) == batches[2::PARTITIONS]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"map_task": 5}, "CORRUPT_BLOCK"),  # the name fits, the ids within do not
        ({"attempt": AttemptKey(1, 8)}, "CORRUPT_BLOCK"),
        ({"partition": PARTITIONS}, "CORRUPT_BLOCK"),
        ({"gen": 1}, "CORRUPT_BLOCK"),
        ({"holder": "w9"}, "FETCH_UNREACHABLE"),
    ],
)
def test_what_a_holder_has_not_is_missed(two, change, code):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    want = want_of(**{"map_task": 1, "partition": 1, **change})
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    assert two[1].outcomes(1) == [BlockMissed(want, code)]


@pytest.mark.parametrize("wrong", ["name", "key", "none"])
def test_no_block_without_a_ticket_for_it(two, wrong):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    want = want_of(1, 1)
    given = {"name": ticket_of(want, name="w1"), "key": ticket_of(want, key=bytes(32)), "none": b""}[wrong]
    two[1].plane.want(want, given, BLOCK_BYTES)
    assert two[1].outcomes(1) == [BlockMissed(want, "FETCH_UNREACHABLE")]


def test_a_holder_whose_disk_is_damaged_is_found_out_and_one_that_is_gone_is_given_up_in_3_seconds(two):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    damage(two[0], ATTEMPT, 1)
    want = want_of(1, 1)
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    assert two[1].outcomes(1) == [BlockMissed(want, "CORRUPT_BLOCK")]
    two[0].plane.close()
    began = time.monotonic()
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    assert two[1].outcomes(2)[1:] == [BlockMissed(want, "FETCH_UNREACHABLE")]
    assert 2.5 < time.monotonic() - began < 6


def test_a_worker_that_is_no_peer_any_more_gets_nothing_over_its_old_connection(two):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    first, second = want_of(1, 1), want_of(1, 2)
    two[1].plane.want(first, ticket_of(first), BLOCK_BYTES)
    assert isinstance(two[1].outcomes(1)[0], BlockCame)
    two[0].plane.set_peers([two[0].peer])
    seen = two[0].plane._answering.seen
    served = seen["OK"]
    two[1].plane.want(second, ticket_of(second), BLOCK_BYTES)
    assert two[1].outcomes(2)[1:] == [BlockMissed(second, "FETCH_UNREACHABLE")]
    assert seen["DENIED"] and seen["OK"] == served  # it was answered, rather than given up


def test_a_holder_that_sends_more_than_was_told_of_its_block_fills_no_disk(two):
    """It says that a block of 1 kB has 64 MiB, and would send them all."""
    sent = []

    def answer(fetch, reader):
        (one,) = fetch.ranges
        sent.append(one.offset)
        return Served("OK", 64 << 20, bytes(min(one.length, (64 << 20) - one.offset)))

    two[0].plane._blocks.answer = answer
    want = want_of(1, 1)
    two[1].plane.want(want, ticket_of(want), 1000)
    assert two[1].outcomes(1) == [BlockMissed(want, "CORRUPT_BLOCK")]
    assert set(sent) == {0}
    assert os.listdir(os.path.join(two[1].scratch, "w2", "spool")) == []


def test_a_stream_for_which_the_disk_has_no_room_is_not_begun(two):
    size = shutil.disk_usage(two[1].scratch).free + (1 << 40)
    two[0].plane._blocks.answer = lambda fetch, reader: Served("OK", size, bytes(fetch.ranges[0].length))
    want = want_of(1, 1)
    two[1].plane.want(want, ticket_of(want), size)
    assert two[1].outcomes(1) == [BlockMissed(want, "DISK_FULL")]
    assert os.listdir(os.path.join(two[1].scratch, "w2", "spool")) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(40, 5000), max_size=50), st.integers(1, 40), st.integers(0, 10_000))
def test_no_true_stream_is_longer_than_its_block_may_be(lengths, partitions, schema_bytes):
    pieces = [Piece(0, length, 1, 1, 0, 0, 0) for length in lengths]
    id_ = OutputId(JOB, 0, 0, 0, 0, ATTEMPT)
    head = encode_index(id_, bytes(schema_bytes), [pieces] + [[]] * (partitions - 1))
    assert len(head) + sum(lengths) <= stream_bytes_max(sum(lengths))
    assert stream_bytes_max(1 << 30) < 3 << 30


def test_nonsense_and_path_tricks_of_a_listed_peer_change_nothing(two):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    context = new_context()
    rogue = connect_dealer(
        context,
        two[1].pair,
        two[0].pair.public,
        two[0].plane.endpoint,
        message_bytes_max=1 << 20,
        queued_max=1000,
    )
    far = BlockRange(b"../../../../etc/", 0, 0, 1, ATTEMPT, 0, 1, 0, 100)
    huge = tuple(BlockRange(JOB, 0, 0, 1, ATTEMPT, 0, 1, 0, 1 << 20) for _ in range(3))
    right = ticket_of(want_of(1, 1))
    rogue.rcvtimeo = rogue.sndtimeo = int(1000 * DEADLINE_S)
    for frames in ([b""], [b"\xc1" * 100], [b"x", b"y", b"z"], [b"\x80\x04\x95" * 50]):
        rogue.send_multipart(frames)
    statuses = []
    for ranges in ((far,), huge):
        rogue.send(enveloped(Fetch(1, right, ranges), 1))
        statuses.append(HOLDER_TO_READER.decode(rogue.recv_multipart()[0]).body.status)
    assert statuses == ["DENIED", "DENIED"]
    rogue.close(0)
    context.destroy(0)
    want = want_of(1, 1)
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    assert isinstance(two[1].outcomes(1)[0], BlockCame)


def test_what_is_fetched_into_a_spool_that_cannot_be_written_is_missed(two):
    write_map(two[0].scratch, "w1", 1, ATTEMPT)
    shutil.rmtree(os.path.join(two[1].scratch, "w2", "spool"))
    want = want_of(1, 1)
    two[1].plane.want(want, ticket_of(want), BLOCK_BYTES)
    assert two[1].outcomes(1) == [BlockMissed(want, "FETCH_UNREACHABLE")]


def test_the_spool_of_an_earlier_process_is_cleared(tmp_path):
    left = tmp_path / "w1" / "w1" / "spool"
    left.mkdir(parents=True)
    (left / "5").write_bytes(b"old")
    worker = Worker(tmp_path, "w1")
    worker.plane.close()
    assert list(left.iterdir()) == []


def test_a_worker_whose_door_lets_everybody_in_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(sockets.Door, "_name_of", lambda door, frames: "anybody")
    worker = Worker(tmp_path, "w1")
    assert worker.bell.wait(DEADLINE_S)
    with pytest.raises(KernelmillError) as caught:
        worker.plane.take()
    assert caught.value.code is Code.KEYS
    worker.plane.close()


# Parts of jobs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path):
    """A master's parts, a worker that may have them, and what the master lets it have."""
    contents = [b"small", b"", bytes(range(256)) * (3 << 12), os.urandom((1 << 20) + 5)]
    folder = tmp_path / "parts"
    folder.mkdir()
    made = []
    for content in contents:
        digest = hashlib.sha256(content).digest()
        (folder / digest.hex()).write_bytes(content)
        made.append(JobPart("table", digest, len(content)))
    allowed, pair = {part.sha256 for part in made}, make_pair()
    server = PartServer(f"ipc://{tmp_path}/p", pair, str(folder), lambda name, sha256: sha256 in allowed)
    worker = Worker(tmp_path, "w1", (server.endpoint, pair.public))
    server.set_workers({worker.pair.public: "w1"})
    yield worker, tuple(made), contents, folder, allowed, server
    worker.plane.close()
    server.close()


def test_the_parts_of_jobs_come_checked_and_only_once(parts, tmp_path):
    worker, made, contents, folder, _, _ = parts
    worker.plane.want_parts(JOB, made)
    worker.plane.want_parts(b"k" * 16, made[1:])
    assert sorted(worker.outcomes(2), key=repr) == sorted([PartsCame(JOB), PartsCame(b"k" * 16)], key=repr)
    own = tmp_path / "w1" / "w1" / "parts"
    assert [(own / part.sha256.hex()).read_bytes() for part in made] == contents
    assert len(list(own.iterdir())) == len(made)
    shutil.rmtree(folder)
    worker.plane.want_parts(b"l" * 16, made)
    assert worker.outcomes(3)[2:] == [PartsCame(b"l" * 16)]


def test_a_part_that_is_damaged_at_the_master_or_not_allowed_or_gone_is_missed(parts):
    worker, made, contents, folder, allowed, server = parts
    (folder / made[2].sha256.hex()).write_bytes(contents[2][:-1] + b"?")
    allowed.discard(made[0].sha256)
    os.unlink(folder / made[3].sha256.hex())
    worker.plane.want_parts(JOB, made[1:3])
    worker.plane.want_parts(b"k" * 16, made[:1])
    worker.plane.want_parts(b"l" * 16, made[3:])
    missed = worker.outcomes(3)
    assert {type(each) for each in missed} == {PartsMissed}
    failures = {each.job: each.failure for each in missed}
    assert failures == {JOB: "PART_DAMAGED", b"k" * 16: "FETCH_UNREACHABLE", b"l" * 16: "PART_DAMAGED"}
    server.check()


def test_a_worker_that_was_removed_gets_no_part(parts):
    worker, made, _, _, _, server = parts
    worker.plane.want_parts(JOB, made[:1])
    assert worker.outcomes(1) == [PartsCame(JOB)]
    server.set_workers({})
    worker.plane.want_parts(b"k" * 16, made[2:3])
    assert isinstance(worker.outcomes(2)[1], PartsMissed)


def test_a_part_whose_file_here_is_damaged_is_fetched_again(parts, tmp_path):
    worker, made, contents, _, _, _ = parts
    path = tmp_path / "w1" / "w1" / "parts" / made[2].sha256.hex()
    path.write_bytes(contents[2][:-1] + b"?")
    worker.plane.want_parts(JOB, made)
    assert worker.outcomes(1) == [PartsCame(JOB)] and path.read_bytes() == contents[2]


def test_attempt_folders_have_names_made_of_ids_alone(tmp_path):
    assert attempt_folder("/s", "w1", JOB, AttemptKey(3, 4)) == f"/s/w1/{JOB.hex()}/3-4"


@pytest.mark.parametrize("length", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_stream_whose_holder_lies_of_the_length_of_a_piece_is_not_whole(tmp_path, length):
    id_ = OutputId(JOB, 0, 0, 0, 0, ATTEMPT)
    path = tmp_path / "stream"
    path.write_bytes(encode_index(id_, b"", [[Piece(0, length, 1, 1, 0, 0, 0)]]) + b"data")
    assert not is_whole_block(str(path), id_, 0)


def test_a_stream_whose_holder_lies_of_the_number_of_pieces_is_not_whole(tmp_path):
    id_ = OutputId(JOB, 0, 0, 0, 0, ATTEMPT)
    head = bytearray(encode_index(id_, b"", [[]]))
    head[12:16] = b"\xff" * 4
    (tmp_path / "stream").write_bytes(head)
    assert not is_whole_block(str(tmp_path / "stream"), id_, 0)
