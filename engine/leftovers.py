"""The hidden staging folder beside an output: its name, its lock, and undoing what a dead job left in it.

For the output `<parent>/out` it is `<parent>/.out.km-staging/`, one per output, so that the lock inside it also keeps
two jobs from writing the same output:

    lock                 flock of the living job; who has it may do anything with the rest
    parts-<token>/       part files of task attempts; a new token for each job, so a dead job's child finds no place
    final/               the output folder in the making; after an exchange, the old output
    old/                 the old output, put aside where the system has no exchange: put back if nothing took its place
    trash/               an old output on its way out
    single.parquet       an output that is one file, and its rejects: second names (hard links) of what was published,
    rejects.parquet      so that it can be told how far a dead job came
    old-rejects.parquet  a second name of the rejects file that was there before
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator

from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error

LOCK, FINAL, OLD, TRASH = "lock", "final", "old", "trash"
SINGLE, REJECTS, OLD_REJECTS = "single.parquet", "rejects.parquet", "old-rejects.parquet"
_SUFFIX = ".km-staging"
_SINGLE_SUFFIX = ".parquet"
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def staging_path(target: str) -> str:
    """Name the staging folder of the output `target`: a hidden sibling, thus on the same file system."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}{_SUFFIX}")


def rejects_path(target: str) -> str:
    """Name the rejects file beside an output that is one file: `words.parquet` has `words.rejects.parquet`."""
    return target[: -len(_SINGLE_SUFFIX)] + f".rejects{_SINGLE_SUFFIX}"


def is_single(target: str) -> bool:
    """Tell whether an output's name asks for one file rather than a folder: it ends in .parquet, or .PARQUET."""
    return target.lower().endswith(_SINGLE_SUFFIX)


def lock_staging(target: str) -> int:
    """Make the staging folder if need be and lock it: the descriptor to give to `release_staging`.

    Raises KM0504 if a living job holds it, OSError otherwise. Whoever removes a staging folder holds its lock and
    unlinks the lock file first, so a lock on a file that has lost its name is worth nothing: then try again.
    """
    staging = staging_path(target)
    path = os.path.join(staging, LOCK)
    while True:
        _make_folder(staging)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            continue  # its last owner has just removed the folder
        if _take(handle, target) and _has_name(handle, path):
            return handle
        os.close(handle)


def release_staging(target: str, handle: int) -> None:
    """Undo what was not finished, remove the staging folder, give up its lock. Raises OSError, lock given up anyway."""
    staging = staging_path(target)
    try:
        undo(target)
        os.unlink(os.path.join(staging, LOCK))
        remove_folder_if_empty(staging)
    finally:
        os.close(handle)


def undo(target: str) -> None:
    """With the lock held: leave the old output or the whole new one under the public names, and only the lock here."""
    staging = staging_path(target)
    if is_single(target):
        undo_single(staging, target)
    elif os.path.lexists(os.path.join(staging, OLD)):
        if os.path.lexists(target):
            # Renamed before it is deleted: a half-deleted `old` must never be taken for an output to put back.
            _remove(os.path.join(staging, TRASH))
            os.rename(os.path.join(staging, OLD), os.path.join(staging, TRASH))
        else:
            os.rename(os.path.join(staging, OLD), target)
    # Second names of published files go last: they are what a next attempt at this would go by.
    entries = sorted(set(os.listdir(staging)) - {LOCK}, key=lambda name: (name == SINGLE, name))
    for entry in entries:
        _remove(os.path.join(staging, entry))


def clean_target(target: str) -> list[str]:
    """Remove the staging of `target` if the job that made it is dead: the paths removed, at most one."""
    staging = staging_path(target)
    if not os.path.lexists(os.path.join(staging, LOCK)):
        return _clean_unlocked(staging)
    handle = _try_lock(staging)
    if handle is None:
        return []
    with output_errors("removing leftovers", staging):
        release_staging(target, handle)
    return [staging]


def clean_folder(folder: str) -> list[str]:
    """Remove the staging that dead jobs left in `folder`: the paths removed, sorted."""
    return [path for target in sorted(_targets_with_staging(folder)) for path in clean_target(target)]


def remove_folder_if_empty(path: str) -> None:
    """Remove a folder; one that is gone or in which another job has just begun is left alone."""
    try:
        os.rmdir(path)
    except OSError as problem:
        if problem.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
            raise


def same_file(first: str, second: str) -> bool:
    """Tell whether two names are there and name one file."""
    try:
        return os.path.samestat(os.lstat(first), os.lstat(second))
    except FileNotFoundError:
        return False


def undo_single(staging: str, target: str) -> None:
    """Where the main file was not published, take its rejects back; where it was, old rejects must not outlive it."""
    public, mine = rejects_path(target), os.path.join(staging, REJECTS)
    before = os.path.join(staging, OLD_REJECTS)
    if same_file(os.path.join(staging, SINGLE), target):
        if same_file(before, public):
            os.unlink(public)
    elif same_file(mine, public):
        if os.path.lexists(before):
            os.replace(before, public)
        else:
            os.unlink(public)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return  # its last owner has just removed it: the lock file will not open, and the caller tries again
        if not stat.S_ISDIR(mode):
            raise


def _take(handle: int, target: str) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        hint = "wait for it, or write to another place"
        raise error(Code.OUTPUT_BUSY, "another job is writing this output", where=target, hint=hint) from None
    except OSError as problem:
        os.close(handle)
        if problem.errno in _NO_LOCKS:
            hint = "write to a local disk, or mount this one with locks"
            raise error(Code.COMMIT, "the file system has no file locks", where=target, hint=hint) from problem
        raise
    return True


def _has_name(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _try_lock(staging: str) -> int | None:
    """Lock an existing staging folder; None if a job lives in it or has just finished."""
    path = os.path.join(staging, LOCK)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    if not _has_name(handle, path):
        os.close(handle)
        return None
    return handle


def _clean_unlocked(staging: str) -> list[str]:
    """A folder without a lock file is one whose owner died between making or emptying it and the next step."""
    if not os.path.isdir(staging) or os.path.islink(staging):
        return []
    with output_errors("removing leftovers", staging):
        remove_folder_if_empty(staging)
    return [] if os.path.isdir(staging) else [staging]


def _targets_with_staging(folder: str) -> Iterator[str]:
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(_SUFFIX) and len(name) > len(_SUFFIX) + 1:
            yield os.path.join(folder, name[1 : -len(_SUFFIX)])


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
