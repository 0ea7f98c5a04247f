"""Where an output should lie, users' code has put something else: that is damage, at once, and never a wait."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from blocks import JOB, batch_of, reader, refs, rows_of, write_map

from kernelmill.cluster.data.attemptfiles import block_of_stream
from kernelmill.cluster.data.blockindex import OutputId, attempt_folder, job_folder
from kernelmill.cluster.data.packs import PackWriter
from kernelmill.cluster.data.serving import BlockFiles
from kernelmill.cluster.data.spool import SpooledFile, is_whole_block, is_whole_part
from kernelmill.cluster.fields import AttemptKey, JobPart
from kernelmill.cluster.keys.signing import ticket
from kernelmill.cluster.messages import BlockRange, Fetch
from kernelmill.cluster.openfiles import open_file, read_into, read_range
from kernelmill.cluster.worker.slotframes import BlockHere
from kernelmill.engine.errors import KernelmillError

KEY = b"t" * 32
ATTEMPT, OTHER = AttemptKey(1, 7), AttemptKey(1, 8)


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_link_to_a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def as_link_to_itself_elsewhere(path):
    path.symlink_to(path.rename(path.with_name("aside")))


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_a_tebibyte_of_nothing(path):
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


def cut_off(path):
    os.truncate(path, path.stat().st_size // 2)


TRICKS = [as_pipe, as_link_to_a_device, as_link_to_itself_elsewhere, as_folder, as_a_tebibyte_of_nothing, cut_off]


@pytest.fixture(autouse=True)
def soon():
    """What waits for ever is a failure, after more seconds than a busy machine takes."""

    def fail(*_):
        raise AssertionError("somebody waits for something")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def in_files(scratch):
    write_map(scratch, "w0", 2, ATTEMPT)
    return Path(attempt_folder(str(scratch), "w0", JOB, ATTEMPT))


def in_a_pack(scratch):
    folder = job_folder(str(scratch), "w0", JOB)
    pack = PackWriter(folder)
    write_map(scratch, "w0", 2, ATTEMPT, pack=pack)
    pack.close()
    return Path(folder) / "packs"


PLACES = [(in_files, "*.index"), (in_files, "*.data"), (in_a_pack, "*.list"), (in_a_pack, "*.pack")]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize(("write", "pattern"), PLACES)
def test_a_reader_of_this_host_gets_another_copy(tmp_path, write, pattern, trick):
    (path,) = write(tmp_path).glob(pattern)
    write_map(tmp_path, "w1", 2, OTHER)
    trick(path)
    asked, ref = [], refs(3, 2)[2]

    def ask(wanted):
        asked.append((wanted.attempt, wanted.code))
        desk.take_answer(BlockHere(0, 2, 0, 2, OTHER, "w1", "", ""))

    store, desk, _ = reader(tmp_path, 2, [(2, ATTEMPT, "w0")], maps=3, ask=ask)
    assert list(store.read(ref)) == rows_of(2, 2)
    # an output that no list names is not here: that is asked, like one on another host
    assert asked == [(ATTEMPT, "" if pattern == "*.list" else "CORRUPT_BLOCK")]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize(("write", "pattern"), PLACES)
@pytest.mark.parametrize("length", [1 << 20, 0])
def test_a_holder_serves_nothing_of_it(tmp_path, write, pattern, trick, length):
    (path,) = write(tmp_path).glob(pattern)
    trick(path)
    holder = BlockFiles(str(tmp_path), "w0", KEY)
    fetch = Fetch(1, ticket(KEY, JOB, 0, 0, 0, 2, "w9"), (BlockRange(JOB, 0, 0, 2, ATTEMPT, 0, 2, 0, length),))
    served = holder.answer(fetch, "w9")
    if length and pattern == "*.data" and trick is as_a_tebibyte_of_nothing:
        assert (served.status, len(served.body)) == ("OK", served.total)  # its reader checks it, and asks as below then
        return
    assert served.status == ("GONE" if pattern == "*.list" else "CORRUPT")
    assert served.body == b""


@pytest.mark.parametrize("trick", TRICKS)
def test_in_the_spool_and_among_parts_it_is_not_believed_either(tmp_path, trick):
    path = tmp_path / "spooled"
    path.write_bytes(b"x" * 100)
    trick(path)
    id_, part = OutputId(JOB, 0, 0, 0, 0, ATTEMPT), JobPart("code", bytes(32), 100)
    for is_whole in (lambda: is_whole_block(str(path), id_, 0), lambda: is_whole_part(str(path), part)):
        with contextlib.suppress(OSError):  # which its caller takes for missed
            assert not is_whole()
    with pytest.raises(KernelmillError):
        block_of_stream(str(path), id_, 0)


def test_what_is_fetched_is_not_written_through_a_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"of somebody else")
    (tmp_path / "1").symlink_to(precious)
    with pytest.raises(OSError):
        SpooledFile(str(tmp_path / "1")).write(memoryview(b"block"), 0)
    assert precious.read_bytes() == b"of somebody else"


def test_a_file_that_changes_while_it_is_read_gives_checked_rows_or_none(tmp_path):
    """Bytes are checked where they are decoded: in memory of this process, not in the file."""

    def rows(map_task, partition):
        return [batch_of(f"{partition}.{number}", 200_000) for number in range(3)]

    write_map(tmp_path, "w0", 2, ATTEMPT, rows=rows)
    store, _, _ = reader(tmp_path, 2, [(2, ATTEMPT, "w0")], maps=3)
    (path,) = Path(attempt_folder(str(tmp_path), "w0", JOB, ATTEMPT)).glob("*.data")
    batches = store.read(refs(3, 2)[2])
    first = next(batches)
    path.write_bytes(b"?" * path.stat().st_size)
    assert first == rows(2, 2)[0]


def test_a_range_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    handle = open_file(str(path))
    assert read_range(handle, 3, 4) == b"3456" and read_range(handle, 10, 0) == b""
    room = bytearray(4)
    read_into(handle, 6, memoryview(room))
    assert room == b"6789"
    for offset, length in ((7, 4), (0, 1 << 62), (11, 0)):
        with pytest.raises(OSError):
            read_range(handle, offset, length)
    with pytest.raises(OSError):
        read_into(handle, 8, memoryview(bytearray(4)))
    os.close(handle)
