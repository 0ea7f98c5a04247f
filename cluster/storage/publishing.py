"""Publishing a job's output from the files of its winners: steps 6 to 9 and 11 of the commit, each of which may be the
last one of a process and the first one of the next.

What is there tells how far an earlier process came: a winner's file lies in its attempt's folder or in `final`; the
manifest is in staging as soon as all files are in `final`; `final` is gone, or holds what was exchanged for it, once
the output is public. Two processes never publish one job at a time: flock on staging, which a dead process gives up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence

import msgspec
import xxhash

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import Counts, OutputFile
from kernelmill.cluster.jobspec.parts import PlanPart, decode_plan
from kernelmill.cluster.roots import Roots
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

_LOCK = "lock"
_PART_NAMES = {"part.parquet": ".parquet", "part.arrow": ".arrow", "part.json": ".json"}


class BadPartError(Exception):
    """A winner's file is missing, or is not what its record says: its task must run again."""

    def __init__(self, winner: Winner, what: str) -> None:
        super().__init__(what)
        self.winner = winner


def publish(order: Publish, roots: Roots) -> Published:
    """Put the winners' files under the job's public name, or find that they are there.

    Raises BadPartError, or KM0501, KM0502, KM0402, KM0503: then nothing has changed under the public name.
    """
    target = roots.path_of(order.sheet.output)
    staging = staging_of(target, order.job)
    with _locked(staging), output_errors("publishing the output", target):
        noted = _read(os.path.join(staging, MANIFEST))
        if noted is None:
            with open(order.plan_path, "rb") as file:
                plan = decode_plan(file.read())
            noted = _prepare(order, plan, target, staging)
            _write_again(os.path.join(staging, MANIFEST), noted)
            fsync_folder(staging)
        failpoint("storage.manifest.written")
        mode = order.sheet.policy.mode
        if is_single(target):
            _place_single(staging, target, mode)
        elif not _is_public(staging, target, noted):
            _place_folder(staging, target, mode)
        fsync_folder(os.path.dirname(target))
        failpoint("storage.published")
    manifest = decode_manifest(noted)
    return Published(order.job, manifest.rows, manifest.bytes, xxhash.xxh3_128_digest(noted))


def clean(order: Clean, roots: Roots) -> Cleaned:
    """Remove a job's staging. What an unfinished publication left is undone first; an output that is public stays."""
    target = roots.path_of(order.sheet.output)
    staging = staging_of(target, order.job)
    trash = trash_of(staging)
    try:
        if os.path.lexists(staging):
            with _locked(staging):
                if is_single(target):
                    undo_single(staging, target)
                elif os.path.lexists(os.path.join(staging, OLD)) and not os.path.lexists(target):
                    os.rename(os.path.join(staging, OLD), target)
                os.rename(staging, trash)  # from here on nobody finds a place to write in
        if os.path.lexists(trash):
            shutil.rmtree(trash, onerror=_if_there)
        return Cleaned(order.job, "")
    except (OSError, KernelmillError) as problem:
        return Cleaned(order.job, f"{staging}: {problem}"[:8192])


# Files ---------------------------------------------------------------------------------------------------------------


def _prepare(order: Publish, plan: PlanPart, target: str, staging: str) -> bytes:
    """Bring all files to their names in `final`, or the one file to `single.parquet`; the manifest's bytes."""
    rejects = _rejects_of(order, staging)
    outputs = [("", len(plan.stages) - 1), *((one.name, one.stage) for one in plan.named)]
    if is_single(target):
        return _prepare_single(order, plan, rejects, target, staging)
    final = os.path.join(staging, FINAL)
    os.makedirs(final, exist_ok=True)
    made: list[list[PartFile]] = []
    for name, stage in outputs:
        if name:
            os.makedirs(os.path.join(final, name), exist_ok=True)
        made.append([
            _moved(order, winner, file, staging, os.path.join(name, f"part-{winner.task:05d}{_PART_NAMES[file.name]}"))
            for winner, file in _parts_of(order.winners, stage)
        ])  # fmt: skip
        if name:
            fsync_folder(os.path.join(final, name))
        if len(made[-1]) != plan.stages[stage].tasks:
            what = f"{len(made[-1])} files of {plan.stages[stage].tasks} tasks were committed"
            raise error(Code.INTERNAL, what, where=target)
    reject_files = []
    if rejects.rows:
        folder = os.path.join(final, REJECTS_FOLDER)
        os.makedirs(folder, exist_ok=True)
        name = os.path.join(REJECTS_FOLDER, "part-00000.parquet")
        reject_files = [msgspec.structs.replace(_write_rejects(os.path.join(final, name), rejects), name=name)]
        fsync_folder(folder)
    named = [(one.name, files, one.schema) for one, files in zip(plan.named, made[1:], strict=True)]
    told = _counters(order.counters), rejects.by_reason(), reject_files
    manifest = manifest_of(made[0], plan.schema, *told, named)
    _remove_strangers(final, manifest)
    data = encode_manifest(manifest)
    _write_again(os.path.join(final, MANIFEST_NAME), data)
    fsync_folder(final)
    return data


