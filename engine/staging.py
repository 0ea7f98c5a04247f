"""All or nothing (I2): part files grow in a hidden sibling of the output and appear under its name in one step.

A folder is published by one rename, or by one atomic exchange with the old folder; a single file by a link or rename.
Kill -9 at any system call leaves the old output, nothing, or the whole new one; see `leftovers` for what the next job
does about the rest. Only a folder that is an output of ours, or a Parquet file, is ever replaced: nobody loses a home
folder or a letter to a typing error.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
import pyarrow as pa

from kernelmill.engine.commit import (
    MANIFEST_NAME,
    REJECTS_FOLDER,
    Manifest,
    PartFile,
    encode_manifest,
    files_below,
    folders_of,
    make_manifest,
    part_names,
    read_manifest,
)
from kernelmill.engine.durable import exchange, fsync_folder, fsync_folders, link_new, output_errors
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.parquet_write import FORMAT_VERSION, join_parts
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.leftovers import (
    FINAL,
    OLD,
    OLD_REJECTS,
    REJECTS,
    SINGLE,
    is_single,
    lock_staging,
    rejects_path,
    release_staging,
    staging_path,
    undo,
)

_log = logging.getLogger("kernelmill.commit")
_PARQUET_MAGIC = b"PAR1"
_FOLDERS_AT_ONCE = 16
_REJECT_COLUMNS = {"file", "offset", "line", "record", "reason", "code"}

Mode = Literal["error", "overwrite"]
NamedParts = tuple[str, Sequence[PartFile], pa.Schema]
"""Name, closed parts in order, and columns of an output beside the main one."""


class Staging:
    """The place of one job's part files until they are published; holds the output's lock from `open` to the end.

    Use it as a context manager: leaving it without `publish` throws everything away.
    """

    def __init__(self, target: str, mode: Mode, lock: int) -> None:
        self.target, self.mode = target, mode
        self._lock: int | None = lock
        self._guard = threading.Lock()
        self._place = staging_path(target)
        self._parts = os.path.join(self._place, f"parts-{os.urandom(6).hex()}")

    @classmethod
    def open(cls, target: str | os.PathLike[str], *, mode: str = "error") -> Staging:
        """Lock the output and make its staging; a name ending in `.parquet` is one file, any other a folder.

        Raises KM0107 for another mode, KM0501 if the output is there and mode is error, KM0502 if it cannot be
        written or what is in its place is no output of ours, KM0504 if a living job is writing it.
        """
        if mode not in ("error", "overwrite"):
            hint = "mode='error' refuses to touch an output that exists, mode='overwrite' replaces it at the end"
            raise error(Code.BAD_SETTING, f"mode={mode!r} is not a mode", hint=hint)
        checked: Mode = "error" if mode == "error" else "overwrite"
        place = resolved_target(os.fspath(target))
        check_parent(place)
        check_target(place, checked)
        with output_errors("making a staging folder", staging_path(place)):
            lock = lock_staging(place)
        staging = cls(place, checked, lock)
        try:
            with output_errors("clearing what a dead job left", staging_path(place)):
                undo(place)
            check_target(place, checked)  # another job may have published it while this one came for the lock
            with output_errors("making a staging folder", staging_path(place)):
                os.mkdir(staging._parts)
        except BaseException:
            staging.abort()
            raise
        return staging

    def part_path(self, task_index: int, attempt_number: int, output: int = 0) -> str:
        """Name the file, or folder of files, in which one attempt at an output task writes its rows.

        `output`: the nth named output.
        """
        of_output = f"{output}-" if output else ""
        return os.path.join(self._parts, f"{of_output}{task_index:05d}-{attempt_number}.parquet")

    def reject_path(self, task_index: int, attempt_number: int) -> str:
        """Name the file in which one attempt at a task writes its rejects."""
        return os.path.join(self._parts, f"rejects-{task_index:05d}-{attempt_number}.parquet")

    def publish(
        self,
        parts: Sequence[PartFile],
        schema: pa.Schema,
        *,
        counters: Mapping[str, int] | None = None,
        rejects: Mapping[str, int] | None = None,
        reject_files: Sequence[PartFile] = (),
        named: Sequence[NamedParts] = (),
    ) -> Manifest:
        """Make the output visible: `parts`, closed and in order, get their final names; then the staging is gone.

        `named` are the parts of further outputs: each gets a folder of its name within the output.

        Raises KM0501 if something has appeared in the output's place (mode error), KM0402 or KM0502 if the system
        refuses; then nothing has changed under the public names.
        """
        if self._lock is None:
            raise error(Code.INTERNAL, "this staging is published or aborted already", where=self.target)
        try:
            with output_errors("publishing the output", self.target):
                if is_single(self.target):
                    manifest = self._publish_single(parts, schema, counters or {}, rejects or {}, reject_files)
                else:
                    manifest = self._publish_folder(parts, schema, counters or {}, rejects or {}, reject_files, named)
        except BaseException:
            self.abort()
            raise
        self.abort()  # by now there is nothing to undo: it deletes the old output and the staging
        return manifest

    def abort(self) -> None:
        """Throw away what is not published and give up the lock. May be called again, or after `publish`.

        What cannot be deleted stays for the next job and is logged: the outcome of this one is already decided.
        """
        with self._guard:
            lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            release_staging(self.target, lock)
        except OSError as problem:
            _log.warning("could not remove %s: %s; the next job to this output will", self._place, problem)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _publish_folder(
        self,
        parts: Sequence[PartFile],
        schema: pa.Schema,
        counters: Mapping[str, int],
        rejects: Mapping[str, int],
        reject_files: Sequence[PartFile],
        named: Sequence[NamedParts],
    ) -> Manifest:
        final = os.path.join(self._place, FINAL)
        os.mkdir(final)
        files = self._move(parts, final, "")
        rejected = self._move(reject_files, final, REJECTS_FOLDER) if reject_files else []
        outputs = [(name, self._move(made, final, name), columns) for name, made, columns in named]
        manifest = manifest_of(files, schema, counters, rejects, rejected, outputs)
        write_durably(os.path.join(final, MANIFEST_NAME), encode_manifest(manifest))
        fsync_folder(final)
        self._place_folder(final)
        fsync_folder(os.path.dirname(self.target))
        return manifest

    def _place_folder(self, final: str) -> None:
        check_target(self.target, self.mode)
        if self.mode == "overwrite" and os.path.lexists(self.target):
            if exchange(final, self.target):
                return
            os.rename(self.target, os.path.join(self._place, OLD))
        try:
            os.rename(final, self.target)  # onto nothing or an empty folder; anything else is an error
        except OSError as problem:
            if problem.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise exists_error(self.target) from problem
            raise

    def _publish_single(
        self,
        parts: Sequence[PartFile],
        schema: pa.Schema,
        counters: Mapping[str, int],
        rejects: Mapping[str, int],
        reject_files: Sequence[PartFile],
    ) -> Manifest:
        if len(parts) != 1:
            raise error(Code.INTERNAL, f"an output that is one file was given {len(parts)} parts", where=self.target)
        single, mine = os.path.join(self._place, SINGLE), os.path.join(self._place, REJECTS)
        os.rename(os.path.join(self._parts, parts[0].name), single)
        files = [msgspec.structs.replace(parts[0], name=os.path.basename(self.target))]
        public = rejects_path(self.target)
        rejected: list[PartFile] = []
        if reject_files:
            joined = join_parts([os.path.join(self._parts, part.name) for part in reject_files], mine)
            rejected = [msgspec.structs.replace(joined, name=os.path.basename(public))]
        if self.mode == "overwrite" and os.path.lexists(public):
            os.link(public, os.path.join(self._place, OLD_REJECTS))
        fsync_folder(self._place)
        check_target(self.target, self.mode)
        if reject_files:
            self._place_file(mine, public)
        self._place_file(single, self.target)
        if not reject_files and self.mode == "overwrite" and os.path.lexists(public):
            os.unlink(public)  # the rejects of the output that has just been replaced
        fsync_folder(os.path.dirname(self.target))
        return manifest_of(files, schema, counters, rejects, rejected)

    def _place_file(self, source: str, public: str) -> None:
        """Give a staged file its public name, keeping the staged one: `leftovers.undo` goes by it."""
        if self.mode == "error":
            try:
                link_new(source, public)
            except FileExistsError as problem:
                raise exists_error(public) from problem
        else:
            second = source + ".public"
            link_new(source, second)
            os.replace(second, public)

    def _move(self, parts: Sequence[PartFile], final: str, folder: str) -> list[PartFile]:
        """Give staged parts their names in the output, or in a new folder below it."""
        named = [(os.path.join(folder, name), part) for name, part in part_names(parts)]
        folders = sorted({*folders_of(name for name, _ in named), *([folder] if folder else [])})
        for one in folders:
            os.mkdir(os.path.join(final, one))
        for name, part in named:
            os.rename(os.path.join(self._parts, part.name), os.path.join(final, name))
        for start in range(0, len(folders), _FOLDERS_AT_ONCE):
            fsync_folders(*(os.path.join(final, one) for one in folders[start : start + _FOLDERS_AT_ONCE]))
        return [PartFile(name, part.rows, part.bytes, part.checksum) for name, part in named]


def manifest_of(
    files: Sequence[PartFile],
    schema: pa.Schema,
    counters: Mapping[str, int],
    rejects: Mapping[str, int],
    reject_files: Sequence[PartFile],
    outputs: Sequence[NamedParts] = (),
) -> Manifest:
    """Describe an output whose files have their final names, with the versions of this process."""
    versions = {
        "kernelmill": importlib.import_module("kernelmill").__version__,
        "pyarrow": pa.__version__,
        "parquet": FORMAT_VERSION,
    }
    told: dict[str, Any] = {"counters": counters, "rejects": rejects, "reject_files": reject_files}
    return make_manifest(files, schema, **told, versions=versions, outputs=outputs)


def resolved_target(target: str) -> str:
    """The absolute path with links followed: the rename must happen where the output really lies."""
    single = is_single(target)
    with output_errors("looking for the output's place", target):  # the current folder may be gone
        place = os.path.realpath(target)
    if not os.path.basename(place):
        raise error(Code.COMMIT, "this cannot be an output", where=target, hint="name a new folder")
    if single != is_single(place):
        hint = "write to the place it links to"
        raise error(Code.COMMIT, f"{target} is a link to {place}: one is a file, one a folder", hint=hint)
    return place


def check_parent(target: str) -> None:
    """Raise KM0502 unless the folder above an output is there and can be written."""
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        hint = f"make it first: mkdir -p {parent}"
        raise error(Code.COMMIT, f"the output's folder {parent} does not exist", where=target, hint=hint)
    if not os.access(parent, os.W_OK | os.X_OK):
        hint = "write somewhere else, or ask for the right to write there"
        raise error(Code.COMMIT, f"the output's folder {parent} is not writable", where=target, hint=hint)


def exists_error(path: str) -> KernelmillError:
    """KM0501 for an output that may not be replaced."""
    hint = "choose another output, or replace this one with mode='overwrite'"
    return error(Code.OUTPUT_EXISTS, "the output is already there", where=path, hint=hint)


def check_target(target: str, mode: Mode) -> None:
    """Raise if something is there that may not be replaced. An empty folder is in nobody's way."""
    with output_errors("looking at the output's place", target):
        status = os.lstat(target) if os.path.lexists(target) else None
        if is_single(target):
            if status is not None:
                _check_file(target, status, mode)
            _check_rejects(rejects_path(target), mode)
        elif status is not None:
            _check_folder(target, status, mode)


