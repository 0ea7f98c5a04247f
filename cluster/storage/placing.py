"""The public names of an output: a folder, or a file with its rejects beside it, all at once and never by halves.

What is there tells whether an earlier process did it: `final` is gone, or holds what was exchanged for it; a file keeps
its staged name too.
"""

from __future__ import annotations

import contextlib
import errno
import os

from kernelmill.cluster.storage.folders import held
from kernelmill.cluster.storage.layout import FINAL
from kernelmill.cluster.storage.staged import read_whole, write_again
from kernelmill.engine.commit import MANIFEST_NAME
from kernelmill.engine.durable import exchange, fsync_folder, link_new
from kernelmill.engine.leftovers import OLD, OLD_REJECTS, REJECTS, SINGLE, rejects_path, same_file
from kernelmill.engine.staging import check_target, exists_error


def is_public(staging: str, target: str, noted: bytes) -> bool:
    """Whether the folder is in place: its manifest is there, and `final` is gone or holds what was there before."""
    final = read_whole(os.path.join(staging, FINAL, MANIFEST_NAME))
    return read_whole(os.path.join(target, MANIFEST_NAME)) == noted and final != noted


def place_folder(staging: str, target: str, mode: str, noted: bytes) -> None:
    """Give `final` the name of the output, in exchange for what is there if it is to be overwritten. Raises KM0501."""
    check_target(target, "overwrite" if mode == "overwrite" else "error")
    final = os.path.join(staging, FINAL)
    with held(final) as folder:  # what is renamed below is a folder, rather than a link to somewhere
        if read_whole(os.path.join(folder, MANIFEST_NAME)) != noted:  # damaged since an earlier process wrote it
            write_again(os.path.join(folder, MANIFEST_NAME), noted)
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


def place_single(staging: str, target: str, mode: str) -> None:
    """Give the staged file the name of the output, and its rejects theirs before it. Raises KM0501."""
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