def _prepare_single(order: Publish, plan: PlanPart, rejects: RejectWriter, target: str, staging: str) -> bytes:
    pairs = list(_parts_of(order.winners, len(plan.stages) - 1))
    if len(pairs) != 1:
        raise error(Code.INTERNAL, f"an output that is one file was given {len(pairs)} parts", where=target)
    part = _moved(order, *pairs[0], staging, SINGLE, folder="")
    files = [msgspec.structs.replace(part, name=os.path.basename(target))]
    rejected: list[PartFile] = []
    if rejects.rows:
        made = _write_rejects(os.path.join(staging, REJECTS), rejects)
        rejected = [msgspec.structs.replace(made, name=os.path.basename(rejects_path(target)))]
    return encode_manifest(manifest_of(files, plan.schema, _counters(order.counters), rejects.by_reason(), rejected))


def _parts_of(winners: Sequence[Winner], stage: int) -> Iterator[tuple[Winner, OutputFile]]:
    """The part files of a stage, in the order of its tasks."""
    for winner in sorted((one for one in winners if one.stage == stage), key=lambda one: one.task):
        for file in winner.files:
            if file.name in _PART_NAMES:
                yield winner, file


def _moved(order: Publish, winner: Winner, file: OutputFile, staging: str, name: str, folder: str = FINAL) -> PartFile:
    """Give a winner's file its name, if it has not got it already. Raises BadPartError."""
    source = os.path.join(staging, ATTEMPTS, str(winner.attempt), file.name)
    there = os.path.join(staging, folder, name)
    is_there = os.path.lexists(source)
    _check(winner, file, source if is_there else there, is_full=order.sheet.policy.verify_output == "full")
    if is_there:
        os.replace(source, there)
        failpoint("storage.part.renamed")
    return PartFile(name, file.rows, file.size_bytes, file.xxh3.hex())


def _check(winner: Winner, file: OutputFile, path: str, *, is_full: bool) -> None:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise BadPartError(winner, f"{path} is no file")
        size, tail = tail_of(path)
        checksum = checksum_of(path)[1] if is_full else file.xxh3.hex()
    except FileNotFoundError:
        raise BadPartError(winner, f"{path} is not there") from None
    if size != file.size_bytes:
        raise BadPartError(winner, f"{path} has {size} bytes, its record says {file.size_bytes}")
    if tail != file.tail_xxh3:
        raise BadPartError(winner, f"the last bytes of {path} are not those of its record")
    if checksum != file.xxh3.hex():
        raise BadPartError(winner, f"the bytes of {path} are not those of its record")


def _rejects_of(order: Publish, staging: str) -> RejectWriter:
    """The rejected records of all winners. Raises BadPartError, and KM0503 where there are too many."""
    rejects = RejectWriter(order.sheet.policy.rejects_max)
    for winner in order.winners:
        for file in winner.files:
            if file.name == REJECTS_NAME:
                rejects.add(TaskId(winner.stage, winner.task), _records(winner, file, staging))
    return rejects


def _records(winner: Winner, file: OutputFile, staging: str) -> list[Reject]:
    path = os.path.join(staging, ATTEMPTS, str(winner.attempt), file.name)
    try:
        return read_rejects(path, file)
    except FileNotFoundError:
        raise BadPartError(winner, f"{path} is not there") from None
    except (KernelmillError, msgspec.DecodeError) as problem:
        raise BadPartError(winner, f"{path}: {problem}") from problem


def _write_rejects(path: str, rejects: RejectWriter) -> PartFile:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # an earlier process's, perhaps half of it
    with PartWriter(path, ToParquet("zstd", 1 << 16, True, REJECT_SCHEMA)) as writer:
        for batch in rejects.table().to_batches():
            writer.write(batch)
        return writer.close()


def _remove_strangers(final: str, manifest: Manifest) -> None:
    """Delete what earlier attempts at publishing left that is not in the manifest, such as rejects that are no more."""
    for folder, _, names in os.walk(final):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, final) not in manifest.names:
                os.unlink(path)
    if not manifest.reject_files and os.path.isdir(os.path.join(final, REJECTS_FOLDER)):
        os.rmdir(os.path.join(final, REJECTS_FOLDER))


def _counters(counts: Counts) -> dict[str, int]:
    return {one.name: one.count for one in sorted(counts, key=lambda one: one.name)}


# Names ---------------------------------------------------------------------------------------------------------------


def _is_public(staging: str, target: str, noted: bytes) -> bool:
    """Whether the folder is in place: its manifest is there, and `final` is gone or holds what was there before."""
    final = _read(os.path.join(staging, FINAL, MANIFEST_NAME))
    return _read(os.path.join(target, MANIFEST_NAME)) == noted and final != noted


def _place_folder(staging: str, target: str, mode: str) -> None:
    check_target(target, "overwrite" if mode == "overwrite" else "error")
    final = os.path.join(staging, FINAL)
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
def _locked(staging: str) -> Iterator[None]:
    """Hold the staging's lock. Raises KM0502 if staging is gone."""
    try:
        handle = os.open(os.path.join(staging, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as problem:
        what = f"the job's staging folder cannot be used: {os.strerror(problem.errno or 0)}"
        raise error(Code.COMMIT, what, where=staging, hint="somebody removed it: run the job again") from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _if_there(_function: object, _path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    """What rmtree cannot delete is an error, unless somebody else has deleted it."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_again(path: str, data: bytes) -> None:
    """Write a file whole, in place of one that may be there. Raises OSError."""
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    write_durably(new, data)
    os.replace(new, path)
