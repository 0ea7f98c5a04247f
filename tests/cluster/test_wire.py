"""Messages as bytes: what comes out is what went in, or KM0607; the bytes of this version are frozen."""

import os
import pickle
import random
import tracemalloc
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as kinds
from shapes import parts_of, values_of

from kernelmill.cluster import messages as m
from kernelmill.cluster import wire
from kernelmill.cluster.fields import (
    AttemptKey,
    AttemptName,
    BlocksOutput,
    Consumed,
    Count,
    FilesOutput,
    JobPart,
    Origin,
    OutputFile,
    Place,
    Policy,
    Problem,
    Sheet,
    SheetEdge,
    SheetStage,
    TaskRecord,
    Versions,
)
from kernelmill.engine.errors import Code, KernelmillError, ProtocolError

GOLDEN = Path(__file__).with_name("golden_messages.txt")
LINKS = {
    wire.CLIENT_TO_MASTER: m.ClientToMaster,
    wire.MASTER_TO_CLIENT: m.MasterToClient,
    wire.WORKER_TO_MASTER: m.WorkerToMaster,
    wire.MASTER_TO_WORKER: m.MasterToWorker,
    wire.READER_TO_HOLDER: m.ReaderToHolder,
    wire.HOLDER_TO_READER: m.HolderToReader,
}


def members(union):
    return get_args(union) or (union,)


PAIRS = [(link, kind) for link, union in LINKS.items() for kind in members(union)]
KINDS = list(dict.fromkeys(kind for _, kind in PAIRS))


def name_of(one):
    return getattr(one, "name", None) or one.__name__


def around(body, **changed):
    fields = {
        "proto": m.PROTOCOL,
        "cluster": b"c" * 16,
        "epoch": 7,
        "life": b"l" * 8,
        "session": b"",
        "seq": 3,
        "ack": 2,
    }
    return m.Envelope(**{**fields, **changed}, body=body)


def envelopes(kind):
    fixed = {"proto": st.just(m.PROTOCOL), "body": values_of(kind)}
    parts = {
        "cluster": st.binary(min_size=16, max_size=16),
        "epoch": st.integers(0, 2**32 - 1),
        "life": st.binary(min_size=8, max_size=8),
        "session": st.sampled_from([b"", b"sessions"]),
        "seq": st.integers(0, 2**63 - 1),
        "ack": st.integers(0, 2**63 - 1),
    }
    return st.builds(m.Envelope, **fixed, **parts)


def decoded(link, frame):
    """The message in a frame, or None where there is none; any other error than KM0607 fails the test."""
    try:
        return link.decode(frame)
    except KernelmillError as problem:
        assert problem.code is Code.PROTOCOL
        return None


def refused(link, frame):
    with pytest.raises(KernelmillError) as caught:
        link.decode(frame)
    assert caught.value.code is Code.PROTOCOL
    return caught.value.what


NAME = AttemptName(b"j" * 16, 0, 0, AttemptKey(1, 2))
ACCEPT = around(m.Accept(NAME))


# Round trips and damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "kind"), PAIRS, ids=name_of)
@settings(max_examples=8)
@given(data=st.data())
def test_a_message_comes_out_as_it_went_in_and_no_prefix_of_it_does(link, kind, data):
    envelope = data.draw(envelopes(kind))
    frame = wire.encode(envelope)
    assert link.decode(frame) == envelope
    for length in range(min(len(frame), 600)):
        assert decoded(link, frame[:length]) is None
    assert decoded(link, frame + b"\0") is None


@pytest.mark.parametrize(("link", "kind"), PAIRS, ids=name_of)
@settings(max_examples=8)
@given(data=st.data())
def test_damaged_bytes_are_an_error_or_a_message_within_all_bounds(link, kind, data):
    frame = bytearray(wire.encode(data.draw(envelopes(kind))))
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(60):
        damaged = bytearray(frame)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        found = decoded(link, bytes(damaged))
        if (
            found is not None
        ):  # CURVE keeps frames whole; without it a flip may be another message, but only a valid one
            assert link.decode(wire.encode(found)) == found
            assert found.proto == m.PROTOCOL and type(found.body) in members(LINKS[link])


