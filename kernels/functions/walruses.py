"""`if (n := len(line)) > 1`: assignments in expressions, as numba reads them.

Python stores a copy of the value and goes on with the value. numba forgets the value then, for it takes a store to be
the end of it. So the value is stored, and the variable read.
"""

from __future__ import annotations

import dis
from itertools import pairwise
from types import CodeType

_LOADS = {"STORE_FAST": "LOAD_FAST", "STORE_DEREF": "LOAD_DEREF"}


def with_loads(code: CodeType) -> CodeType:
    """The code with a store and a load for each copy that is stored, in as many bytes.

    As Python before 3.13 makes it; variables beyond the 256th stay as they are.
    """
    changed = bytearray(code.co_code)
    for copy, store in pairwise(dis.get_instructions(code)):
        if copy.opname == "COPY" and copy.arg == 1 and store.opname in _LOADS and (store.arg or 0) < 256:
            place = store.arg or 0
            load = dis.opmap[_LOADS[store.opname]]
            changed[copy.offset : copy.offset + 4] = bytes([dis.opmap[store.opname], place, load, place])
    return code.replace(co_code=bytes(changed)) if changed != code.co_code else code
