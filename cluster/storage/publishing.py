"""Publishing a job's output from the files of its winners: steps 6 to 9 and 11 of the commit, each of which may be the
last one of a process and the first one of the next.

What is there tells how far an earlier process came: a winner's file lies in its attempt's folder or in `final`; the
manifest is in staging as soon as all files are in `final`; `final` is gone, or holds what was exchanged for it, once
the output is public. Two processes never publish one job at a time: flock on staging, which a dead process gives up;
who cannot get it within LOCK_S says so, and is ordered again later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence

import msgspec
import xxhash

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import COUNT_MAX, Counts, OutputFile
from kernelmill.cluster.jobspec.parts import PlanPart, decode_plan
from kernelmill.cluster.openfiles import open_file
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage.folders import held, made
from kernelmill.cluster.storage.frames import Clean, Cleaned, Publish, Published, Winner
from kernelmill.cluster.storage.layout import (
    ATTEMPTS,
    FINAL,
    MANIFEST,
    REJECTS_NAME,
    read_rejects,
    staging_of,
    tail_of,
    trash_of,
)
from kernelmill.engine.commit import (
    MANIFEST_NAME,
    REJECTS_FOLDER,
    Manifest,
    PartFile,
    checksum_of,
    decode_manifest,
    encode_manifest,
)
from kernelmill.engine.durable import exchange, fsync_folder, link_new, output_errors
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.ids import TaskId
from kernelmill.engine.io.context import Reject
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.io.rejects import REJECT_SCHEMA, RejectWriter
from kernelmill.engine.leftovers import (
    OLD,
    OLD_REJECTS,
    REJECTS,
    SINGLE,
    is_single,
    rejects_path,
    same_file,
    undo_single,
)
from kernelmill.engine.plan.physical import ToParquet
from kernelmill.engine.staging import check_target, exists_error, manifest_of, write_durably

LOCK_S = 0.5
"""How long a lock of staging that another process has is waited for."""
_LOCK = "lock"
_LOCK_POLL_S = 0.02
_DIGEST_BYTES = 16
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_OURS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}
_PART_NAMES = {"part.parquet": ".parquet", "part.arrow": ".arrow", "part.json": ".json"}


class BadPartError(Exception):
    """A winner's file is missing, or is not what its record says: its task must run again."""

    def __init__(self, winner: Winner, what: str) -> None:
        super().__init__(what)
        self.winner = winner


def publish(order: Publish, roots: Roots) -> Published:
    """Put the winners' files under the job's public name, or find that they are there.

    Raises BadPartError, or KM0501, KM0502, KM0402, KM0503, KM0607, KM0610, KM0618: then
    nothing has changed under the public name.
    """
    target = roots.path_of(order.sheet.output)
    with _locked(staging_of(target, order.job)) as staging, output_errors("publishing the output", target):
        noted = _noted(os.path.join(staging, MANIFEST))
        if noted is None:
            noted = _prepare(order, _plan_of(order), target, staging)
            _write_again(os.path.join(staging, MANIFEST), noted + xxhash.xxh3_128_digest(noted))
            fsync_folder(staging)
        failpoint("storage.manifest.written")
        mode = order.sheet.policy.mode
        if is_single(target):
            _place_single(staging, target, mode)
        elif not _is_public(staging, target, noted):
            _place_folder(staging, target, mode, noted)
        fsync_folder(os.path.dirname(target))
        failpoint("storage.published")
    manifest = decode_manifest(noted)
    return Published(order.job, manifest.rows, manifest.bytes, xxhash.xxh3_128_digest(noted))


def clean(order: Clean, roots: Roots) -> Cleaned:
    """Remove a job's staging. What an unfinished publication left is undone first; an output that is public stays."""
    target = roots.path_of(order.sheet.output)
    try:
        remove_staging(target, order.job)
        return Cleaned(order.job, "")
    except (OSError, KernelmillError) as problem:
        return Cleaned(order.job, f"{staging_of(target, order.job)}: {problem}"[:8192])


