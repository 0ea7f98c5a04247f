"""Iterators that a user's function gives a second name, or puts into a tuple: refused, so that plain Python does it.

Compiled code has one place for the state of all iterators that one piece of code makes. An iterator that is made anew
there, in a loop, begins in the place of the one before it: nobody must have kept that by another name. Importing this
module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import re
from typing import Any

from numba import types
from numba.core import errors, ir
from numba.core.rewrites.registry import Rewrite, register_rewrite

from kernelmill.kernels.functions.guards import is_guarded

_PUT_IN = re.compile(r"closure__locals__.*_v\d+_(?=\D)")
_WHY = "an iterator that gets a second name, or is put into a tuple, is not supported in compiled functions"


@register_rewrite("after-inference")
class _Kept(Rewrite):
    """Changes nothing."""

    def match(self, func_ir, block, typemap, calltypes):
        """Raise TypingError if the block keeps an iterator."""
        if is_guarded(func_ir.func_id.code):
            for one in block.find_insts(ir.Assign):
                kind = typemap.get(one.target.name)
                if _is_named_anew(func_ir, one, kind, typemap) or _is_in_a_tuple(one, kind):
                    raise errors.TypingError(_WHY, loc=one.loc)
        return False

    def apply(self):
        """Never called."""
        raise AssertionError


def _is_named_anew(func_ir: Any, statement: Any, kind: Any, typemap: Any) -> bool:
    """True if a user's variable gets the iterator of another, or one that goes on with it, as `enumerate(other)`.

    `a, b = b, a` does it by names of the compiler's.
    """
    if not isinstance(kind, types.IteratorType) or _is_compilers(statement.target):
        return False
    value = statement.value
    while isinstance(value, ir.Var) and _is_compilers(value):
        made = func_ir._definitions[value.name]
        if len(made) != 1:
            return False
        (value,) = made
    if isinstance(value, ir.Expr) and value.op == "call":
        return any(isinstance(typemap.get(one.name), types.IteratorType) for one in value.args)
    return isinstance(value, ir.Var) and value.unversioned_name != statement.target.unversioned_name


def _is_compilers(variable: Any) -> bool:
    """True for a variable that is in no source: those begin with $, or with _v in a function that was put in here."""
    own = _PUT_IN.sub("", variable.name)
    return own.startswith(("$", "_v", "implicit"))  # the last is what a comprehension goes through


def _is_in_a_tuple(statement: Any, kind: Any) -> bool:
    value = statement.value
    is_tuple = isinstance(value, ir.Expr) and value.op == "build_tuple" and isinstance(kind, types.BaseTuple)
    return is_tuple and any(isinstance(one, types.IteratorType) for one in kind)