@given(st.binary(max_size=300))
def test_random_bytes_are_no_message(junk):
    for link in LINKS:
        assert decoded(link, junk) is None


@given(values_of(m.Beat), st.data())
def test_every_value_of_msgpack_in_every_place_is_an_error_or_a_message(beat, data):
    plain = msgspec.to_builtins(around(beat), builtin_types=(bytes,))
    odd = data.draw(st.sampled_from([None, True, 1.5, -1, 2**64 - 1, "x", b"x", [], {}, [[]] * 9, {"a": 1}]))
    holder = data.draw(st.sampled_from([plain, plain[-1]]))
    holder[data.draw(st.integers(0, len(holder) - 1))] = odd
    decoded(wire.WORKER_TO_MASTER, msgspec.msgpack.encode(plain))


def test_text_that_is_not_utf8_is_refused():
    frame = wire.encode(around(m.Refused(b"", "AUTH", "who?", "")))
    assert wire.MASTER_TO_CLIENT.decode(frame).body.text == "who?"
    refused(wire.MASTER_TO_CLIENT, frame.replace(b"who?", b"wh\xff?"))


@pytest.mark.parametrize(
    "head", ["dd ffffffff", "dd 7fffffff", "c6 ffffffff", "db ffffffff", "df ffffffff", "c9 ffffffff 01"]
)
def test_a_header_that_promises_much_takes_no_memory(head):
    start = wire.encode(around(m.Peers(1, ())))
    assert start[-1:] == b"\x90"  # the empty list of peers
    tracemalloc.start()
    try:
        refused(wire.MASTER_TO_WORKER, start[:-1] + bytes.fromhex(head))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_refused():
    refused(wire.WORKER_TO_MASTER, b"\x91" * 900_000)
    refused(wire.WORKER_TO_MASTER, wire.encode(ACCEPT)[:-4] + b"\x91" * 900_000)


def test_pickles_in_the_fields_of_what_a_master_says_to_clients_stay_texts_or_are_refused(tmp_path):
    marker = tmp_path / "marker"
    blob = pickle.dumps(Marking(str(marker)), protocol=0)
    kept = refused = 0
    for body in SAMPLES:
        frame = wire.encode(around(body))
        try:
            wire.MASTER_TO_CLIENT.decode(frame)
        except ProtocolError:
            continue  # it is none of these
        content = msgspec.msgpack.decode(frame)
        for path in leaves(content):
            for value in (blob, blob.decode()):
                try:
                    found = wire.MASTER_TO_CLIENT.decode(msgspec.msgpack.encode(with_leaf(content, path, value)))
                except ProtocolError:
                    refused += 1
                else:
                    kept += 1
                    assert repr(blob.decode()) in repr(found) or repr(blob) in repr(found)
    assert kept > 5 and refused > 100
    assert not marker.exists()
    pickle.loads(blob)
    assert marker.exists(), "the marker works"


class Marking:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def leaves(content, path=()):
    if isinstance(content, list):
        for number, inside in enumerate(content):
            yield from leaves(inside, (*path, number))
    else:
        yield path


def with_leaf(content, path, value):
    if not path:
        return value
    return [with_leaf(one, path[1:], value) if number == path[0] else one for number, one in enumerate(content)]


# Limits --------------------------------------------------------------------------------------------------------------


