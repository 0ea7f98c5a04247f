"""Outputs of a cluster appear whole, as a local run writes them, wherever the storage process is killed in between."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from traveling import JOB, opened, packed, run_all, written

import kernelmill as km
from kernelmill.cluster.fields import AttemptKey, Count, OutputFile
from kernelmill.cluster.jobspec.parts import decode_plan, encode_plan
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage import gathering, publishing, staged
from kernelmill.cluster.storage.folders import made
from kernelmill.cluster.storage.frames import Clean, Cleaned, Publish, Published, PublishFailed, Winner, answers, encode
from kernelmill.cluster.storage.layout import (
    TAIL_BYTES,
    PlacedOutput,
    describe_file,
    read_parts,
    staging_of,
    tail_of,
    write_parts,
    write_rejects,
)
from kernelmill.cluster.storage.process import answer
from kernelmill.engine import durable
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.settings import Settings

SPLIT_BYTES = 2000
PARTS = [f"part-{n:05d}.parquet" for n in range(3)]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [b"the quick fox %d\n" % (n % 50) for n in range(400)]
    lines[100:200:50] = [b"not \xff utf-8\n", b"\xfe neither\n"]
    (folder / "in.txt").write_bytes(b"".join(lines))
    return folder


def split(line, emit):
    emit.count("lines", 1)
    for word in line.split():
        emit(word, 1)
    emit.to("lengths", len(line), 1)


LENGTHS = km.Output("sum", schema={"key": "int64", "value": "int64"})
WORDS = km.MapReduce(
    split, "sum", schema={"key": "string", "value": "int64"}, partitions=3, outputs={"lengths": LENGTHS}
)


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def for_folders(lines):
    """Rows for a few folders in folders, one of them of rows that every task has."""
    number = km.col("line").str.len_bytes()
    return lines.select("line", folder=km.when(number > 15).then(km.lit("a/b")).otherwise(km.lit(None)), n=number % 2)


class Prepared:
    """A job all of whose tasks have run; its output is not published yet."""

    def __init__(self, data, tmp_path, name="out", mode="error"):
        self.data, self.target = data, data / name
        lines = km.scan_text(str(data / "in.txt"), invalid="skip")
        if name.endswith(".parquet"):
            main, named = lines.group_by(n=km.col("line").str.len_bytes()).agg(km.len())._plan, ()
        else:
            main, named = (for_folders(lines)._plan, ()) if name == "lake" else WORDS._plans(lines._plan, "")
        columns = ("folder", "n") if name == "lake" else ()
        sink = SinkParquet(main, name, name.endswith(".parquet"), named=named, partition_by=columns)
        plan = plan_job(sink, split_bytes=SPLIT_BYTES)
        settings = Settings(progress="off", on_bad="reject")
        made = packed(None, data, plan=plan, output=name, mode=mode, settings=settings)
        parts = written(made, tmp_path / "parts")
        job = opened(made, parts, data)
        results, _ = run_all(job, tmp_path)
        winners, counters = [], {}
        for number, ((stage, task), result) in enumerate(results.items()):
            attempt, files = AttemptKey(1, number), []
            folder = job.attempt_folder(attempt)
            if result.part is not None:
                files.append(describe_file(folder, result.part.name, result.rows))
            if result.parts:
                files.append(write_parts(folder, result.parts))
            if result.rejects:
                os.makedirs(folder, exist_ok=True)
                files.append(write_rejects(folder, result.rejects))
            if files:
                winners.append(Winner(stage, task, attempt, tuple(files)))
            for one, n in result.counters.items():
                counters[one] = counters.get(one, 0) + n
        counts = tuple(Count(one, n) for one, n in counters.items())
        plan_path = os.path.join(parts, next(part.sha256.hex() for part in made.parts if part.role == "plan"))
        self.order = Publish(JOB, made.sheet, plan_path, tuple(winners), counts)
        self.roots = Roots({"data": data})

    def local(self, folder):
        """What a local run of the same writes."""
        folder.mkdir()
        lines = km.scan_text(str(self.data / "in.txt"), invalid="skip")
        options = {"split_size": SPLIT_BYTES, "on_bad": "reject", "progress": False}
        if self.target.name.endswith(".parquet"):
            frame = lines.group_by(n=km.col("line").str.len_bytes()).agg(km.len())
            frame.sink_parquet(str(folder / self.target.name), **options)
        elif self.target.name == "lake":
            for_folders(lines).sink_parquet(str(folder / "lake"), partition_by=["folder", "n"], **options)
        else:
            WORDS.run(lines, output=str(folder / self.target.name), **options)
        return files_in(folder)

    def published(self):
        found = files_in(self.data)
        return {name: data for name, data in found.items() if name != "in.txt" and not name.startswith(".")}

    def clean(self):
        return answer(Clean(JOB, self.order.sheet.output), self.roots)


@pytest.mark.parametrize("name", ["out", "out.parquet", "lake"])
def test_the_output_is_that_of_a_local_run(data, tmp_path, name):
    job = Prepared(data, tmp_path, name)
    made = answer(job.order, job.roots)
    assert isinstance(made, Published), made
    expected = job.local(tmp_path / "local")
    assert any("rejects" in one for one in expected)
    assert job.published() == expected
    assert answer(job.order, job.roots) == made  # and again, as by a master that did not hear
    assert job.clean() == Cleaned(JOB, "")
    assert job.published() == expected
    assert os.listdir(data) == [one for one in os.listdir(data) if not one.startswith(".")]
    assert job.clean() == Cleaned(JOB, "")


def copied(source, target):
    """Copy a folder, two names of one file being two names of one file there too."""
    first = {}

    def copy(one, other):
        number = os.stat(one).st_ino
        if number in first:
            os.link(first[number], other)
        else:
            first[number] = shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=copy)


class _KilledError(BaseException):
    """Stands for SIGKILL: nothing in between may catch it."""


REAL = {name: getattr(os, name) for name in ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "fsync")}


def die_after(monkeypatch, count):
    """Let this process die after so many effects on the file system; tells how many there were."""
    done = 0
    for name in REAL:

        def effect(*arguments, _real=REAL[name], **keywords):
            nonlocal done
            if done == count:
                raise _KilledError
            made = _real(*arguments, **keywords)
            done += 1
            return made

        monkeypatch.setattr(os, name, effect)

    def exchange(first, second):
        nonlocal done
        if done == count:
            raise _KilledError
        done += 1
        return durable.exchange(first, second)

    monkeypatch.setattr("kernelmill.cluster.storage.placing.exchange", exchange)
    return lambda: done


def with_outputs_named(job, tmp_path, names):
    """The order of a job whose client signed a plan with other names of its named outputs."""
    plan = decode_plan(Path(job.order.plan_path).read_bytes())
    named = tuple(msgspec.structs.replace(plan.named[0], name=name) for name in names)
    data = encode_plan(msgspec.structs.replace(plan, named=named))
    path = tmp_path / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    return msgspec.structs.replace(job.order, plan_path=str(path))


@pytest.mark.parametrize("names", [["../../../../ESCAPED"], ["{tmp}/ESCAPED"], [".."], ["_rejects"], [""], ["a", "a"]])
def test_a_named_output_of_a_forged_plan_leads_nowhere(data, tmp_path, names):
    job = Prepared(data, tmp_path)
    before = files_in(data)
    found = answer(with_outputs_named(job, tmp_path, [name.format(tmp=tmp_path) for name in names]), job.roots)
    assert isinstance(found, PublishFailed) and found.code == "PROTOCOL", found
    assert not (tmp_path / "ESCAPED").exists() and not job.target.exists()
    assert files_in(data).keys() - before.keys() <= {f".out.km-{JOB.hex()}/lock"}


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/tmp", "a\0b"])
def test_a_folder_of_the_output_has_one_name(tmp_path, name):
    with pytest.raises(KernelmillError) as caught, made(str(tmp_path), name):
        pass
    assert caught.value.code is Code.PROTOCOL
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_is_not_what_was_submitted_is_not_published(data, tmp_path):
    job = Prepared(data, tmp_path)
    plan = Path(job.order.plan_path)
    body = plan.read_bytes()
    plan.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    found = answer(job.order, job.roots)
    assert isinstance(found, PublishFailed) and found.code == Code.PART_DAMAGED.value.wire, found
    assert not job.target.exists()
    plan.write_bytes(body)
    assert isinstance(answer(job.order, job.roots), Published)


@pytest.mark.parametrize("name", ["out", "out.parquet", "lake"])
@pytest.mark.parametrize("mode", ["error", "overwrite"])
def test_publishing_goes_on_wherever_it_was_killed(data, tmp_path, monkeypatch, name, mode):
    before = Prepared(data, tmp_path / "old", name) if mode == "overwrite" else None
    if before is not None:
        with open(data / "in.txt", "ab") as file:
            file.write(b"more\n")
        assert isinstance(answer(before.order, before.roots), Published)
        assert before.clean().text == ""
        with open(data / "in.txt", "ab") as file:
            file.write(b"and more\n")
    old = {one: body for one, body in files_in(data).items() if one != "in.txt"}
    job = Prepared(data, tmp_path / "new", name, mode)
    new = job.local(tmp_path / "local")
    copied(data, tmp_path / "saved")
    for count in range(200):
        shutil.rmtree(data)
        copied(tmp_path / "saved", data)
        with monkeypatch.context() as patches:
            effects = die_after(patches, count)
            try:
                answer(job.order, job.roots)
            except _KilledError:
                is_over = False
            else:
                is_over = effects() < count
        seen = job.published()
        if name != "out.parquet":  # the one rename or exchange shows all or nothing; one file has its rejects beside it
            assert seen in (old, new), count
        if count % 3 == 0:  # a job that ends instead leaves the old output or the new one
            copied(data, tmp_path / f"aside{count}")
            assert job.clean().text == ""
            assert job.published() in (old, new), count
            shutil.rmtree(data)
            copied(tmp_path / f"aside{count}", data)
        assert isinstance(made := answer(job.order, job.roots), Published), made
        assert job.published() == new, count
        assert job.clean().text == ""
        assert job.published() == new, count
        if is_over:
            break
    assert is_over and count > 7


@pytest.mark.parametrize("harm", ["gone", "short", "tail", "link"])
def test_a_bad_file_of_a_winner_is_named(data, tmp_path, harm):
    job = Prepared(data, tmp_path)
    winner = next(one for one in job.order.winners if one.files[0].name == "part.parquet" and one.task == 1)
    path = Path(staging_of(str(job.target), JOB)) / "attempts" / str(winner.attempt) / "part.parquet"
    body = path.read_bytes()
    path.unlink()
    if harm == "short":
        path.write_bytes(body[:-1])
    elif harm == "tail":
        path.write_bytes(body[:-9] + b"x" + body[-8:])
    elif harm == "link":
        os.symlink(data / "in.txt", path)
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert (failed.code, failed.bad) == ("OUTPUT_LOST", (winner.stage, winner.task, winner.attempt))
    assert not job.target.exists()
    other = AttemptKey(2, 0)  # the task runs again, and its new file goes where the old one was
    folder = path.parent.parent / str(other)
    folder.mkdir()
    (folder / "part.parquet").write_bytes(body)
    winners = tuple(msgspec.structs.replace(one, attempt=other) if one == winner else one for one in job.order.winners)
    assert isinstance(answer(msgspec.structs.replace(job.order, winners=winners), job.roots), Published)
    assert job.published() == job.local(tmp_path / "local")


def test_a_bit_in_the_middle_of_a_part_is_noticed_where_that_is_wanted(data, tmp_path):
    job = Prepared(data, tmp_path)
    winner = next(one for one in job.order.winners if one.files[0].name == "part.parquet")
    path = Path(staging_of(str(job.target), JOB)) / "attempts" / str(winner.attempt) / "part.parquet"
    assert path.stat().st_size < TAIL_BYTES
    body = bytearray(path.read_bytes())
    whole = msgspec.structs.replace(winner.files[0], tail_xxh3=tail_of(str(path))[1])
    body[20] ^= 1
    path.write_bytes(body)
    # parts here are all tail: as of a part whose tail is as it was
    file = msgspec.structs.replace(whole, tail_xxh3=tail_of(str(path))[1])
    other = msgspec.structs.replace(winner, files=(file,))
    winners = tuple(other if one == winner else one for one in job.order.winners)
    order = msgspec.structs.replace(job.order, winners=winners)
    policy = msgspec.structs.replace(order.sheet.policy, verify_output="full")
    sheet = msgspec.structs.replace(order.sheet, policy=policy)
    failed = answer(msgspec.structs.replace(order, sheet=sheet), job.roots)
    assert failed.bad == (winner.stage, winner.task, winner.attempt)
    assert isinstance(answer(order, job.roots), Published)


def test_an_output_that_came_in_between_is_left_alone(data, tmp_path):
    job = Prepared(data, tmp_path)
    job.target.mkdir()
    (job.target / "mine.txt").write_text("mine")
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "OUTPUT_EXISTS"
    assert job.clean().text == ""
    assert job.published() == {"out/mine.txt": b"mine"}


def test_staging_that_was_removed_is_told(data, tmp_path):
    job = Prepared(data, tmp_path)
    shutil.rmtree(staging_of(str(job.target), JOB))
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "COMMIT"


@pytest.fixture
def precious(tmp_path):
    """A folder outside the roots, and what must still be in it afterwards."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "journal").write_text("of somebody else")
    yield folder
    assert "journal" in os.listdir(folder)
    assert not {"lock", "lengths", "_rejects", "_manifest.json", "part-00000.parquet"} & set(os.listdir(folder))