def remove_staging(target: str, job: bytes) -> None:
    """Undo what an unfinished publication left at `target`, and remove the job's staging, as far as it is there.

    Raises OSError, KM0502 for staging that is none, KM0610 where another process keeps its lock.
    """
    staging = staging_of(target, job)
    trash = trash_of(staging)
    if os.path.lexists(staging):
        with _locked(staging) as folder:
            if is_single(target):
                undo_single(folder, target)
            elif os.path.lexists(os.path.join(folder, OLD)) and not os.path.lexists(target):
                os.rename(os.path.join(folder, OLD), target)
            os.rename(staging, trash)  # from here on nobody finds a place to write in
    if os.path.lexists(trash):
        shutil.rmtree(trash, onerror=_if_there)


def _plan_of(order: Publish) -> PlanPart:
    """The job's plan, from the file that is named by its SHA-256. Raises KM0618 if that file is not what was signed."""
    with open(order.plan_path, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != os.path.basename(order.plan_path):
        what = "the job's plan, in the master's state, is not what was submitted"
        raise error(Code.PART_DAMAGED, what, where=order.plan_path, hint="look at that disk, and run the job again")
    return decode_plan(data)


# Files ---------------------------------------------------------------------------------------------------------------


def _prepare(order: Publish, plan: PlanPart, target: str, staging: str) -> bytes:
    """Bring all files to their names in `final`, or the one file to `single.parquet`; the manifest's bytes."""
    rejects = _rejects_of(order, staging)
    if is_single(target):
        return _prepare_single(order, plan, rejects, target, staging)
    with made(staging, FINAL) as final:
        files = [
            _moved_stage(order, plan, stage, staging, final, name, target)
            for name, stage in [("", len(plan.stages) - 1), *((one.name, one.stage) for one in plan.named)]
        ]
        reject_files = []
        if rejects.rows:
            with made(final, REJECTS_FOLDER) as folder:
                one = _write_rejects(os.path.join(folder, "part-00000.parquet"), rejects)
                reject_files = [msgspec.structs.replace(one, name=os.path.join(REJECTS_FOLDER, one.name))]
                fsync_folder(folder)
        named = [(one.name, parts, one.schema) for one, parts in zip(plan.named, files[1:], strict=True)]
        told = _counters(order.counters), rejects.by_reason(), reject_files
        manifest = _bounded(manifest_of(files[0], plan.schema, *told, named))
        _remove_strangers(final, manifest)
        data = encode_manifest(manifest)
        _write_again(os.path.join(final, MANIFEST_NAME), data)
        fsync_folder(final)
        return data


def _moved_stage(
    order: Publish, plan: PlanPart, stage: int, staging: str, final: str, name: str, target: str
) -> list[PartFile]:
    """Bring the files of a stage into `final`, or the folder `name` in it."""
    with made(final, name) if name else contextlib.nullcontext(final) as folder:
        files = []
        for winner, file in _parts_of(order.winners, stage):
            part = f"part-{winner.task:05d}{_PART_NAMES[file.name]}"
            moved = _moved(order, winner, file, staging, os.path.join(folder, part))
            files.append(msgspec.structs.replace(moved, name=os.path.join(name, part)))
        if name:
            fsync_folder(folder)
    if len(files) != plan.stages[stage].tasks:
        what = f"{len(files)} files of {plan.stages[stage].tasks} tasks were committed"
        raise error(Code.INTERNAL, what, where=target)
    return files


def _bounded(manifest: Manifest) -> Manifest:
    """The manifest, if what it adds up to can be told. Raises KM0502: a task's process has told what cannot be."""
    if max(manifest.rows, manifest.bytes) > COUNT_MAX:
        what = f"the records of the parts say {manifest.rows} rows and {manifest.bytes} bytes: they cannot be true"
        raise error(Code.COMMIT, what, hint="something in the tasks' processes forges their records")
    return manifest


def _prepare_single(order: Publish, plan: PlanPart, rejects: RejectWriter, target: str, staging: str) -> bytes:
    pairs = list(_parts_of(order.winners, len(plan.stages) - 1))
    if len(pairs) != 1:
        raise error(Code.INTERNAL, f"an output that is one file was given {len(pairs)} parts", where=target)
    part = _moved(order, *pairs[0], staging, os.path.join(staging, SINGLE))
    files = [msgspec.structs.replace(part, name=os.path.basename(target))]
    rejected: list[PartFile] = []
    if rejects.rows:
        one = _write_rejects(os.path.join(staging, REJECTS), rejects)
        rejected = [msgspec.structs.replace(one, name=os.path.basename(rejects_path(target)))]
    told = _counters(order.counters), rejects.by_reason(), rejected
    return encode_manifest(_bounded(manifest_of(files, plan.schema, *told)))


def _parts_of(winners: Sequence[Winner], stage: int) -> Iterator[tuple[Winner, OutputFile]]:
    """The part files of a stage, in the order of its tasks."""
    for winner in sorted((one for one in winners if one.stage == stage), key=lambda one: one.task):
        for file in winner.files:
            if file.name in _PART_NAMES:
                yield winner, file


@contextlib.contextmanager
def _attempt(winner: Winner, file: OutputFile, staging: str) -> Iterator[tuple[str, str]]:
    """The path of a winner's file in its attempt's folder, and its name for people. BadPartError for what is gone."""
    shown = os.path.join(ATTEMPTS, str(winner.attempt), file.name)
    try:
        with (
            held(os.path.join(staging, ATTEMPTS)) as attempts,
            held(os.path.join(attempts, str(winner.attempt))) as folder,
        ):
            yield os.path.join(folder, file.name), shown
    except FileNotFoundError:
        raise BadPartError(winner, f"{shown} is not there") from None


def _moved(order: Publish, winner: Winner, file: OutputFile, staging: str, there: str) -> PartFile:
    """Give a winner's file the name `there`, if it has not got it already. Raises BadPartError."""
    with _attempt(winner, file, staging) as (source, shown):
        is_there = os.path.lexists(source)
        is_full = order.sheet.policy.verify_output == "full"
        _check(winner, file, source if is_there else there, shown, is_full=is_full)
        if is_there:
            os.replace(source, there)
            failpoint("storage.part.renamed")
    return PartFile(os.path.basename(there), file.rows, file.size_bytes, file.xxh3.hex())


def _check(winner: Winner, file: OutputFile, path: str, shown: str, *, is_full: bool) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise BadPartError(winner, f"{shown} is no file")
    size, tail = tail_of(path)
    checksum = checksum_of(path)[1] if is_full else file.xxh3.hex()
    if size != file.size_bytes:
        raise BadPartError(winner, f"{shown} has {size} bytes, its record says {file.size_bytes}")
    if tail != file.tail_xxh3:
        raise BadPartError(winner, f"the last bytes of {shown} are not those of its record")
    if checksum != file.xxh3.hex():
        raise BadPartError(winner, f"the bytes of {shown} are not those of its record")


def _rejects_of(order: Publish, staging: str) -> RejectWriter:
    """The rejected records of all winners. Raises BadPartError, and KM0503 where there are too many."""
    rejects = RejectWriter(order.sheet.policy.rejects_max)
    for winner in order.winners:
        for file in winner.files:
            if file.name == REJECTS_NAME:
                rejects.add(TaskId(winner.stage, winner.task), _records(winner, file, staging))
    return rejects


def _records(winner: Winner, file: OutputFile, staging: str) -> list[Reject]:
    with _attempt(winner, file, staging) as (path, shown):
        try:
            return read_rejects(path, file)
        except (KernelmillError, msgspec.DecodeError) as problem:
            raise BadPartError(winner, f"{shown}: {problem}") from problem


def _write_rejects(path: str, rejects: RejectWriter) -> PartFile:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # an earlier process's, perhaps half of it
    with PartWriter(path, ToParquet("zstd", 1 << 16, True, REJECT_SCHEMA)) as writer:
        for batch in rejects.table().to_batches():
            writer.write(batch)
        return writer.close()


def _remove_strangers(final: str, manifest: Manifest) -> None:
    """Delete what earlier attempts at publishing left that is not in the manifest, such as rejects that are no more."""
    top = os.open(final, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder, folders, names, handle in os.fwalk(os.curdir, dir_fd=top):
            links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)]
            for name in [*names, *links]:
                if os.path.normpath(os.path.join(folder, name)) not in manifest.names:
                    os.unlink(name, dir_fd=handle)
    finally:
        os.close(top)
    if not manifest.reject_files and os.path.isdir(os.path.join(final, REJECTS_FOLDER)):
        os.rmdir(os.path.join(final, REJECTS_FOLDER))


