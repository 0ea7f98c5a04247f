"""Key files: written for their owner alone, and refused when others could have read or changed them.

No function here follows a symbolic link at the end of a path: what it leads to may be somebody else's to change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from kernelmill.engine.durable import fsync_folder, rename_new
from kernelmill.engine.errors import Code, KernelmillError, error

FILE_BYTES_MAX = 1 << 20


def read_secret(path: Path) -> bytes:
    """Read a file that holds a secret. Raises KM0615 if it is missing, a link, not ours, or open to others."""
    return _read(path, 0o077, "others can read it", f"chmod 600 {path}, and make new keys if others may have read it")


def read_list(path: Path) -> bytes:
    """Read a file that all may see. Raises KM0615 if it is missing, a link, not ours, or others could change it."""
    return _read(path, 0o022, "others can change it", f"chmod go-w {path}, after a look at what it says")


def _read(path: Path, forbidden_bits: int, forbidden: str, hint: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_file(path, os.fstat(handle), forbidden_bits, forbidden, hint)
            with open(handle, "rb", closefd=False) as file:
                data = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(handle)
    except OSError as problem:
        raise key_error(path, "reading keys", problem) from problem
    if len(data) > FILE_BYTES_MAX:
        raise damaged(path, f"this file is longer than {FILE_BYTES_MAX} bytes")
    return data


def _check_file(path: Path, found: os.stat_result, forbidden_bits: int, forbidden: str, hint: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise error(Code.KEYS, "this is no regular file", where=str(path), hint="name the file that `keys` wrote")
    if found.st_uid not in (os.geteuid(), 0):
        what = f"this file belongs to another user (number {found.st_uid})"
        raise error(Code.KEYS, what, where=str(path), hint="copy it as the user who runs this process")
    if found.st_mode & forbidden_bits:
        what = f"{forbidden}: its mode is {found.st_mode & 0o777:o}"
        raise error(Code.KEYS, what, where=str(path), hint=hint)


def check_folder(path: Path) -> None:
    """Raise KM0615 unless this is a folder, no link, that nobody but us (or root) can put files into."""
    try:
        found = path.lstat()
    except OSError as problem:
        raise key_error(path, "looking at the folder of keys", problem) from problem
    if not stat.S_ISDIR(found.st_mode):
        hint = "name the folder that `kernelmill keys init` made, with --keys"
        raise error(Code.KEYS, "this is not a folder, or a link to one", where=str(path), hint=hint)
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
        hint = f"chmod 700 {path}, after a look at what is in it"
        raise error(Code.KEYS, "others can change this folder", where=str(path), hint=hint)


def write_new(path: Path, data: bytes) -> None:
    """Write a file, 0600 and durable, whose name must be free. Raises KM0615 if it is not, or if writing fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(temporary, data)
        rename_new(str(temporary), str(path))
        fsync_folder(str(path.parent))
    except OSError as problem:
        raise key_error(path, "writing keys", problem) from problem
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole, 0600 and durable: readers see the old one or the new one. Raises KM0615."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(temporary, data)
        os.replace(temporary, path)
        fsync_folder(str(path.parent))
    except OSError as problem:
        raise key_error(path, "writing keys", problem) from problem
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        os.fchmod(handle, 0o600)  # a strange umask must not take our own right to read it
        file.write(data)
        file.flush()
        os.fsync(handle)


_DAMAGED = "make the keys anew, or copy the file again from where they were made"


def damaged(path: Path, what: str) -> KernelmillError:
    """KM0615 for a file whose content is not what it should be."""
    return error(Code.KEYS, what, where=str(path), hint=_DAMAGED)


def key_error(path: Path, doing: str, problem: OSError) -> KernelmillError:
    """Turn a system error met with key files into KM0615."""
    where = str(path)
    match problem.errno:
        case errno.ENOENT:
            hint = "kernelmill keys init makes the folder of keys; name it with --keys"
            return error(Code.KEYS, "there is no such file", where=where, hint=hint)
        case errno.ELOOP:
            hint = "name the file itself: what a link leads to may be somebody else's to change"
            return error(Code.KEYS, "this is a symbolic link", where=where, hint=hint)
        case errno.EEXIST:
            return error(Code.KEYS, "this file is there already", where=where, hint="keys are never overwritten")
    reason = problem.strerror or str(problem)
    return error(Code.KEYS, f"{doing} failed: {reason}", where=where, hint="check the folder's owner, rights and disk")
