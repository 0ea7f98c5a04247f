"""A slot's store: the rows that maps wrote come back, from any of this host's workers; damage is never believed."""

import os
import random
import struct
import threading

import pyarrow as pa
import pytest
from blocks import PARTITIONS, SCHEMA, batch_of, reader, refs, rows_of, write_map

from kernelmill.cluster.data.attemptfiles import block_of_stream
from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.blockindex import OutputId, Piece, attempt_folder, encode_index, read_index
from kernelmill.cluster.data.store import BlockGoneError
from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.slotframes import BlockHere, MapHeld, SourceInputs
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.rowsums import RowSums, row_sums
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.block import encode_piece
from kernelmill.engine.shuffle.piecehead import head_sum_of

JOB = bytes(range(16))


def stem_of(scratch, worker, attempt):
    return os.path.join(attempt_folder(str(scratch), worker, JOB, attempt), "0")


@pytest.fixture
def maps(tmp_path):
    """Four maps on two workers of this host."""
    held = [(number, AttemptKey(1, 10 + number), f"w{number % 2}") for number in range(4)]
    made = [write_map(tmp_path, holder, number, attempt) for number, attempt, holder in held]
    return held, made


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_reader_gets_the_batches_that_the_maps_made_in_their_order(tmp_path, maps, partition):
    store, _, asked = reader(tmp_path, partition, maps[0], maps=4)
    found = [batch for ref in refs(4, partition) for batch in store.read(ref)]
    assert found == [batch for number in range(4) for batch in rows_of(number, partition)]
    assert store.schema(refs(4, partition)[0]) == SCHEMA and asked == []
    assert store.rows(iter(refs(4, partition))) == [
        (sum(b.num_rows for b in own), sum(b.nbytes for b in own))
        for own in (rows_of(number, partition) for number in range(4))
    ]


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_what_a_reader_consumed_adds_up_to_what_the_maps_said_they_made(tmp_path, maps, partition):
    store, _, _ = reader(tmp_path, partition, maps[0], maps=4)
    total, size = RowSums(), 0
    for data_bytes, vectors in maps[1]:
        own = [struct.unpack_from("<QQQQ", vectors, 32 * part) for part in range(PARTITIONS)]
        assert sum(length for length, *_ in own) == data_bytes and len(vectors) == 32 * PARTITIONS
        total, size = total.plus(RowSums(*own[partition][1:])), size + own[partition][0]
    rows = [batch for number in range(4) for batch in rows_of(number, partition)]
    expected = RowSums()
    for batch in rows:
        expected = expected.plus(row_sums(batch))
    assert store.consumed() == [(4, total)] and total == expected and (size > 0) == bool(rows)


def test_outputs_without_rows_are_not_looked_for_but_counted(tmp_path):
    held = [(0, AttemptKey(1, 10), "w0"), (9, AttemptKey(1, 19), "w0")]
    for number, attempt, holder in held:
        write_map(tmp_path, holder, number, attempt, rows=lambda *_: rows_of(1, 0))
    bits = bytes([0b11111110, 0b1])
    store, _, asked = reader(tmp_path, 0, held, maps=10, schema_of=lambda ref: SCHEMA, without_rows=bits)
    store.prefetch()
    assert store.schema(refs(10, 0)[5]) == SCHEMA
    assert [rows for rows, _ in store.rows(iter(refs(10, 0)))] == [7, *[0] * 8, 7]
    found = [batch for ref in refs(10, 0) for batch in store.read(ref)]
    assert found == rows_of(1, 0) * 2 and asked == []
    (consumed,) = store.consumed()
    assert (consumed.maps, consumed.sums.rows) == (10, 14)


def test_what_was_told_last_of_an_output_counts_for_attempts_that_begin_later(tmp_path):
    held = [(number, AttemptKey(1, 10 + number), "w0") for number in range(2)]
    for number, attempt, holder in held:
        write_map(tmp_path, holder, number, attempt, rows=lambda *_: rows_of(1, 0))
    store, desk, _ = reader(tmp_path, 0, held[:1], maps=2, schema_of=lambda ref: SCHEMA, without_rows=b"\x02")
    desk.take_inputs(SourceInputs(0, 0, ("w0",), (MapHeld(1, held[1][1], 0),)))  # as one that is told of alone
    assert [len(list(store.read(ref))) for ref in refs(2, 0)] == [1, 0]
    assert desk.without_rows(0) == set()
    desk.take_inputs(SourceInputs(0, 0, (), (), b"\x01"))
    assert desk.without_rows(0) == {0}


def test_another_process_of_the_slot_is_told_the_same_of_outputs(tmp_path):
    held = [(number, AttemptKey(1, 10 + number), f"w{number % 2}") for number in range(0, 20, 3)]
    _, desk, _ = reader(tmp_path, 0, held, maps=20, without_rows=bytes([0, 0b1010, 0b10]))
    desk.take_inputs(SourceInputs(0, 0, (), (), bytes([0b1, 0b1010])))  # 0 and 9 had rows before they were made again
    other = BlockDesk(lambda wanted: None)
    for frame in desk.known():
        other.take_inputs(frame)
    assert other.without_rows(0) == desk.without_rows(0) == {0, 9, 11}
    assert all(
        other.holding(BlockRef(0, task, 0)) == desk.holding(BlockRef(0, task, 0))
        for task in range(3, 20, 3)
        if task != 9
    )


