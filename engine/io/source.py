"""What a user names as input, as a sorted list of files with their stamps. Nothing is read here but directories.

A source is a path, a glob, a directory (searched recursively), or a list of these. In directories and globs, names
that start with `_` or `.` are skipped. Files come in the order of their path's bytes; a list's items keep their order.
A file is read once, however often and in whatever spelling it is named, through links too; it goes by the first name
it was given. Hard links are files of their own. A directory with a `_manifest.json` is an output of kernelmill: its
files are those of the manifest.
"""

from __future__ import annotations

import difflib
import functools
import glob
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kernelmill.engine.errors import Code, KernelmillError, article, error
from kernelmill.engine.splits import FileStamp

MANIFEST_NAME = "_manifest.json"

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def list_files(source: Source, *, suffixes: Sequence[str] | None = None) -> tuple[FileStamp, ...]:
    """Find the files that `source` names; KM0201 for a missing or unreadable one, or if nothing matches.

    `suffixes` narrows what is taken from a directory, for instance to (".parquet",); globs and paths are explicit.
    """
    real_folder = functools.cache(_real)  # the folders above a file cost more than the file
    stamps: dict[str, FileStamp] = {}
    for item in items_of(source):
        for path in _files_of(item, suffixes):
            found = stamp(path)
            folder, name = os.path.split(path)
            real = _real(path) if os.path.islink(path) else os.path.join(real_folder(folder), name)
            stamps.setdefault(real, found)
    return tuple(stamps.values())


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except FileNotFoundError:  # of the current directory, which was removed: "../x" can still be read, by that name
        return path


def describe(source: Source) -> str:
    """Name the source in a few words, as explain shows it: its path, or the first of several and their number."""
    items = items_of(source)
    return items[0] if len(items) == 1 else f"{items[0]} and {len(items) - 1} more"


def stamp(path: str) -> FileStamp:
    """Note a file's size and time; KM0201 if it is missing, unreadable, or no regular file."""
    try:
        status = os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    hint = "save its bytes in a file first: inputs are read in pieces, and again if a task is retried"
    if not stat.S_ISREG(status.st_mode):
        raise error(Code.INPUT_NOT_FOUND, f"{path} is not a regular file", hint=hint)
    if not readable:
        raise error(Code.INPUT_NOT_FOUND, f"{path} cannot be read: permission denied", hint=f"chmod +r {path}")
    if not status.st_size and _has_bytes(path):
        raise error(Code.INPUT_NOT_FOUND, f"{path} has bytes, but does not say how many (as in /proc)", hint=hint)
    return FileStamp(path, status.st_size, status.st_mtime_ns)


def arrow_path(path: str) -> str:
    r"""The path as text that Arrow takes: what is not UTF-8 in a file's name is spelled out, as in "caf\xe9.txt"."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _has_bytes(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return bool(os.read(handle, 1))
        finally:
            os.close(handle)
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def items_of(source: Any) -> list[str]:
    """The paths, globs and directories that a source lists; an iterator is used up. KM0107 for what is no source."""
    if isinstance(source, str | os.PathLike):
        return [_text(source)]
    if isinstance(source, bytes) or hasattr(source, "read"):  # iterable, yet no list of paths
        raise _bad_source(source)
    try:
        items = [_text(item) for item in source]
    except TypeError:
        raise _bad_source(source) from None
    if not items:
        raise error(Code.INPUT_NOT_FOUND, "the list of inputs is empty", hint="name at least one file")
    return items


def _text(item: Any) -> str:
    if not isinstance(item, str | os.PathLike):
        raise _bad_source(item)
    path = os.fspath(item)
    if not isinstance(path, str):
        path = os.fsdecode(path)
    if not is_file_name(path):
        raise error(Code.BAD_SETTING, f"{path!r} is not a path", hint="name a file, a glob or a directory")
    if "://" in path and not os.path.exists(path):
        hint = "copy it to a local or shared file system first"
        raise error(Code.INPUT_NOT_FOUND, f"{path}: only paths of this machine can be read", hint=hint)
    return os.path.expanduser(path)


def is_file_name(path: str) -> bool:
    """Tell whether the system could have a file of this name: half a surrogate pair is no byte of one, nor is NUL."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return bool(path) and "\0" not in path


def _bad_source(value: object) -> KernelmillError:
    what = f"a source cannot be {article(value)}"
    hint = "give a path, a glob, a directory, or a list of them"
    if hasattr(value, "read"):
        hint = "pass the path: inputs are read in pieces, and again if a task is retried"
    return error(Code.BAD_SETTING, what, hint=hint)


def root_of(item: str) -> str:
    """The folder, with its slash, below which the files of an item of a source lie; "" for the current one."""
    if os.path.isdir(item):
        return os.path.join(item, "")
    if not os.path.exists(item) and glob.has_magic(item):
        return _fixed_part(item)
    return os.path.join(os.path.dirname(item), "") if os.path.dirname(item) else ""


def _files_of(path: str, suffixes: Sequence[str] | None) -> list[str]:
    try:
        if os.path.isdir(path):
            return _directory(path, suffixes)
        if not os.path.exists(path) and glob.has_magic(path):
            return _glob(path, suffixes)
    except KernelmillError:  # KM0201 is an OSError too
        raise
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return [path]