def _counters(counts: Counts) -> dict[str, int]:
    return {one.name: one.count for one in sorted(counts, key=lambda one: one.name)}


# Names ---------------------------------------------------------------------------------------------------------------


def _is_public(staging: str, target: str, noted: bytes) -> bool:
    """Whether the folder is in place: its manifest is there, and `final` is gone or holds what was there before."""
    final = _read(os.path.join(staging, FINAL, MANIFEST_NAME))
    return _read(os.path.join(target, MANIFEST_NAME)) == noted and final != noted


def _place_folder(staging: str, target: str, mode: str, noted: bytes) -> None:
    check_target(target, "overwrite" if mode == "overwrite" else "error")
    final = os.path.join(staging, FINAL)
    with held(final) as folder:  # what is renamed below is a folder, rather than a link to somewhere
        if _read(os.path.join(folder, MANIFEST_NAME)) != noted:  # damaged since an earlier process wrote it
            _write_again(os.path.join(folder, MANIFEST_NAME), noted)
            fsync_folder(folder)
    if mode == "overwrite" and os.path.lexists(target):
        if exchange(final, target):
            return
        os.rename(target, os.path.join(staging, OLD))
    try:
        os.rename(final, target)
    except OSError as problem:
        if problem.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise exists_error(target) from problem
        raise