@pytest.mark.parametrize("where", ["final", "final/lengths", "final/_rejects", "attempts", "attempts/1", ""])
def test_a_link_in_place_of_a_folder_of_the_staging_is_refused_and_nothing_behind_it_is_touched(
    data, tmp_path, precious, where
):
    job = Prepared(data, tmp_path)
    staging = Path(staging_of(str(job.target), JOB))
    path = staging / where.replace("/1", f"/{job.order.winners[0].attempt}")
    if path.exists():  # the files are there, behind the link
        path.rename(precious / "moved")
        os.symlink(precious / "moved", path)
    else:
        path.parent.mkdir(exist_ok=True)
        os.symlink(precious, path)
    before = files_in(precious)
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed), failed
    assert (failed.code, failed.bad) == ("COMMIT", None)
    assert not job.target.exists()
    assert files_in(precious) == before
    job.clean()
    assert files_in(precious) == before


@pytest.mark.skipif(sys.platform != "linux", reason="open folders have names on Linux only")
def test_a_folder_that_becomes_a_link_while_it_is_filled_leads_nowhere_else(data, tmp_path, precious, monkeypatch):
    job = Prepared(data, tmp_path)
    final = Path(staging_of(str(job.target), JOB)) / "final"

    def swap(path, rejects):
        final.rename(final.parent / "aside")
        os.symlink(precious, final)
        return write(path, rejects)

    write = gathering._write_rejects
    monkeypatch.setattr(gathering, "_write_rejects", swap)
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "COMMIT"
    assert os.listdir(precious) == ["journal"]