def _directory(path: str, suffixes: Sequence[str] | None) -> list[str]:
    if os.path.isfile(os.path.join(path, MANIFEST_NAME)):
        return _manifest_files(path)
    found = _sorted(_walk(path))
    kept = [name for name in found if suffixes is None or name.endswith(tuple(suffixes))]
    if not kept:
        kinds = f" ending in {' or '.join(suffixes)}" if suffixes else ""
        others = f"; it has {len(found)} others, such as {os.path.basename(found[0])}" if found else ""
        hint = "names starting with _ or . are skipped; name files by a glob to take others"
        raise error(Code.INPUT_NOT_FOUND, f"the directory {path} has no files{kinds}{others}", hint=hint)
    return kept


def _walk(top: str) -> Iterator[str]:
    def fail(exc: OSError) -> None:
        raise exc

    for folder, folders, files in os.walk(top, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        for name in files:
            path = os.path.join(folder, name)
            if not name.startswith(("_", ".")) and not _is_special(path):
                yield path


def _is_special(path: str) -> bool:
    """Sockets, pipes and devices that lie in a directory are no input; a dangling link is left to be an error."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _glob(pattern: str, suffixes: Sequence[str] | None) -> list[str]:
    paths: list[str] = []
    for match in _sorted(glob.iglob(pattern, recursive=True)):
        if _is_hidden(match, pattern):
            continue
        if not os.path.isdir(match):
            paths.append(match)
        elif "**" not in pattern:  # with ** the files below are matches of their own
            paths += _directory(match, suffixes)
    if not paths:
        folder = os.path.dirname(_fixed_part(pattern)) or "."
        what = f"no file matches {pattern}"
        if not os.path.isdir(folder):
            raise error(Code.INPUT_NOT_FOUND, f"{what}: there is no directory {folder}", hint=_above(folder))
        os.listdir(folder)  # glob takes a folder that cannot be read for an empty one
        raise error(Code.INPUT_NOT_FOUND, what, hint=_there(folder))
    return _sorted(paths)


def _is_hidden(match: str, pattern: str) -> bool:
    """Whether a wildcard came upon a name that starts with `_` or `.`; `_*.txt` asks for such names."""
    asked = {part[:1] for part in pattern.split(os.sep)}
    found = match[len(_fixed_part(pattern)) :].split(os.sep)
    return any(part.startswith(("_", ".")) and part[0] not in asked for part in found)


def _fixed_part(pattern: str) -> str:
    """The folders at the start of `pattern` that hold no wildcard, with the last slash."""
    first = min(index for index in (pattern.find(char) for char in "*?[") if index >= 0)
    return pattern[: pattern.rfind(os.sep, 0, first) + 1]


def _manifest_files(path: str) -> list[str]:
    manifest = os.path.join(path, MANIFEST_NAME)
    hint = "its part files can be read as they are: name them by a glob, " + os.path.join(path, "*.parquet")
    try:
        names = [entry["name"] for entry in json.loads(Path(manifest).read_bytes())["files"]]
        inside = all(name and not os.path.isabs(name) and ".." not in name.split("/") for name in names)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise error(Code.FORMAT, f"{manifest} is not a manifest", hint=hint) from exc
    if not inside:
        raise error(Code.FORMAT, f"{manifest} names files outside its directory", hint=hint)
    return _sorted(os.path.join(path, name) for name in names)


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=os.fsencode)


def _missing(path: str) -> KernelmillError:
    folder = os.path.dirname(path) or "."
    if path == "-":
        hint = "standard input cannot be read: save it in a file first, inputs are read in pieces"
        return error(Code.INPUT_NOT_FOUND, "there is no file -", hint=hint)
    if os.path.islink(path):
        what = f"{path} is a link to {os.readlink(path)}, which is not there"
        return error(Code.INPUT_NOT_FOUND, what, hint="remove the link, or restore the file that it names")
    if os.path.isdir(folder):
        return error(Code.INPUT_NOT_FOUND, f"there is no file {path}", hint=_near(path) or _there(folder))
    return error(Code.INPUT_NOT_FOUND, f"there is no file {path}: no directory {folder}", hint=_above(folder))


def _near(path: str) -> str:
    """A name beside `path` that looks like it, as a hint."""
    folder = os.path.dirname(path) or "."
    near = difflib.get_close_matches(os.path.basename(path), _names_in(folder), n=1)
    return f"did you mean {os.path.join(os.path.dirname(path), near[0])}?" if near else ""


def _above(folder: str) -> str:
    """What there is instead of a missing folder, as a hint: a name that looks like its own, else its nearest parent."""
    parent = os.path.dirname(folder)
    while parent and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return _near(folder) or _there(parent or ".")


def _there(folder: str) -> str:
    names = _names_in(folder)
    if not names:
        return f"the directory {folder} is empty"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the directory {folder} has {', '.join(names[:3])}{more}"


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []  # only a hint would have come of it


def _unreadable(path: str, exc: OSError) -> KernelmillError:
    name = exc.filename or path
    what = f"{name} cannot be read: {(exc.strerror or str(exc)).lower()}"
    return error(Code.INPUT_NOT_FOUND, what, hint="check the path and its permissions")
