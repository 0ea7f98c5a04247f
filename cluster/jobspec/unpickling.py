"""Users' functions, sources and sinks from their bytes: the only place of the package that unpickles what another
process sent. `opening.py` calls it once the signature over these very bytes was checked, in a task process.
"""

from __future__ import annotations

import linecache
import pickle

from kernelmill.cluster.jobspec.code import FIELDS, Contents
from kernelmill.engine.errors import Code, error
from kernelmill.engine.userfunctions import UserFunction, is_interrupt


def unpack_code(data: bytes) -> Contents:
    """Unpickle what `pack_code` made. It runs code: only for bytes whose signature was checked. Raises KM0609."""
    try:
        functions, sources, sink, texts = pickle.loads(data)
    except BaseException as problem:  # an object's own __setstate__ may raise whatever it likes
        if is_interrupt(problem):
            raise
        what = f"the job's functions cannot be opened here: {type(problem).__name__}: {problem}"
        hint = "install the modules that they import on the workers, in the client's versions"
        raise error(Code.CODE_REFUSED, what, hint=hint) from problem
    for path, text in texts.items():  # compiling and messages look at lines of files that are not here
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    made = tuple(UserFunction(**dict(zip(FIELDS, fields, strict=True))) for fields in functions)
    return Contents(made, sources, sink)
