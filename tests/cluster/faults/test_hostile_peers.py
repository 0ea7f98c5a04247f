"""Matrix rows 19, 21, 22, 24, 25 and 28: whoever has no key, another's, or a good one and bad manners."""

import known
import msgspec
import pytest
import raw
import rig as rigs

from kernelmill.cluster import addresses, messages
from kernelmill.cluster.fields import AttemptKey, AttemptName
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.versions import versions_here

LOG_BYTES_MAX = 10_000
"""What a master says of all that a peer with a key says wrongly."""
DOORS = {
    "clients": lambda address: address,
    "workers": addresses.for_workers,
    "parts": addresses.for_parts,
    "data": lambda address: addresses.for_data(address, "w1", "", 1),
}


@pytest.fixture
def busy(rig):
    """A cluster in the middle of a job, which waits at its gate."""
    rig.gate = str(rig.folder / "gate")
    rig.busy_with = rig.truth(known.identity(gate=rig.gate, gate_at=known.ROWS // 2))
    for role in ("worker", "client"):
        rig.bundle(role, f"eve-{role}")  # listed before the master starts, so at once
    rig.start_master()
    rig.start_worker("w1")
    rig.job = rig.begin(rig.busy_with)
    rig.gated(rig.gate)
    return rig


def eve(busy, role):
    """The bundle of a peer with a good key who means no good."""
    return busy.read_bundle(role, f"eve-{role}")


def registered(busy):
    """Eve's session as a worker. It tells the master of no free slot, so she gets no work and w1 all of it."""
    session = raw.worker_session(busy.address, eve(busy, "worker"))
    session.say(raw.hello())
    assert session.hear(messages.Welcome) is not None
    return session


def ends_well(busy, but=()):
    """The job in the middle ends as if nobody had come; no process of the cluster has ended, but these may have.

    What those had committed is lost with them, and made again.
    """
    open(busy.gate, "w").close()
    busy.done(busy.job)
    busy.busy_with.check(busy.files / "out")
    assert [name for name, process in busy.members.items() if process.poll() is not None and name not in but] == []
    found = busy.history()
    assert found.problems == [] and found.kinds["JobAccepted"] == 1
    assert found.commits_again == (found.kinds["OutputLost"] if but else 0)
    assert len(busy.log("master")) < LOG_BYTES_MAX


def test_nobody_without_a_listed_key_gets_in(busy, strikes):
    server_key = busy.read_bundle("worker", "w1").master_key
    keys = (
        {},
        {"pair": make_pair(), "server_key": server_key},
        {"pair": make_pair(), "server_key": make_pair().public},
    )
    for door, endpoint_of in DOORS.items():
        for options in keys:
            with raw.RawPeer(endpoint_of(busy.address), **options) as peer:
                peer.send(raw.golden()["Hello"])
                assert peer.handshake(2.5) != "succeeded", door
                assert peer.answer(0.1) is None, door
                strikes.add(f"key refused at {door}")
    ends_well(busy)


def test_a_key_opens_the_doors_of_its_own_role_alone(busy, strikes):
    for role, door in (("worker", "clients"), ("client", "workers"), ("client", "parts"), ("client", "data")):
        bundle = eve(busy, role)
        with raw.RawPeer(DOORS[door](busy.address), server_key=bundle.master_key, pair=bundle.pair) as peer:
            peer.send(raw.golden()["Submit"])
            assert peer.handshake(2.5) != "succeeded", f"{role} at {door}"
            strikes.add(f"{role} refused at {door}")
    ends_well(busy)


def test_connections_that_speak_no_zeromq_change_nothing(busy, strikes):
    for endpoint_of in DOORS.values():
        for name, stream in raw.byte_streams(7).items():
            with raw.RawBytes(endpoint_of(busy.address)) as connection:
                connection.send(stream)
                strikes.add(name)
    ends_well(busy)


WORKER_WORDS = ("Hello", "Accept", "Failed", "FetchFailed", "Beat", "Done", "Drain", "Bye")
CLIENT_WORDS = (
    "Submit",
    "PutPart",
    "Watch",
    "ListJobs",
    "CancelJob",
    "Forget",
    "ListWorkers",
    "DrainWorker",
    "ReadLog",
)


def test_a_workers_damaged_messages_change_nothing(busy, strikes):
    with registered(busy) as session:
        for number, frame in enumerate(raw.golden(WORKER_WORDS).values()):
            for damaged in raw.mutations(session.around(frame), number, 60):
                session.peer.send(damaged)
                strikes.add("damaged message")
        session.peer.send(b"")
        session.peer.send(*[b"x"] * 100)
    ends_well(busy)


def test_a_worker_says_what_only_clients_may_and_nothing_happens(busy, strikes):
    with registered(busy) as session:
        for kind in CLIENT_WORDS:
            session.peer.send(session.around(raw.golden()[kind]))
            strikes.add(kind)
            session.say(messages.Accept(AttemptName(bytes(16), 0, 0, AttemptKey(1, 1))))  # heard after it
    ends_well(busy)


def test_a_worker_cannot_commit_or_fail_what_was_assigned_to_another(busy, strikes):
    done, failed = (raw.golden()[kind] for kind in ("Done", "Failed"))
    job = busy.only_job()
    with registered(busy) as session:
        for stage in range(2):
            for index in range(12):
                for number in range(1, 12):
                    for frame in (done, failed):
                        session.peer.send(
                            raw.about(session.around(frame), job, stage, index, (session.envelope[2], number))
                        )
                        strikes.add("forged")
    ends_well(busy)
    assert busy.history().workers(0) == {"w1"}


def test_pickles_in_every_field_are_loaded_by_nobody(busy, strikes):
    marker = busy.folder / "marker"
    blob = raw.pickle_that_marks(marker)
    with registered(busy) as session:
        for frame in raw.golden(WORKER_WORDS).values():
            for poisoned in raw.with_pickle_in_each_field(session.around(frame), blob):
                session.peer.send(poisoned)
                strikes.add("pickle to the workers' door")
    with raw.client_session(busy.address, eve(busy, "client")) as session:
        session.say(messages.ListWorkers())
        assert session.hear(messages.Workers)
        for frame in raw.golden(CLIENT_WORDS).values():
            for poisoned in raw.with_pickle_in_each_field(session.around(frame), blob):
                session.peer.send(poisoned)
                strikes.add("pickle to the clients' door")
    ends_well(busy)
    assert not marker.exists()


def at_home(busy, role):
    """Eve's connection to the door of her role, just made."""
    bundle = eve(busy, role)
    door = busy.address if role == "client" else addresses.for_workers(busy.address)
    return raw.RawPeer(door, server_key=bundle.master_key, pair=bundle.pair)


def test_frames_that_are_too_long_cut_their_sender_off_and_nobody_else(busy, strikes):
    for role in ("worker", "client"):
        with at_home(busy, role) as peer:
            assert peer.handshake() == "succeeded"
            peer.send(bytes(16 << 20))
            assert peer.handshake() == "disconnected"
            strikes.add(f"frame of 16 MiB from a {role}")
    ends_well(busy)


def test_a_message_that_does_not_end_stops_nobody(busy, strikes):
    with at_home(busy, "worker") as worker, at_home(busy, "client") as client:
        for peer in (worker, client):
            assert peer.handshake() == "succeeded"
            peer.send_endless(bytes(10_000), 2000)
            strikes.add("frame of an endless message", 2000)
        ends_well(busy)


def test_a_flood_of_good_messages_stops_nobody(busy, strikes):
    with registered(busy) as session:
        frame = session.around(raw.golden()["Accept"])
        strikes.add("message", sum(session.peer.send(frame) for _ in range(raw.FRAMES_MAX)))
    ends_well(busy)


def test_a_worker_that_takes_anothers_routing_id_is_itself(busy, strikes):
    bundle = eve(busy, "worker")
    for routing_id in (b"w1", b"\0" * 5, b"master"):
        door = addresses.for_workers(busy.address)
        with raw.RawPeer(door, server_key=bundle.master_key, pair=bundle.pair, routing_id=routing_id) as peer:
            peer.send(raw.golden()["Bye"])
            peer.handshake()
            strikes.add("routing id claimed")
    ends_well(busy)


@pytest.mark.faults
def test_400_idle_connections_delay_nobody_for_long(busy, strikes):
    doors = [DOORS[door](busy.address) for door in ("clients", "workers", "parts", "data")]
    open_ones = [raw.RawBytes(doors[number % 4]) for number in range(raw.CONNECTIONS_MAX)]
    strikes.add("idle connection", len(open_ones))
    ends_well(busy)
    for connection in open_ones:
        connection.close()


def test_a_worker_of_another_version_is_refused_with_both_versions_named(busy, strikes):
    other = msgspec.structs.replace(versions_here(), kernelmill="9.9.9")
    with raw.worker_session(busy.address, eve(busy, "worker")) as session:
        session.say(raw.hello(versions=other))
        refused = session.hear(messages.Refused)
        strikes.add("refused")
        assert refused.code == "VERSION"
        assert "9.9.9" in refused.text and versions_here().kernelmill in refused.text
    ends_well(busy)


def test_a_message_of_another_protocol_is_refused(busy, strikes):
    with raw.worker_session(busy.address, eve(busy, "worker")) as session:
        session.envelope[0] = messages.PROTOCOL + 1
        session.say(raw.hello())
        strikes.add("other protocol")
        assert session.hear(messages.Welcome, wait_s=1.0) is None
    ends_well(busy)


def test_a_key_that_is_taken_away_ends_its_session(busy, strikes):
    busy.start_worker("w2")
    busy.wait_workers("w1", "w2")
    keys_folder.remove(busy.keys, "w2")
    strikes.add("key removed")
    rigs.until(lambda: busy.workers() == ["w1"], "w2 is out", 5.0)
    ends_well(busy, but={"w2"})
