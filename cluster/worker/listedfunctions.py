"""Whether the functions that a worker lists can be had: found out in a process of their own, as a slot would find them.

The supervisor imports no module of users. Run as a module this is that process: `-m ... FD MODULE:FUNCTION...`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Final

from kernelmill.cluster.children import module_command
from kernelmill.engine.errors import Code, error

PATIENCE_S: Final = 120.0
_TEXT_BYTES_MAX: Final = 4096
_ALL_THERE: Final = "all there"
_OPTION: Final = "--registered"


def check_listed(names: Sequence[str], patience_s: float = PATIENCE_S) -> None:
    """Raise KM0107, which names the function, unless all of them can be imported where slots of this worker run."""
    if not names:
        return
    ours, theirs = os.pipe()
    try:
        command = module_command("kernelmill.cluster.worker.listedfunctions", str(theirs), *names)
        done = subprocess.run(
            command, pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=patience_s
        )
        os.close(theirs)
        theirs = -1
        said = os.read(ours, _TEXT_BYTES_MAX).decode(errors="replace")
    except subprocess.TimeoutExpired as problem:
        what = f"the modules of {', '.join(names)} were not imported within {patience_s:g} s"
        raise error(Code.BAD_SETTING, what, where=_OPTION, hint="import them by hand and see") from problem
    finally:
        for handle in (ours, theirs):
            if handle >= 0:
                os.close(handle)
    if said != _ALL_THERE:
        what = said or f"the process that imported {', '.join(names)} ended with status {done.returncode}"
        hint = f"install its module where this worker runs, for {sys.executable}, or put its folder on PYTHONPATH"
        raise error(Code.BAD_SETTING, what, where=_OPTION, hint=hint)


def _problem_of(name: str) -> str:
    """Why a function cannot be had, as a text; empty if it can."""
    module, _, function = name.partition(":")
    try:
        found = importlib.import_module(module)
    except BaseException as problem:  # whatever a module does when it is imported
        return f"{name} cannot be had here: {type(problem).__name__}: {problem}"
    if not isinstance(getattr(found, function, None), FunctionType):
        return f"{name} cannot be had here: module {module} has no function {function}"
    return ""


if __name__ == "__main__":
    problems = filter(None, map(_problem_of, sys.argv[2:]))
    os.write(int(sys.argv[1]), next(problems, _ALL_THERE).encode(errors="replace")[:_TEXT_BYTES_MAX])