def _check_file(target: str, status: os.stat_result, mode: Mode) -> None:
    if mode == "error":
        raise exists_error(target)
    if not stat.S_ISREG(status.st_mode):
        hint = "remove it yourself, or name the output without .parquet to get a folder"
        raise error(Code.COMMIT, "a folder or special file has the output's name", where=target, hint=hint)
    with output_errors("looking at what would be replaced", target), open(target, "rb") as file:
        head = file.read(len(_PARQUET_MAGIC))
    if head and head != _PARQUET_MAGIC:
        hint = "only Parquet files are overwritten: move this one away, or choose another output"
        raise error(Code.COMMIT, "a file that is not Parquet has the output's name", where=target, hint=hint)


def _check_rejects(path: str, mode: Mode) -> None:
    """The rejects of a single file lie beside it: what has their name must be such rejects, and replaceable."""
    if not os.path.lexists(path):
        return
    if mode == "error":
        raise exists_error(path)
    try:
        ours = os.path.isfile(path)
        if ours:
            with open(path, "rb") as file:
                ours = set(pq.read_schema(file).names) >= _REJECT_COLUMNS
    except (pa.ArrowException, OSError):
        ours = False
    if not ours:
        hint = "move it away, or choose another output: rejected records are put under this name"
        raise error(Code.COMMIT, "a file that is not ours has the name of the rejects", where=path, hint=hint)


