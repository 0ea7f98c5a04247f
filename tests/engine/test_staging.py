"""All or nothing: what is refused at once, who wins a race, and what kill -9 leaves at every step."""

import errno
import os
import shutil
import signal
import subprocess
import threading
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from kernelmill.engine import durable
from kernelmill.engine.commit import PlacedFile, check, clean
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.plan.physical import ToParquet
from kernelmill.engine.staging import Staging

SCHEMA = pa.schema([("word", pa.string())])
REJECTS = pa.schema(
    {
        "file": pa.string(), "offset": pa.int64(), "line": pa.int64(),
        "record": pa.binary(), "reason": pa.string(), "code": pa.string(),
    }
)  # fmt: skip
STEPS = ("mkdir", "open", "rename", "replace", "link", "unlink", "rmdir", "fsync", "close")


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch):
    """Nothing here loses power: without waiting for the disk the steps are the same and 5 times as fast."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def write_part(path, word, schema=SCHEMA):
    with PartWriter(path, ToParquet("none", 1000, True, schema)) as writer:
        arrays = [pa.array([word] * 3).cast(field.type) for field in schema if field.type != pa.int64()]
        if schema is REJECTS:
            arrays = [arrays[0], pa.array([1, 2, 3]), pa.array([1, 2, 3]), *arrays[1:]]
        writer.write(pa.record_batch(arrays, schema=schema))
        return writer.close()


def write_placed(path, word):
    """Files of a task for a folder in a folder and for another one."""
    os.mkdir(path)
    placed = []
    for number, folder in enumerate(("a=1/b=x", "a=2")):
        made = write_part(os.path.join(path, f"{number}.parquet"), word)
        name = os.path.join(os.path.basename(path), made.name)
        placed.append(PlacedFile(name, made.rows, made.bytes, made.checksum, folder))
    return placed


def job(target, word, *, mode="error", rejects=False, before_publish=None):
    with Staging.open(target, mode=mode) as staging:
        path = staging.part_path(0, 3)
        parts = write_placed(path, word) if os.path.basename(target) == "lake" else [write_part(path, word)]
        rejected = [write_part(staging.reject_path(0, 3), word, REJECTS)] if rejects else []
        if before_publish:
            before_publish()
        reasons = {word: 3} if rejects else {}
        return staging.publish(parts, SCHEMA, rejects=reasons, reject_files=rejected)


def public(folder):
    """Everything under public names: path -> bytes."""
    folder = Path(folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: path.read_bytes() for name, path in sorted(named.items()) if ".km-staging" not in name}


def staging_left(folder):
    return [name for name in os.listdir(folder) if name.endswith(".km-staging")]


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


# What appears ------------------------------------------------------------------------------------------------------


def test_a_folder_holds_parts_rejects_and_manifest_and_nothing_hidden_is_left(tmp_path):
    manifest = job(tmp_path / "out", "a", rejects=True)
    assert list(public(tmp_path)) == [
        "out/_manifest.json",
        "out/_rejects/part-00000.parquet",
        "out/part-00000.parquet",
    ]
    assert manifest.rejects == {"a": 3}
    assert check(tmp_path / "out").ok
    assert os.listdir(tmp_path) == ["out"]


def test_a_single_file_has_its_rejects_beside_it(tmp_path):
    job(tmp_path / "out.parquet", "a", rejects=True)
    assert sorted(os.listdir(tmp_path)) == ["out.parquet", "out.rejects.parquet"]


def test_nothing_is_visible_before_publish(tmp_path):
    seen = []
    job(tmp_path / "out", "a", before_publish=lambda: seen.append(public(tmp_path)))
    assert seen == [{}]


def test_leaving_without_publish_leaves_nothing(tmp_path):
    with Staging.open(tmp_path / "out") as staging:
        write_part(staging.part_path(0, 0), "a")
    assert os.listdir(tmp_path) == []


def test_overwrite_replaces_folder_and_file(tmp_path):
    for name in ("out", "out.parquet"):
        job(tmp_path / name, "a", rejects=True)
        job(tmp_path / name, "b", mode="overwrite")
    fresh = tmp_path.with_suffix(".fresh")
    fresh.mkdir()
    for name in ("out", "out.parquet"):
        job(fresh / name, "b")
    assert public(tmp_path) == public(fresh)


def test_an_empty_folder_is_in_nobodys_way(tmp_path):
    (tmp_path / "out").mkdir()
    job(tmp_path / "out", "a")
    assert check(tmp_path / "out").ok


def test_an_output_that_is_a_link_is_written_where_it_leads(tmp_path):
    (tmp_path / "far").mkdir()
    job(tmp_path / "far" / "out", "a")
    (tmp_path / "near").symlink_to(tmp_path / "far" / "out")
    job(tmp_path / "near", "b", mode="overwrite")
    assert (tmp_path / "near").is_symlink()
    assert check(tmp_path / "far" / "out").ok


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_output_that_exists_is_refused_at_once(tmp_path, name):
    job(tmp_path / name, "a")
    before = public(tmp_path)
    assert code_of(lambda: Staging.open(tmp_path / name)) is Code.OUTPUT_EXISTS
    assert public(tmp_path) == before
    assert staging_left(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path, name):
    def somebody():
        (tmp_path / name).mkdir()
        (tmp_path / name / "theirs").touch()

    assert code_of(lambda: job(tmp_path / name, "a", before_publish=somebody)) is Code.OUTPUT_EXISTS
    assert list(public(tmp_path)) == [f"{name}/theirs"]
    assert staging_left(tmp_path) == []


def test_only_our_own_folders_are_overwritten(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    assert code_of(lambda: Staging.open(home, mode="overwrite")) is Code.COMMIT
    job(tmp_path / "out", "a")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert code_of(lambda: Staging.open(tmp_path / "out", mode="overwrite")) is Code.COMMIT
    (tmp_path / "out" / "notes.txt").rename(tmp_path / "out" / ".notes")
    job(tmp_path / "out", "b", mode="overwrite")


def test_the_wrong_kind_of_thing_is_not_overwritten(tmp_path):
    (tmp_path / "out").write_text("a file")
    (tmp_path / "out.parquet").mkdir()
    assert code_of(lambda: Staging.open(tmp_path / "out", mode="overwrite")) is Code.COMMIT
    assert code_of(lambda: Staging.open(tmp_path / "out.parquet", mode="overwrite")) is Code.COMMIT


@pytest.mark.parametrize("name", ["out.parquet", "out.rejects.parquet"])
def test_a_file_that_only_has_the_name_of_parquet_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert code_of(lambda: Staging.open(tmp_path / "out.parquet")) is Code.OUTPUT_EXISTS
    assert code_of(lambda: Staging.open(tmp_path / "out.parquet", mode="overwrite")) is Code.COMMIT


def test_a_missing_parent_an_unknown_mode_and_the_root_are_refused(tmp_path):
    assert code_of(lambda: Staging.open(tmp_path / "no" / "out")) is Code.COMMIT
    (tmp_path / "file").touch()
    assert code_of(lambda: Staging.open(tmp_path / "file" / "out")) is Code.COMMIT
    assert code_of(lambda: Staging.open(tmp_path / "out", mode="append")) is Code.BAD_SETTING
    assert code_of(lambda: Staging.open("/")) is Code.COMMIT


def test_a_folder_that_is_not_writable_is_refused(tmp_path):
    chattr = shutil.which("chattr")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    if os.geteuid() == 0 and (not chattr or subprocess.run([chattr, "+i", closed], capture_output=True).returncode):
        pytest.skip("root may write anywhere, and the file system has no immutable flag")
    try:
        assert code_of(lambda: Staging.open(closed / "out")) is Code.COMMIT
    finally:
        if os.geteuid() == 0:
            subprocess.run([chattr, "-i", closed], check=True)


# Races -------------------------------------------------------------------------------------------------------------


def test_a_second_job_is_told_that_the_output_is_busy(tmp_path):
    with Staging.open(tmp_path / "out"):
        assert code_of(lambda: Staging.open(tmp_path / "out")) is Code.OUTPUT_BUSY
        with Staging.open(tmp_path / "other"):
            pass
    job(tmp_path / "out", "a")


def in_child(work):
    """Run `work` in a forked process; its exit code, negative for the signal that killed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a process with threads: it only does files
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_of_many_at_once_one_wins_and_the_others_say_so(tmp_path):
    codes, guard = [], threading.Lock()
    start = threading.Barrier(8)

    def contend(word):
        start.wait()
        try:
            job(tmp_path / "out", word)
            code = None
        except KernelmillError as problem:
            code = problem.code
        with guard:
            codes.append(code)

    for _ in range(5):
        codes.clear()
        threads = [threading.Thread(target=contend, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes.count(None) == 1
        assert set(codes) <= {None, Code.OUTPUT_BUSY, Code.OUTPUT_EXISTS}
        assert check(tmp_path / "out").ok
        assert staging_left(tmp_path) == []
        shutil.rmtree(tmp_path / "out")


def test_of_two_processes_one_wins(tmp_path):
    opened, release = os.pipe(), os.pipe()

    def hold():
        with Staging.open(tmp_path / "out"):
            os.write(opened[1], b"x")
            os.read(release[0], 1)

    holder = threading.Thread(target=in_child, args=(hold,))
    holder.start()
    os.read(opened[0], 1)
    assert code_of(lambda: Staging.open(tmp_path / "out")) is Code.OUTPUT_BUSY
    os.write(release[1], b"x")
    holder.join()
    job(tmp_path / "out", "a")


# Kill -9 -----------------------------------------------------------------------------------------------------------


def die_at(step):
    """Make this process kill itself just before its `step`th call that changes files: just after the one before it."""
    seen = 0

    def deadly(call):
        def wrapped(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))
    durable._renameat2 = deadly(durable._renameat2)


CASES = [
    (name, mode, old_rejects, new_rejects, swap)
    for name in ("out", "out.parquet")
    for mode in ("error", "overwrite")
    for old_rejects, new_rejects in ([(False, True)] if mode == "error" else [(True, False), (True, True)])
    for swap in ([True, False] if (name, mode) == ("out", "overwrite") else [True])
]
CASES += [("lake", "error", False, True, True), ("lake", "overwrite", True, False, True)]


@pytest.mark.parametrize(("name", "mode", "old_rejects", "new_rejects", "swap"), CASES)
def test_kill_at_any_step_leaves_old_nothing_or_new(tmp_path, name, mode, old_rejects, new_rejects, swap, monkeypatch):
    if not swap:
        monkeypatch.setattr(durable, "_renameat2", lambda *args: False)
    wanted, parked = tmp_path / "wanted", tmp_path / "parked"
    wanted.mkdir()
    parked.mkdir()
    job(wanted / name, "new", rejects=new_rejects)
    if mode == "overwrite":
        job(parked / name, "old", rejects=old_rejects)
    old, new = public(parked), public(wanted)
    main = name if name == "out.parquet" else f"{name}/_manifest.json"
    step, ended, outcomes = 0, -signal.SIGKILL, set()
    while ended != 0:
        step += 1
        place = tmp_path / str(step)
        shutil.copytree(parked, place)

        def dies(place=place, step=step):
            die_at(step)
            job(place / name, "new", mode=mode, rejects=new_rejects)

        ended = in_child(dies)
        assert ended in (0, -signal.SIGKILL)
        assert public(place).get(main) in (old.get(main), new[main], None)
        clean(place)
        assert staging_left(place) == []
        assert public(place) in (old, new)
        outcomes.add(public(place) == new)
        job(place / name, "new", mode="overwrite", rejects=new_rejects)
        assert public(place) == new
        shutil.rmtree(place)
    assert outcomes == {True, False}
    assert step > 15


def test_the_next_job_itself_clears_what_a_dead_one_left(tmp_path):
    def dies():
        with Staging.open(tmp_path / "out") as staging:
            write_part(staging.part_path(0, 0), "dead")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(dies) == -signal.SIGKILL
    assert staging_left(tmp_path) == [".out.km-staging"]
    job(tmp_path / "out", "a")
    assert os.listdir(tmp_path) == ["out"]
    assert check(tmp_path / "out").ok


# A system that refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet", "lake"])
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, Code.DISK_FULL), (errno.EIO, Code.COMMIT)])
def test_any_call_of_publish_may_fail_and_the_old_output_stays(tmp_path, name, number, code, monkeypatch):
    job(tmp_path / name, "old")
    before = public(tmp_path)
    for refused in ("rename", "replace", "link", "fsync"):
        if name != "out.parquet" and refused in ("replace", "link"):
            continue

        def refuse(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        def publish(refused=refused, refuse=refuse):
            job(
                tmp_path / name, "new", mode="overwrite",
                before_publish=lambda: monkeypatch.setattr(os, refused, refuse),
            )  # fmt: skip

        assert code_of(publish) is code
        monkeypatch.undo()
        assert public(tmp_path) == before
        clean(tmp_path)
        assert staging_left(tmp_path) == []


def test_a_full_disk_is_a_typed_error_that_names_the_file(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with (
            pytest.raises(KernelmillError) as caught,
            Staging.open(small / "out") as staging,
            PartWriter(staging.part_path(0, 0), ToParquet("none", 1000, True, SCHEMA)) as writer,
        ):
            for number in range(1000):
                writer.write(pa.record_batch([[f"{number}-{row}" * 9 for row in range(1000)]], schema=SCHEMA))
        assert caught.value.code is Code.DISK_FULL
        assert str(small) in caught.value.where
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)
