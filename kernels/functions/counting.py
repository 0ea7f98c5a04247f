"""`enumerate` in users' functions: numba's own, which knows no `start=`."""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import inspect
from typing import Any

from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin


def user_enumerate(iterable: Any, start: Any = 0) -> Any:
    """enumerate(iterable, start)"""
    return enumerate(iterable, start)


@infer_global(user_enumerate)
class _EnumerateTemplate(AbstractTemplate):
    key = user_enumerate

    def generic(self, args, kws):
        """What numba says of the same arguments in their order."""
        given = (*args, *(kws[name] for name in ("iterable", "start")[len(args) :] if name in kws))
        if len(given) != len(args) + len(kws):
            return None
        sig = self.context.resolve_function_type(enumerate, given, {})
        return sig.replace(pysig=inspect.signature(user_enumerate)) if kws and sig is not None else sig


@lower_builtin(user_enumerate, types.VarArg(types.Any))
def _enumerate(context, builder, sig, args):
    function = context.get_function(context.typing_context.resolve_value_type(enumerate), sig)
    return function(builder, args)