def _check_folder(target: str, status: os.stat_result, mode: Mode) -> None:
    if not stat.S_ISDIR(status.st_mode):
        if mode == "error":
            raise exists_error(target)
        hint = "remove it yourself, or choose another output"
        raise error(Code.COMMIT, "a file has the output folder's name", where=target, hint=hint)
    if os.path.ismount(target):
        what, hint = "the output is a mount point, which cannot be replaced", "name a folder below it"
        raise error(Code.COMMIT, what, where=target, hint=hint)
    if not os.listdir(target):
        return
    if mode == "error":
        raise exists_error(target)
    if not os.path.lexists(os.path.join(target, MANIFEST_NAME)):
        hint = "only outputs of kernelmill are overwritten: choose another one, or empty this folder yourself"
        raise error(Code.COMMIT, f"this folder has no {MANIFEST_NAME}, it is no output", where=target, hint=hint)
    manifest = read_manifest(target)
    strange = [name for name in files_below(target, manifest.names) if not _is_litter(target, name)]
    if strange:
        hint = "move what is yours out of it, or choose another output"
        what = f"the folder holds more than the output that would be replaced: {', '.join(strange[:5])}"
        raise error(Code.COMMIT, what, where=target, hint=hint)


def _is_litter(folder: str, name: str) -> bool:
    """Small hidden files that desktops and editors leave; a hidden folder may be somebody's work, such as .git."""
    path = os.path.join(folder, name)
    return name.startswith(".") and not os.path.isdir(path)


def write_durably(path: str, data: bytes) -> None:
    """Write a new file and make its bytes durable. Raises OSError, FileExistsError if there is one."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