def _place_single(staging: str, target: str, mode: str) -> None:
    single, mine = os.path.join(staging, SINGLE), os.path.join(staging, REJECTS)
    public, before = rejects_path(target), os.path.join(staging, OLD_REJECTS)
    has_rejects = os.path.lexists(mine)
    if not same_file(single, target):
        if not same_file(mine, public):
            check_target(target, "overwrite" if mode == "overwrite" else "error")
            if mode == "overwrite" and os.path.lexists(public) and not os.path.lexists(before):
                os.link(public, before)
            if has_rejects:
                _place_file(mine, public, mode)
        _place_file(single, target, mode)
    if not has_rejects and same_file(before, public):
        os.unlink(public)  # the rejects of the output that has just been replaced


def _place_file(source: str, public: str, mode: str) -> None:
    """Give a staged file its public name, keeping the staged one, which says that it was done."""
    if mode == "error":
        try:
            link_new(source, public)
        except FileExistsError as problem:
            raise exists_error(public) from problem
        return
    second = source + ".public"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(second)
    link_new(source, second)
    os.replace(second, public)


# The file system -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(staging: str) -> Iterator[str]:
    """Hold the staging and its lock: a path of it, see `held`.

    Raises KM0502 if staging is gone or no folder, KM0610 if another process has the lock and keeps it.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(held(staging))
            handle = os.open(os.path.join(folder, _LOCK), _LOCK_FLAGS, 0o644)
        except KernelmillError:
            raise
        except OSError as problem:
            what = f"the job's staging folder cannot be used: {os.strerror(problem.errno or 0)}"
            raise error(Code.COMMIT, what, where=staging, hint="somebody removed it: run the job again") from problem
        stack.callback(os.close, handle)
        _lock(handle, staging)
        yield folder


def _lock(handle: int, staging: str) -> None:
    """Take the lock, waiting a little while for one who is about to end: other jobs wait with this one.

    Who has it longer may be stopped, or stand in a file server's call, and go on writing at any time: nobody else may
    publish before its process has ended.
    """
    until_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                break
        time.sleep(_LOCK_POLL_S)
    what = "another process holds the lock of the job's staging and does not end"
    hint = f"fuser {os.path.join(staging, _LOCK)} names it; once it has ended, or goes on, the job does"
    raise error(Code.OUTPUT_STUCK, what, where=staging, hint=hint)


def _if_there(_function: object, _path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    """What rmtree cannot delete is an error, unless somebody else has deleted it."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]


def _read(path: str) -> bytes | None:
    """The bytes of a file; None if it is not there, or is a link, a pipe or a folder: not what this process wrote."""
    try:
        with open(open_file(path), "rb") as file:
            return file.read()
    except OSError as problem:
        if problem.errno in _NOT_OURS:
            return None
        raise


def _noted(path: str) -> bytes | None:
    """The manifest that an earlier process noted; None if it did not, or if that is not as it was written."""
    data = _read(path) or b""
    noted, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return noted if len(digest) == _DIGEST_BYTES and xxhash.xxh3_128_digest(noted) == digest else None


def _write_again(path: str, data: bytes) -> None:
    """Write a file whole, in place of one that may be there. Raises OSError."""
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    write_durably(new, data)
    os.replace(new, path)
