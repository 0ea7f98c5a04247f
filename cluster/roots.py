"""Roots: a path of a job is a root's name and parts below it; each process knows by its own settings where roots lie.

What goes out is found by `Roots.place_of`, what comes in is opened by `Roots.path_of`, which lets nothing out of a
root: parts that are empty, absolute, `.` or `..` are refused, and links are followed before it is looked where they
lead. Pure but for the file system; every process of a cluster uses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from kernelmill.cluster.fields import PEER_NAME_PATTERN, Place
from kernelmill.engine.errors import BadSettingError, Code, KernelmillError, error

SCRATCH = "scratch"
"""The root in which `collect` leaves rows for the client, where there is one of this name."""
WHOLE_DISK = "files"
"""The root of a LocalCluster that is this machine's whole file system."""
_NAME = re.compile(PEER_NAME_PATTERN)
_PARTS_MAX = 64
_PART_CHARACTERS_MAX = 256


class RootMissingError(BadSettingError):
    """KM0107: a process has no root of a name that others have, or another folder under it; others may do better."""


class Roots:
    """The roots of one process: name -> folder, as absolute path with links followed. Raises KM0107 for bad ones.

    `whose` names the process in errors.
    """

    def __init__(self, folders: Mapping[str, str | os.PathLike[str]], whose: str = "this process") -> None:
        self.whose = whose
        self._folders: dict[str, str] = {}
        for name, given in folders.items():
            if not _NAME.match(name):
                hint = "a root's name has small letters, digits, '.', '_' and '-', as in data=/mnt/data"
                raise error(Code.BAD_SETTING, f"a root cannot be called {name!r}", hint=hint)
            folder = os.path.realpath(os.path.expanduser(os.fspath(given)))
            if not os.path.isdir(folder):
                raise error(Code.BAD_SETTING, f"root {name} is no folder", where=folder, hint="make or mount it first")
            self._folders[name] = folder

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._folders))

    def items(self) -> list[tuple[str, str]]:
        """Names and folders, sorted."""
        return sorted(self._folders.items())

    def folder_of(self, name: str) -> str | None:
        """Where a root lies here, None if there is none of this name."""
        return self._folders.get(name)

    def place_of(self, path: str) -> Place:
        """The place of a path, in the innermost root that holds it. Raises KM0107 if none does.

        A path that need not be there yet: links of the folders above it are followed.
        """
        real = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
        best = max((one for one in self.items() if _is_below(real, one[1])), key=lambda one: len(one[1]), default=None)
        if best is None:
            what = f"{path} lies in none of the roots that the cluster shares: {self._listed()}"
            raise error(Code.BAD_SETTING, what, where=real, hint=_HINT)
        parts = tuple(os.path.relpath(real, best[1]).split(os.sep))
        if parts == (os.curdir,) or len(parts) > _PARTS_MAX or any(_is_bad(part) for part in parts):
            raise error(Code.BAD_SETTING, f"{path} cannot be named in root {best[0]}", where=real, hint=_HINT)
        return Place(best[0], parts)

    def path_of(self, place: Place) -> str:
        """The path here of a place that came from elsewhere. Raises KM0607 for one that leaves its root.

        RootMissingError, which is KM0107, where there is no root of its name.
        """
        folder = self._folders.get(place.root)
        if folder is None:
            hint = f"start {self.whose} with --root {place.root}=FOLDER"
            what = f"{self.whose} has no root {place.root}, only {self._listed()}"
            raise RootMissingError(Code.BAD_SETTING, what, hint=hint)
        if not place.parts or any(_is_bad(part) for part in place.parts):
            raise _outside(place)
        path = os.path.join(folder, *place.parts)
        if not _is_below(os.path.realpath(path), folder):
            raise _outside(place)
        return path

    def _listed(self) -> str:
        return ", ".join(f"{name}={folder}" for name, folder in self.items()) or "no roots"


def roots_given(texts: Iterable[str]) -> Roots:
    """The roots of options such as `--root data=/mnt/data`. Raises KM0107."""
    folders: dict[str, str] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            hint = "give NAME=FOLDER, as in data=/mnt/data"
            raise error(Code.BAD_SETTING, f"a root cannot be {text!r}", hint=hint)
        if name in folders:
            raise error(Code.BAD_SETTING, f"root {name} is given twice", hint="name each root once")
        folders[name] = folder
    return Roots(folders)


_HINT = (
    "put it below one of the roots, or give one to all: roots={'data': '/mnt/data'} here, --root data=/mnt/data there"
)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_bad(part: str) -> bool:
    if part in ("", os.curdir, os.pardir) or os.sep in part or "\0" in part or len(part) > _PART_CHARACTERS_MAX:
        return True
    return any("\ud800" <= letter <= "\udfff" for letter in part)  # a name that is not UTF-8: no message can carry it


def _outside(place: Place) -> KernelmillError:
    what = f"a path that leaves its root: {place.root}:{'/'.join(place.parts)}"
    return error(Code.PROTOCOL, what, hint="paths of a job are names below a root, without '..' and links out of it")