def test_the_same_rows_in_another_order_have_the_same_checksums_and_other_rows_have_not(tmp_path):
    def backwards(map_task, partition):
        rows = [batch.take(list(range(batch.num_rows))[::-1]) for batch in rows_of(map_task, partition)]
        return rows[::-1]

    def other(map_task, partition):
        return [batch_of("other", batch.num_rows) for batch in rows_of(map_task, partition)]

    def vectors(attempt, rows):
        _, packed = write_map(tmp_path, "w0", 2, AttemptKey(1, attempt), rows=rows)
        return [struct.unpack_from("<QQQ", packed, 32 * part + 8) for part in range(PARTITIONS)]

    assert vectors(1, rows_of) == vectors(2, backwards) != vectors(3, other)


def test_a_folder_that_others_can_write_to_is_not_taken_for_a_worker_of_this_host(tmp_path, maps):
    fetched = []
    for spoil, mend in (
        (lambda path: path.chmod(0o777), lambda path: path.chmod(0o700)),
        (lambda path: path.rename(tmp_path / "x") and path.symlink_to("x"), lambda path: path.unlink()),
    ):
        spoil(tmp_path / "w0")
        store, _, asked = reader(tmp_path, 1, maps[0], maps=4)
        store.prefetch()
        fetched.append([(one.map_task, one.holder) for one in asked])
        mend(tmp_path / "w0")
    assert fetched == [[(0, "w0"), (2, "w0")]] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_taken_for_a_worker_of_this_host(tmp_path, maps):
    os.chown(tmp_path / "w0", 65534, 65534)
    store, _, asked = reader(tmp_path, 1, maps[0], maps=4)
    store.prefetch()
    assert [one.map_task for one in asked] == [0, 2]


def test_an_attempt_is_never_written_twice(tmp_path):
    write_map(tmp_path, "w0", 0, AttemptKey(1, 1))
    with pytest.raises(KernelmillError):
        write_map(tmp_path, "w0", 0, AttemptKey(1, 1))


def test_an_output_that_is_not_closed_leaves_nothing_that_can_be_read(tmp_path):
    def broken(map_task, partition):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_map(tmp_path, "w0", 0, AttemptKey(1, 1), rows=broken)
    assert os.listdir(attempt_folder(str(tmp_path), "w0", JOB, AttemptKey(1, 1))) == []


def test_a_block_of_another_attempt_gen_or_task_is_not_taken(tmp_path, maps):
    """Two attempts' folders swapped: the names fit, the ids within do not."""
    one, two = (attempt_folder(str(tmp_path), "w0", JOB, AttemptKey(1, number)) for number in (10, 12))
    os.rename(one, one + "x")
    os.rename(two, one)
    os.rename(one + "x", two)
    asked = []

    def ask(wanted):
        asked.append(wanted)
        desk.cancel()

    store, desk, _ = reader(tmp_path, 2, maps[0], maps=4, ask=ask)
    with pytest.raises(KernelmillError) as raised:
        list(store.read(refs(4, 2)[0]))
    assert raised.value.code is Code.CANCELLED
    assert [(wanted.map_task, wanted.code) for wanted in asked] == [(0, "CORRUPT_BLOCK")]


def refused_as(scratch, partition, held):
    """What a reader of map task 1 asks for, instead of giving a row."""
    asked = []

    def ask(wanted):
        asked.append(wanted.code)
        desk.cancel()

    store, desk, _ = reader(scratch, partition, held, maps=2, ask=ask)
    with pytest.raises(KernelmillError):
        list(store.read(refs(2, partition)[1]))
    return asked