def test_links_and_files_that_nobody_wrote_down_do_not_get_into_the_output(data, tmp_path, precious):
    job = Prepared(data, tmp_path)
    final = Path(staging_of(str(job.target), JOB)) / "final"
    final.mkdir()
    os.symlink(precious, final / "folder")
    os.symlink(precious / "journal", final / "file")
    assert isinstance(answer(job.order, job.roots), Published)
    assert sorted(os.listdir(job.target)) == ["_manifest.json", "_rejects", "lengths", *PARTS]


@pytest.fixture
def soon():
    """What waits for ever is a failure after some seconds."""

    def fail(*_):
        raise AssertionError("storage waits for something")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["manifest.json", "lock", "final/_manifest.json"])
def test_a_pipe_in_staging_does_not_keep_storage(data, tmp_path, soon, name):
    job = Prepared(data, tmp_path)
    path = Path(staging_of(str(job.target), JOB)) / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    assert isinstance(answer(job.order, job.roots), Published)
    assert job.published() == job.local(tmp_path / "local")


def forged(job, name, **fields):
    """The order with other fields in the records of all files of a name."""
    winners = tuple(
        msgspec.structs.replace(
            one,
            files=tuple(msgspec.structs.replace(each, **fields) if each.name == name else each for each in one.files),
        )
        for one in job.order.winners
    )
    return msgspec.structs.replace(job.order, winners=winners)


