"""Matrix rows 12, 21 and 22 at a worker's data door: readers that do not read, with tickets of others, with pickles."""

import signal

import known
import msgspec
import pytest
import raw
import rig as rigs

from kernelmill.cluster import addresses, messages
from kernelmill.cluster.data.answering import enveloped
from kernelmill.cluster.data.blockindex import read_index
from kernelmill.cluster.keys.signing import ticket
from kernelmill.cluster.wire import HOLDER_TO_READER

GREW_BYTES_MAX = 96 << 20
"""What a supervisor may take more while readers do not read: messages that wait are bounded in number and size."""
REQUESTS = 2000


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.fixture
def holder(rig):
    """w1 has run all maps and stands still at the first reduce; eve is a worker too, with her own key."""
    rig.truth_of_job = rig.truth(known.identity())
    rig.bundle("worker", "eve")
    rig.start_master()
    rig.start_worker("w1", failpoints=f"slot.task.begun=stop@{known.maps_of(known.ROWS) + 1}")
    rig.future = rig.begin(rig.truth_of_job)
    rig.wait_token("slot.task.begun")
    index = read_index(str(sorted(rig.scratch("w1").rglob("*.index"))[0]))
    rig.block, rig.index = index.id, index
    (key,) = rig.scratch("w1").rglob("ticket.key")
    rig.ticket_key = key.read_bytes()
    rig.eve = raw.worker_session(rig.address, rig.read_bundle("worker", "eve"))
    rig.eve.say(raw.hello())
    assert rig.eve.hear(messages.Peers) is not None  # so w1 has heard of her too, or will at once
    yield rig
    rig.eve.peer.close()


def data_door(rig):
    """Eve's connection to w1's data socket: her key is good, and in the list."""
    bundle = rig.read_bundle("worker", "eve")
    server_key = rig.read_bundle("worker", "w1").public_key
    endpoint = addresses.for_data(rig.address, "w1", "", 1)
    for _ in range(20):
        peer = raw.RawPeer(endpoint, server_key=server_key, pair=bundle.pair)
        if peer.handshake(2.0) == "succeeded":
            return peer
        peer.close()
    raise AssertionError("w1 does not let eve in")


def ticket_of(rig, *, partition=0, reader="eve", key=None, **changed):
    one = {"job": rig.block.job, "stage": rig.block.stage, "gen": rig.block.gen, "output": 0, **changed}
    place = one["job"], one["stage"], one["gen"], one["output"], partition, reader
    return ticket(key or rig.ticket_key, *place)


def fetch(rig, given, *, partition=0, length=1000, times=1, request=1, **changed):
    """A Fetch of a block of w1's: the same range so many times."""
    where = {"job": rig.block.job, "stage": rig.block.stage, "gen": rig.block.gen, "map_task": rig.block.task}
    where |= {"attempt": rig.block.attempt, **changed}
    one = messages.BlockRange(**where, output=0, partition=partition, offset=0, length=length)
    return enveloped(messages.Fetch(request, given, (one,) * times), request)


def status(peer):
    answer = peer.answer(5.0)
    return "nothing" if answer is None else HOLDER_TO_READER.decode(answer[0]).body.status


def finish(rig):
    for pid in rig.slots_of("w1"):
        rigs.signal_if_there(pid, signal.SIGCONT)
    rig.done(rig.future, 60)
    rig.truth_of_job.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0


def test_a_listed_worker_gets_no_block_with_the_tickets_of_others_and_no_other_file(holder, strikes):
    with data_door(holder) as peer:
        peer.send(fetch(holder, ticket_of(holder)))
        assert status(peer) == "OK", "her own ticket is good: the others are refused for what is wrong with them"
        wrong = {
            "none": b"",
            "another reader's": ticket_of(holder, reader="w2"),
            "another partition's": ticket_of(holder, partition=1),
            "another job's": ticket_of(holder, job=bytes(16)),
            "another gen's": ticket_of(holder, gen=1),
            "made by herself": ticket_of(holder, key=b"e" * 32),
        }
        for name, given in wrong.items():
            peer.send(fetch(holder, given))
            assert status(peer) == "DENIED", name
            strikes.add(f"ticket: {name}")
        for job in (b"../../../../etc/", b"/etc/passwd\0\0\0\0\0"):
            peer.send(fetch(holder, ticket_of(holder, job=job), job=job))
            assert status(peer) == "GONE"
            strikes.add("path for a name")
        for frame in raw.mutations(fetch(holder, ticket_of(holder)), 12, 300):
            peer.send(frame)
            strikes.add("damaged message")
    finish(holder)


@pytest.mark.faults
def test_pickles_in_every_field_of_a_fetch_are_loaded_by_nobody(holder, strikes):
    marker = holder.folder / "marker"
    frame = fetch(holder, ticket_of(holder))
    with data_door(holder) as peer:
        for poisoned in raw.with_pickle_in_each_field(frame, raw.pickle_that_marks(marker)):
            peer.send(poisoned)
            strikes.add("pickle to the data door")
    finish(holder)
    assert not marker.exists()


def test_a_reader_that_does_not_read_costs_its_holder_a_bounded_memory(holder, strikes):
    (piece, *_) = holder.index.pieces(0)
    times = max(1, min(messages.FETCH_BYTES_MAX // piece.length, 16))
    given, before = ticket_of(holder), rss_bytes(holder.members["w1"].pid)
    with data_door(holder) as peer:
        for number in range(REQUESTS):
            peer.send(fetch(holder, given, length=piece.length, times=times, request=number + 1))
        strikes.add("request unread", REQUESTS)
        rigs.until(lambda: rss_bytes(holder.members["w1"].pid) > before, "it answers")
        finish(holder)
        assert rss_bytes(holder.members["w1"].pid) - before < GREW_BYTES_MAX
    assert REQUESTS * times * piece.length > 2 * GREW_BYTES_MAX, "what was asked for is more than may be held"


@pytest.mark.faults
def test_a_reader_that_is_stopped_in_the_shuffle_is_done_without(holder, strikes):
    """w2 has asked for blocks when it and its slots are stopped; w1 ends the job, no larger than before."""
    before = rss_bytes(holder.members["w1"].pid)
    holder.start_worker("w2", failpoints="slot.task.begun=stop@1", tokens="w2")
    rigs.until(lambda: (holder.tokens / "w2" / "slot.task.begun").exists(), "w2 has a reduce")
    for pid in [holder.members["w2"].pid, *holder.slots_of("w2")]:
        rigs.signal_if_there(pid, signal.SIGSTOP)
    strikes.add("reader stopped")
    finish(holder)
    assert rss_bytes(holder.members["w1"].pid) - before < GREW_BYTES_MAX


@pytest.mark.faults
def test_the_range_of_a_fetch_has_bounds(holder, strikes):
    """More bytes than a Fetch may have, and places beyond the end: each is an answer, and none is bytes."""
    with data_door(holder) as peer:
        peer.send(fetch(holder, ticket_of(holder), length=messages.FETCH_BYTES_MAX, times=2))
        assert status(peer) == "DENIED"
        frame = msgspec.msgpack.decode(fetch(holder, ticket_of(holder)))
        frame[-1][3][0][-2] = 1 << 62
        peer.send(msgspec.msgpack.encode(frame))
        assert status(peer) in ("OK", "GONE", "CORRUPT", "nothing")
        strikes.add("range out of bounds", 2)
    finish(holder)
