"""Users' functions, sources and sinks from their bytes: the only place of the package that unpickles what another
process sent. `opening.py` calls it once the signature over these very bytes was checked, in a task process.
"""

from __future__ import annotations

import linecache
import pickle

from kernelmill.cluster.jobspec.code import FIELDS, Contents
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.userfunctions import UserFunction, is_interrupt, told


def unpack_code(data: bytes) -> Contents:
    """Unpickle what `pack_code` made. It runs code: only for bytes whose signature was checked.

    Raises KM0609, or KM0401 where memory does not do.
    """
    try:
        functions, sources, sink, texts = pickle.loads(data)
    except BaseException as problem:  # an object's own __setstate__ may raise whatever it likes
        if is_interrupt(problem):
            raise
        raise _opening_failed(problem) from problem
    for path, text in texts.items():  # compiling and messages look at lines of files that are not here
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    made = tuple(UserFunction(**dict(zip(FIELDS, fields, strict=True))) for fields in functions)
    return Contents(made, sources, sink)


def _opening_failed(problem: BaseException) -> KernelmillError:
    """What to tell of what unpickling raised: a module that is missing here, or what an object's own code met."""
    code, hint = Code.CODE_REFUSED, "install the modules that they import on the workers, in the client's versions"
    match problem:
        case ImportError() | AttributeError():
            pass
        case MemoryError():
            code = Code.MEMORY_LIMIT
            hint = "an object that they hold takes more memory than there is: make it smaller, or give the worker more"
        case OSError():
            hint = "an object that they hold met this when it was unpickled: look at that worker's disks and limits"
        case _:
            hint = "an object that they hold raised it when it was unpickled: look at its __setstate__ and __reduce__"
    return error(code, f"the job's functions cannot be opened here: {told(problem)}", hint=hint)