def test_a_frame_is_at_most_a_mebibyte_both_ways():
    holders = ("worker-1",)
    held = tuple(m.HeldMap(task, AttemptKey(2**32 - 1, 2**62 + task), 0, 2**63 - 1) for task in range(16384))
    page = m.Inputs(b"j" * 16, 1, 0, 1, 0, 1, holders, held, bytes(1 << 17))
    assert wire.MASTER_TO_WORKER.decode(wire.encode(around(page))).body == page
    # what a master sends fits with every bound reached; a worker's and a client's words may be too many
    row, ticket = Origin(2**20 - 1, 2**63 - 1, 2**63 - 1, b"k" * 16), m.Ticket(0, 0, "w" * 64, b"t" * 16)
    inputs = (m.InputVersion(2**16 - 1, 2**63 - 1),) * 64
    assign = m.Assign(NAME, 0, b"s" * 16, True, (row,) * 8192, inputs, (ticket,) * 4096)
    assert len(wire.encode(around(assign))) < wire.FRAME_BYTES_MAX
    many = m.Peers(1, tuple(m.Peer(f"w{i:063}", "e" * 256, b"k" * 40) for i in range(1024)))
    assert len(wire.encode(around(many))) < wire.FRAME_BYTES_MAX
    held = m.HeldAttempt(
        AttemptName(b"j" * 16, 2**16 - 1, 2**20 - 1, AttemptKey(2**32 - 1, 2**63 - 1)), 2**32 - 1, b"s" * 16
    )
    hello = m.Hello(VERSIONS, b"n" * 16, 1, 0, "h" * 256, 1, 1, 1, 1, b"k" * 32, 0, 1, (held,) * 4096, (held,) * 4096)
    assert len(wire.encode(around(hello))) < wire.FRAME_BYTES_MAX
    rows = tuple(m.LogRow("w" * 64, 0, 0, AttemptKey(1, 1), "€" * 1024) for _ in range(128))
    assert len(wire.encode(around(m.LogPage(JOB, 0, rows)))) < wire.FRAME_BYTES_MAX
    counts = tuple(Count("€" * 256, number) for number in range(1024))
    record = TaskRecord(counts, counts, BlocksOutput(1, b"v" * 32 * 16384), ())
    done = m.Done(NAME, 0, b"s" * 16, record, (), 0, 0, 0)
    with pytest.raises(KernelmillError) as caught:
        wire.encode(around(done))
    assert caught.value.code is Code.PROTOCOL and "Done" in caught.value.what
    assert "1048577 bytes" in refused(wire.WORKER_TO_MASTER, bytes(wire.FRAME_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "body",
    [
        m.Accept(AttemptName(b"j" * 16, 0, 0, AttemptKey(2**32, 1))),
        m.Accept(AttemptName(b"j" * 16, 0, 0, AttemptKey(1, -1))),
        m.Accept(AttemptName(b"j" * 15, 0, 0, AttemptKey(1, 1))),
        m.Failed(NAME, "lower case", "E", None, None, ()),
        m.Failed(NAME, "HUNG", "E", Problem("HUNG", "t" * 8193, "", ""), None, ()),
        m.Done(NAME, 0, b"s" * 15, TaskRecord((), (), FilesOutput(()), ()), (), 0, 0, 0),
        m.FetchFailed(NAME, AttemptName(b"j" * 16, 0, 1 << 20, AttemptKey(1, 1)), "HUNG"),
    ],
)  # fmt: skip
def test_values_outside_their_bounds_are_refused(body):
    refused(wire.WORKER_TO_MASTER, wire.encode(around(body)))


@pytest.mark.parametrize("name", ["", "../w", "W", "a b", "a\n", "-a", "a" * 65, "ä", "a/b", "."])
def test_a_peers_name_is_a_plain_word(name):
    refused(wire.MASTER_TO_WORKER, wire.encode(around(m.Peers(1, (m.Peer(name, "ipc://x", b"k" * 40),)))))


def test_every_type_is_bounded_and_none_is_recursive():
    for kind in KINDS:
        for part in parts_of(kinds.type_info(m.Envelope[kind])):  # a recursive type would not end
            match part:
                case kinds.IntType():
                    assert part.ge is not None and (part.le is not None or part.lt is not None), kind
                case kinds.BytesType() | kinds.VarTupleType():
                    assert part.max_length is not None, kind
                case kinds.StrType():
                    assert part.max_length is not None or part.pattern, kind
                case kinds.StructType():
                    assert part.array_like and part.forbid_unknown_fields, part.cls
                    assert all(field.required for field in part.fields), part.cls
                case kinds.AnyType() | kinds.RawType() | kinds.DictType() | kinds.ListType() | kinds.FloatType():
                    raise AssertionError(f"{kind} holds {part}")


def test_tags_are_used_once():
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags) and all(type(tag) is int for tag in tags)