@pytest.mark.parametrize("rows", [(1 << 63) - 1, 1 << 62])
def test_records_that_claim_more_rows_than_can_be_end_their_job_only(data, tmp_path, rows):
    job = Prepared(data, tmp_path)
    failed = answer(forged(job, "part.parquet", rows=rows), job.roots)
    assert isinstance(failed, PublishFailed)
    assert (failed.code, failed.bad) == ("COMMIT", None)
    assert encode(failed)
    assert job.clean() == Cleaned(JOB, "")


@pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 50])
def test_a_size_that_rejected_records_cannot_have_is_not_asked_for(data, tmp_path, size):
    job = Prepared(data, tmp_path)
    failed = answer(forged(job, "rejects", size_bytes=size), job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "OUTPUT_LOST"


def test_an_error_that_nobody_foresaw_is_an_answer_and_so_is_a_root_that_is_not_there(data, tmp_path, monkeypatch):
    job = Prepared(data, tmp_path)

    def surprise(*_):
        raise ValueError("a surprise \udcff")

    monkeypatch.setattr(publishing, "decode_plan", surprise)
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "INTERNAL"
    assert encode(failed)
    elsewhere = answer(Clean(JOB, job.order.sheet.output), Roots({"other": data}))
    assert isinstance(elsewhere, Cleaned)
    assert "no root data" in elsewhere.text


def test_the_process_answers_and_ends_with_its_master(data, tmp_path):
    job = Prepared(data, tmp_path)
    ours, theirs = socket.socketpair()
    told = [str(theirs.fileno()), str(os.getpid()), f"data={data}"]
    command = [sys.executable, "-m", "kernelmill.cluster.storage", *told]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    ours.settimeout(30)
    ours.sendall(encode(job.order) + encode(Clean(JOB, job.order.sheet.output)))
    reader, found = answers(), []
    while len(found) < 2:
        found += reader.feed(ours.recv(1 << 16))
    assert [type(one) for one in found] == [Published, Cleaned]
    assert job.published() == job.local(tmp_path / "local")
    ours.close()
    assert child.wait(timeout=30) == 0


def test_the_process_dies_rather_than_unpickle(tmp_path):
    code = "import kernelmill.cluster.storage.process as p, pickle, sys; p.main(sys.argv[1:])"
    ours, theirs = socket.socketpair()
    hooked = f"import pickle, sys; sys.path[:0] = {sys.path!r}; {code}"
    unpickling = hooked.replace("p.main(", "p.orders = lambda: pickle.loads(pickle.dumps(print)); p.main(")
    command = [sys.executable, "-c", unpickling, str(theirs.fileno()), str(os.getpid())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    assert child.wait(timeout=30) == 70
    ours.close()


@pytest.fixture
def lock(data, tmp_path, monkeypatch):
    """A job the lock of whose staging somebody has, and that lock."""
    job = Prepared(data, tmp_path)
    monkeypatch.setattr(staged, "LOCK_S", 0.05)
    with open(Path(staging_of(str(job.target), JOB)) / "lock", "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield job, handle


def test_a_lock_that_somebody_keeps_is_told_of_and_the_next_order_goes_on(lock, soon):
    job, handle = lock
    failed = answer(job.order, job.roots)
    assert isinstance(failed, PublishFailed)
    assert failed.code == "OUTPUT_STUCK"
    assert "lock" in failed.text and "lock" in failed.hint
    assert "lock" in job.clean().text
    assert job.published() == {}
    fcntl.flock(handle, fcntl.LOCK_UN)
    assert isinstance(answer(job.order, job.roots), Published)


MASTER = """
import sys
import time
from pathlib import Path
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.storage.frames import orders

link = StorageLink([("data", sys.argv[1])])
link.order(*orders().feed(Path(sys.argv[2]).read_bytes()))
print(link._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_stopped_storage_process_ends_with_its_master_and_the_next_one_publishes(data, tmp_path):
    job = Prepared(data, tmp_path)
    (tmp_path / "order").write_bytes(encode(job.order))
    (tmp_path / "tokens").mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "KERNELMILL_FAILPOINTS": "storage.manifest.written=stop",
        "KERNELMILL_FAILPOINT_TOKENS": str(tmp_path / "tokens"),
    }
    command = [sys.executable, "-c", MASTER, str(data), str(tmp_path / "order")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as master:
        storage = int(master.stdout.readline())
        try:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "tokens").iterdir()):
                assert master.poll() is None and time.monotonic() < deadline
            assert isinstance(failed := answer(job.order, job.roots), PublishFailed)
            assert failed.code == "OUTPUT_STUCK"  # two never write at a time
            assert job.published() == {}
            master.kill()
            master.communicate()
            assert isinstance(answer(job.order, job.roots), Published)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(storage, signal.SIGKILL)
    assert job.published() == job.local(tmp_path / "local")


def test_files_that_an_attempt_says_are_elsewhere_are_no_parts(data, tmp_path):
    for name, folder in [("../../x.parquet", "a=1"), ("parts/0.parquet", "../a=1"), ("parts/0.parquet", "_rejects")]:
        told = [PlacedOutput(OutputFile(name, 1, 1, bytes(16), bytes(16)), folder)]
        body = msgspec.msgpack.encode(told)
        (tmp_path / "parts.list").write_bytes(body)
        expected = describe_file(str(tmp_path), "parts.list", 1)
        with pytest.raises(KernelmillError) as caught:
            read_parts(str(tmp_path / "parts.list"), expected)
        assert caught.value.code is Code.CORRUPT_BLOCK


@pytest.mark.parametrize("harm", ["list", "file", "link"])
def test_a_bad_file_among_several_of_a_winner_is_named(data, tmp_path, harm):
    job = Prepared(data, tmp_path, "lake")
    winner = next(one for one in job.order.winners if any(file.name == "parts.list" for file in one.files))
    folder = Path(staging_of(str(job.target), JOB)) / "attempts" / str(winner.attempt)
    if harm == "list":
        (folder / "parts.list").write_bytes(b"x" * (folder / "parts.list").stat().st_size)
    elif harm == "file":
        os.unlink(folder / "parts" / "00000.parquet")
    else:
        (folder / "parts").rename(tmp_path / "aside")
        (folder / "parts").symlink_to(tmp_path / "aside")
    found = answer(job.order, job.roots)
    assert isinstance(found, PublishFailed), found
    if harm != "link":
        assert (found.code, found.bad) == ("OUTPUT_LOST", (winner.stage, winner.task, winner.attempt))
    assert not job.target.exists()