def test_every_flipped_bit_is_found_before_a_wrong_row_is_given(tmp_path):
    held = [(1, AttemptKey(1, 1), "w0")]
    write_map(tmp_path, "w0", 1, AttemptKey(1, 1))
    stem, chance = stem_of(tmp_path, "w0", AttemptKey(1, 1)), random.Random(5)
    flips = 0
    pieces = [piece for part in range(PARTITIONS) for piece in read_index(stem + ".index").pieces(part)]
    for suffix, rounds in ((".index", 600), (".data", 1_400)):
        with open(stem + suffix, "rb") as file:
            intact = file.read()
        for _ in range(rounds):
            bit = chance.randrange(8 * len(intact))
            damaged = bytearray(intact)
            damaged[bit // 8] ^= 1 << bit % 8
            with open(stem + suffix, "wb") as file:
                file.write(damaged)
            touched = range(PARTITIONS)
            if suffix == ".data":
                owner = next(p for p in pieces if p.offset <= bit // 8 < p.offset + p.length)
                touched = [p for p in range(PARTITIONS) if owner in read_index(stem + ".index").pieces(p)]
            for partition in touched:
                assert refused_as(tmp_path, partition, held) == ["CORRUPT_BLOCK"]
                flips += 1
        with open(stem + suffix, "wb") as file:
            file.write(intact)
    assert flips >= 2_000


def test_a_block_that_is_not_on_this_host_is_waited_for_and_may_come_from_another_attempt(tmp_path):
    held = [(1, AttemptKey(1, 1), "far"), (2, AttemptKey(1, 2), "far")]
    for number, attempt, _ in held:
        write_map(tmp_path / "here", "near", number, AttemptKey(2, attempt.number))
    scratch = tmp_path / "here"
    store, desk, asked = reader(scratch, 0, held, maps=3)
    answers = [BlockHere(0, number, 0, 0, AttemptKey(2, number), "near", "", "") for number in (2, 1)]
    timer = threading.Timer(0.05, lambda: [desk.take_answer(answer) for answer in answers])
    desk.want(refs(3, 0)[1:])
    timer.start()
    assert [batch for ref in refs(3, 0)[1:] for batch in store.read(ref)] == rows_of(1, 0) + rows_of(2, 0)
    timer.join()
    assert [(wanted.map_task, wanted.holder, wanted.code) for wanted in asked] == [(1, "far", ""), (2, "far", "")]


def test_a_block_that_is_damaged_before_it_is_used_is_replaced_and_after_that_ends_the_attempt(tmp_path, maps):
    def damage(worker, attempt):
        stem = stem_of(tmp_path, worker, attempt)
        (piece,) = read_index(stem + ".index").pieces(2)
        with open(stem + ".data", "r+b") as file:
            file.seek(piece.offset + piece.length - 1)
            file.write(b"?")

    def ask(wanted):
        asked.append((wanted.attempt.number, wanted.code))
        desk.take_answer(BlockHere(0, 2, 0, 2, AttemptKey(1, 77), "w1", "", ""))

    asked, ref = [], refs(3, 2)[2]
    damage("w0", AttemptKey(1, 12))
    write_map(tmp_path, "w1", 2, AttemptKey(1, 77))
    store, desk, _ = reader(tmp_path, 2, [(2, AttemptKey(1, 12), "w0")], maps=3, ask=ask)
    assert list(store.read(ref)) == rows_of(2, 2) and asked == [(12, "CORRUPT_BLOCK")]
    damage("w1", AttemptKey(1, 77))
    with pytest.raises(BlockGoneError) as raised:
        list(store.read(ref))
    assert raised.value.failure == "CORRUPT_BLOCK" and asked[1:] == [(77, "CORRUPT_BLOCK")]


def test_a_reader_that_is_sent_to_another_host_asks_there(tmp_path):
    write_map(tmp_path, "near", 1, AttemptKey(3, 3))
    places = [(AttemptKey(2, 2), "farther"), (AttemptKey(3, 3), "near")]
    asked = []

    def ask(wanted):
        asked.append((wanted.attempt.number, wanted.holder, wanted.code))
        desk.take_answer(BlockHere(0, 1, 0, 0, *places.pop(0), "", ""))

    store, desk, _ = reader(tmp_path, 0, [(1, AttemptKey(1, 1), "far")], maps=2, ask=ask)
    assert list(store.read(refs(2, 0)[1])) == rows_of(1, 0)
    assert asked == [(1, "far", ""), (2, "farther", "")]


def test_a_block_of_another_host_whose_offsets_lie_is_refused(tmp_path):
    """All checksums are right: whoever made it made it so."""
    offsets = pa.array([0, 1 << 30, 5], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"hello")])
    bad = pa.RecordBatch.from_arrays([text, pa.array([1, 2])], schema=SCHEMA)
    stem, id_ = str(tmp_path / "0"), OutputId(JOB, 0, 0, 1, 0, AttemptKey(1, 1))
    piece = b"".join(map(bytes, encode_piece([bad])))
    place = Piece(0, len(piece), 2, 50, 0, 0, head_sum_of(piece))
    index = encode_index(id_, SCHEMA.serialize().to_pybytes(), [[place]])
    with open(stem, "wb") as file:
        file.write(index + piece)
    with pytest.raises(KernelmillError) as raised:
        list(block_of_stream(stem, id_, 0).batches())
    assert raised.value.code is Code.CORRUPT_BLOCK


def test_a_block_with_other_columns_than_the_plans_is_refused(tmp_path):
    attempt, asked = AttemptKey(1, 1), []
    write_map(tmp_path, "w0", 1, attempt)

    def ask(wanted):
        asked.append(wanted.code)
        desk.cancel()

    for schema, codes in ((SCHEMA, []), (pa.schema([("s", pa.string()), ("n", pa.int32())]), ["CORRUPT_BLOCK"])):
        store, desk, _ = reader(tmp_path, 0, [(1, attempt, "w0")], maps=2, ask=ask, schema_of=lambda _, s=schema: s)
        if codes:
            with pytest.raises(KernelmillError):
                list(store.read(refs(2, 0)[1]))
        else:
            assert list(store.read(refs(2, 0)[1])) == rows_of(1, 0)
        assert asked == codes