# Directions and versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "kind"), PAIRS, ids=name_of)
@settings(max_examples=2)
@given(data=st.data())
def test_a_message_is_refused_in_a_direction_that_is_not_its_own(link, kind, data):
    frame = wire.encode(data.draw(envelopes(kind)))
    for other, union in LINKS.items():
        assert (decoded(other, frame) is not None) == (kind in members(union))


def test_another_version_is_named_whatever_follows():
    newer = msgspec.msgpack.encode([m.PROTOCOL + 1, "quite", {"another": "shape"}])
    for frame in (newer, wire.encode(around(ACCEPT.body, proto=m.PROTOCOL + 1))):
        said = refused(wire.WORKER_TO_MASTER, frame)
        assert f"protocol {m.PROTOCOL + 1}" in said and f"protocol {m.PROTOCOL}" in said


# Golden bytes --------------------------------------------------------------------------------------------------------

ATTEMPT = AttemptKey(7, 1234567890123)
JOB = bytes(range(16))
FULL_NAME = AttemptName(JOB, 2, 17, ATTEMPT)
VERSIONS = Versions("0.1.0", "3.11.7", "26.0.1", "0.68.1", "2.4.6")
SHEET = Sheet(
    (
        SheetStage("count words", 40, (8, 2), ()),
        SheetStage("write", 8, (), (SheetEdge(0, "hash", 0),)),
    ),
    Place("data", ("out", "counts")),
    Policy("reject", 1000, "error", "signed", "tail", 4, False),
    VERSIONS,
)
ORIGIN = Origin(0, 4096, 12, b"")
PARTS = (JobPart("code", b"p" * 32, 500),)
FILE = OutputFile("part-00017.parquet", 9, 999, b"x" * 16, b"y" * 16)
HELD = m.HeldAttempt(FULL_NAME, 1, b"s" * 16)
PROBLEM = Problem("FUNCTION_FAILED", "ValueError: no number", "job.py:12", "look at the record")
SAMPLES = [
    m.Submit(JOB, SHEET, PARTS, b"S" * 32, 1_800_000_000),
    m.PutPart(JOB, b"p" * 32, 256, b"piece"),
    m.Need(JOB, b"p" * 32, 256),
    m.Accepted(JOB, "RUNNING"),
    m.Refused(b"", "VERSION", "0.1.0 here, 0.2.0 there", "install one of them"),
    m.Status(
        JOB, "ann", "PAUSED", (m.StageCounts("count words", 40, 3, 2, 1, 99, 1 << 33),), 4,
        "NO_WORKERS", "none for 60 s",
    ),
    m.Result(JOB, "COMMITTED", "", None, Place("data", ("out",)), 9, 999, b"M" * 16, (Count("lines", 12),), ()),
    m.Result(JOB, "FAILED", "USER_ERROR", PROBLEM, Place("data", ("out",)), 0, 0, b"", (), ()),
    m.Watch(JOB),
    m.ListJobs(True, 0),
    m.Jobs(0, 1, (m.JobRow(JOB, "ann", "FAILED", 48, 40, "data:/out", "USER_ERROR"),)),
    m.CancelJob(JOB),
    m.Forget(JOB),
    m.ListWorkers(),
    m.Workers((m.WorkerRow("worker-1", "REGISTERED", "host-1", 2, 1, 1 << 33, 1 << 29, 1 << 39),)),
    m.DrainWorker("worker-1"),
    m.Granted(JOB),
    m.ReadLog(JOB, 5),
    m.LogPage(JOB, 5, (m.LogRow("worker-1", 2, 17, ATTEMPT, "hello"),)),
    m.Hello(VERSIONS, b"n" * 16, 1, 6, "host-1", 5003, 2, 1 << 33, 1 << 40, b"k" * 32, 0, 1, (HELD,), (HELD,)),
    m.Welcome(1, 0, 1, (FULL_NAME,), (), (FULL_NAME,)),
    m.Peers(4, (m.Peer("worker-1", "tcp://10.0.0.1:5003", b"K" * 40),)),
    m.Spec(JOB, SHEET, PARTS, b"S" * 32, 1_800_000_000),
    m.Assign(
        FULL_NAME, 1, b"s" * 16, False, (ORIGIN,), (m.InputVersion(1, 3),), (m.Ticket(1, 0, "worker-1", b"t" * 16),)
    ),
    m.Inputs(JOB, 2, 1, 3, 0, 1, ("worker-1",), (m.HeldMap(5, ATTEMPT, 0, 1 << 30),), b"\x13"),
    m.Pair(JOB, 2, 1, m.HeldMap(5, ATTEMPT, 0, 1 << 30), "worker-1", b"t" * 16),
    m.Tickets(FULL_NAME, (m.Ticket(1, 0, "worker-1", b"t" * 16),)),
    m.Accept(FULL_NAME),
    m.Failed(FULL_NAME, "USER_ERROR", "ValueError", PROBLEM, 3, (ORIGIN,)),
    m.FetchFailed(FULL_NAME, AttemptName(JOB, 1, 5, AttemptKey(6, 1)), "CORRUPT_BLOCK"),
    m.Beat((m.Progress(JOB, ATTEMPT, "run", 3, 65536, 1 << 22),), (JOB,), 1 << 29, 1 << 39),
    m.Heard(),
    m.Done(
        FULL_NAME, 1, b"s" * 16,
        TaskRecord((Count("lines", 12),), (Count("cast", 1),), BlocksOutput(4096, b"v" * 64), (FILE,)),
        (Consumed(40, 99, b"+" * 8, b"^" * 8),), 99, 4096, 1234,
    ),
    m.Done(FULL_NAME, 1, b"s" * 16, TaskRecord((), (), FilesOutput((FILE,)), ()), (), 9, 999, 1234),
    m.CommitAck(FULL_NAME),
    m.Discard(FULL_NAME),
    m.CancelAttempt(FULL_NAME),
    m.Drop(JOB),
    m.Drain(True),
    m.WantDrain(),
    m.Bye(),
    m.Lines(FULL_NAME, ("hello",)),
    m.Fetch(9, b"t" * 16, (m.BlockRange(JOB, 2, 1, 5, ATTEMPT, 0, 7, 0, 1 << 20), m.PartRange(b"p" * 32, 0, 500))),
    m.Chunk(9, "OK", 1 << 20, 1 << 30),
]  # fmt: skip


def golden_text():
    """The text of golden_messages.txt: write it anew only together with a new PROTOCOL."""
    lines = [f"protocol {m.PROTOCOL}"]
    lines += [f"{type(body).__name__} {wire.encode(around(body, session=b'sessions')).hex()}" for body in SAMPLES]
    return "\n".join(lines) + "\n"


def test_the_bytes_of_this_version_are_frozen():
    assert {type(body) for body in SAMPLES} == set(KINDS)
    assert golden_text() == GOLDEN.read_text()


def test_the_frozen_bytes_are_read_as_what_they_were_made_from():
    frames = [bytes.fromhex(line.split()[1]) for line in GOLDEN.read_text().splitlines()[1:]]
    for body, frame in zip(SAMPLES, frames, strict=True):
        links = [link for link, union in LINKS.items() if type(body) in members(union)]
        assert links and all(link.decode(frame) == around(body, session=b"sessions") for link in links)
