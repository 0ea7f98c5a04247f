"""Staging folders of cluster jobs, found by their names: what is left where a master or client did not return."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"\.(.+)\.km-(?:trash-)?([0-9a-f]{32})", re.DOTALL)


class Leftover(NamedTuple):
    """The staging of a job, or what is left of it: where it is, the output it is for, and whose it is."""

    path: str
    target: str
    job: bytes


def staging_in(directory: str) -> list[Leftover]:
    """The staging folders of cluster jobs in `directory`, and beside it for the output that it is, by name."""
    place = os.path.realpath(directory)
    parent, name = os.path.split(place)
    beside = [one for one in _found_in(parent) if os.path.basename(one.target) == name]
    return sorted(beside + _found_in(place))


def touched_s(leftover: Leftover) -> float:
    """When something was last made in a staging folder, in seconds since 1970; 0 for one that is gone."""
    times = [0.0]
    for path in (leftover.path, os.path.join(leftover.path, "attempts")):
        try:
            times.append(os.lstat(path).st_mtime)
        except OSError:
            continue  # it is being deleted
    return max(times)


def _found_in(folder: str) -> list[Leftover]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    found = []
    for entry in entries:
        match = _NAME.fullmatch(entry.name)
        if match is not None and entry.is_dir(follow_symlinks=False):
            found.append(Leftover(entry.path, os.path.join(folder, match[1]), bytes.fromhex(match[2])))
    return found
