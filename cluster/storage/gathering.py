"""The files of a job's winners, brought together under the names that they will have, and their manifest.

A winner's file lies in its attempt's folder or, where an earlier process came so far, in `final`: each is looked at
before it is moved, and one that is not what its record says sends its task back.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import COUNT_MAX, Counts, OutputFile
from kernelmill.cluster.jobspec.parts import PlanPart
from kernelmill.cluster.storage.folders import held, made
from kernelmill.cluster.storage.frames import Publish, Winner
from kernelmill.cluster.storage.layout import (
    ATTEMPTS,
    FINAL,
    PARTS_NAME,
    REJECTS_NAME,
    read_parts,
    read_rejects,
    tail_of,
)
from kernelmill.cluster.storage.staged import write_again
from kernelmill.engine.commit import (
    MANIFEST_NAME,
    REJECTS_FOLDER,
    Manifest,
    PartFile,
    PlacedFile,
    checksum_of,
    encode_manifest,
    folders_of,
    part_names,
)
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.ids import TaskId
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.io.rejects import REJECT_SCHEMA, RejectWriter
from kernelmill.engine.leftovers import REJECTS, SINGLE, is_single, rejects_path
from kernelmill.engine.plan.physical import ToParquet
from kernelmill.engine.staging import manifest_of

Told = TypeVar("Told")

_PART_NAMES = {"part.parquet": ".parquet", "part.arrow": ".arrow", "part.json": ".json", PARTS_NAME: ""}


class BadPartError(Exception):
    """A winner's file is missing, or is not what its record says: its task must run again."""

    def __init__(self, winner: Winner, what: str) -> None:
        super().__init__(what)
        self.winner = winner


def prepare(order: Publish, plan: PlanPart, target: str, staging: str) -> bytes:
    """Bring all files to their names in `final`, or the one file to `single.parquet`; the manifest's bytes.

    Raises BadPartError, and KM0502 or KM0503 for what the records of winners say.
    """
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
        write_again(os.path.join(final, MANIFEST_NAME), data)
        fsync_folder(final)
        return data


def _moved_stage(
    order: Publish, plan: PlanPart, stage: int, staging: str, final: str, name: str, target: str
) -> list[PartFile]:
    """Bring the files of a stage into `final`, or the folder `name` in it."""
    pairs = list(_parts_of(order.winners, stage))
    if len(pairs) != plan.stages[stage].tasks:
        what = f"{len(pairs)} files of {plan.stages[stage].tasks} tasks were committed"
        raise error(Code.INTERNAL, what, where=target)
    with made(final, name) if name else contextlib.nullcontext(final) as folder:
        if any(file.name == PARTS_NAME for _, file in pairs):
            files = _moved_placed(order, pairs, staging, folder)
            return [msgspec.structs.replace(file, name=os.path.join(name, file.name)) for file in files]
        files = []
        for winner, file in pairs:
            part = f"part-{winner.task:05d}{_PART_NAMES[file.name]}"
            moved = _moved(order, winner, file, staging, os.path.join(folder, part))
            files.append(msgspec.structs.replace(moved, name=os.path.join(name, part)))
        if name:
            fsync_folder(folder)
    return files


def _moved_placed(
    order: Publish, pairs: Sequence[tuple[Winner, OutputFile]], staging: str, folder: str
) -> list[PartFile]:
    """Bring the files of attempts with several into folders below `folder`, under names that its manifest gives."""
    found = [(winner, one) for winner, file in pairs for one in _told(read_parts, winner, file, staging)]
    parts = [
        PlacedFile(str(number), one.file.rows, one.file.size_bytes, one.file.xxh3.hex(), one.folder)
        for number, (_, one) in enumerate(found)
    ]
    files = []
    named = part_names(parts)
    for below, together in itertools.groupby(named, key=lambda pair: os.path.dirname(pair[0])):
        with contextlib.ExitStack() as stack:
            place = folder
            for part in below.split("/") if below else []:
                place = stack.enter_context(made(place, part))
            for path, numbered in together:
                winner, one = found[int(numbered.name)]
                moved = _moved(order, winner, one.file, staging, os.path.join(place, os.path.basename(path)))
                files.append(msgspec.structs.replace(moved, name=path))
    for below in sorted(folders_of(path for path, _ in named)):
        fsync_folder(os.path.join(folder, below))
    fsync_folder(folder)
    return files


def _told(read: Callable[[str, OutputFile], Told], winner: Winner, file: OutputFile, staging: str) -> Told:
    """What an attempt says in one of its files, as `read` reads it. Raises BadPartError."""
    with _attempt(winner, file, staging) as (path, shown):
        try:
            return read(path, file)
        except (KernelmillError, msgspec.DecodeError) as problem:
            raise BadPartError(winner, f"{shown}: {problem}") from problem


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
    below, name = os.path.split(file.name)
    try:
        with (
            held(os.path.join(staging, ATTEMPTS)) as attempts,
            held(os.path.join(attempts, str(winner.attempt))) as folder,
            held(os.path.join(folder, below)) if below else contextlib.nullcontext(folder) as inner,
        ):
            yield os.path.join(inner, name), shown
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
                rejects.add(TaskId(winner.stage, winner.task), _told(read_rejects, winner, file, staging))
    return rejects


def _write_rejects(path: str, rejects: RejectWriter) -> PartFile:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # an earlier process's, perhaps half of it
    with PartWriter(path, ToParquet("zstd", 1 << 16, True, REJECT_SCHEMA)) as writer:
        for batch in rejects.table().to_batches():
            writer.write(batch)
        return writer.close()


def _remove_strangers(final: str, manifest: Manifest) -> None:
    """Delete what earlier attempts at publishing left that is not in the manifest, such as rejects that are no more."""
    known = manifest.names
    known_folders = folders_of(known)
    top = os.open(final, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder, folders, names, handle in os.fwalk(os.curdir, topdown=False, dir_fd=top):
            links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)]
            for name in [*names, *links]:
                if os.path.normpath(os.path.join(folder, name)) not in known:
                    os.unlink(name, dir_fd=handle)
            for name in folders:
                if name not in links and os.path.normpath(os.path.join(folder, name)) not in known_folders:
                    os.rmdir(name, dir_fd=handle)
    finally:
        os.close(top)


def _counters(counts: Counts) -> dict[str, int]:
    return {one.name: one.count for one in sorted(counts, key=lambda one: one.name)}
