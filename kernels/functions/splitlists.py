"""What split gives as a list of its own: where a user's function changes it, joins it to a list, compares or adds it.

Pieces are found when asked for and cannot be changed. So a split whose result may be changed, by whatever name, becomes
a list where it is made: then all names are names of one list, as in Python. Importing this module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.core import ir, ir_utils
from numba.core.imputils import impl_ret_borrowed
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.functions.guards import is_guarded
from kernelmill.kernels.text.jitting import call, result_type, user_function
from kernelmill.kernels.text.pieces import PiecesType
from kernelmill.kernels.text.registering import INT, function, method_of
from kernelmill.kernels.text.texttype import TEXT, constant

_CHANGING = frozenset({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})
_SPLITTING = frozenset({"findall", "rsplit", "split", "splitlines"})


def as_list(value: Any) -> Any:
    """A list of the pieces of a text; anything else as it is."""
    return value


@user_function
def list_of(pieces: Any) -> Any:
    """list(pieces)"""
    return [one for one in pieces]  # noqa: C416 - numba makes it faster than list()


_empty = constant("")


@user_function
def no_texts() -> Any:
    """An empty list of texts."""
    return [_empty() for _ in range(0)]


@infer_global(as_list)
class _AsList(AbstractTemplate):
    key = as_list

    def generic(self, args, kws):
        """A list of texts of pieces."""
        (given,) = args
        return signature(result_type(list_of, args) if isinstance(given, PiecesType) else given, given)


@lower_builtin(as_list, types.VarArg(types.Any))
def _as_list(context, builder, sig, args):
    if isinstance(sig.args[0], PiecesType):
        return call(context, builder, list_of, sig.args, args)
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


# Which splits -------------------------------------------------------------------------------------------------------


class _Names:
    """The variables of a function, those of one value together: `changed` has one of each such set."""

    def __init__(self, func_ir: Any) -> None:
        self._func_ir = func_ir
        self._same: dict[str, str] = {}
        self._splits: list[str] = []
        statements = [one for block in func_ir.blocks.values() for one in block.body]
        changed = []
        for one in statements:
            if isinstance(one, ir.SetItem | ir.StaticSetItem | ir.DelItem):
                changed.append(one.target.name)
            elif isinstance(one, ir.Assign):
                changed += self._changed_by(one)
        self.changed = {self.first_of(name) for name in changed}

    def first_of(self, name: str) -> str:
        """The name that stands for all of one value."""
        while name in self._same:
            name = self._same[name]
        return name

    def _join(self, one: str, other: str) -> None:
        one, other = self.first_of(one), self.first_of(other)
        if one != other:
            self._same[one] = other

    def _changed_by(self, statement: Any) -> list[str]:
        """The variables that a statement changes, or gives a value besides splits; it joins what it makes one."""
        value, target = statement.value, statement.target.name
        if isinstance(value, ir.Var):
            self._join(value.name, target)
        elif isinstance(value, ir.Expr) and value.op == "inplace_binop":
            self._join(value.lhs.name, target)
            return [target]
        elif isinstance(value, ir.Expr) and value.op == "getattr" and value.attr in _CHANGING:
            return [value.value.name]
        elif isinstance(value, ir.Expr) and value.op in ("build_list", "binop", "call"):
            if not self.is_split(value):
                return [target]
            if value.op == "call":
                self._splits.append(target)
        return []

    def is_empty_list(self, statement: Any) -> bool:
        """True for a [] that stands beside what split gives."""
        value = statement.value
        if not isinstance(value, ir.Expr) or value.op != "build_list" or value.items:
            return False
        name: str = statement.target.name
        return self.first_of(name) in set(map(self.first_of, self._splits))

    def is_split(self, value: Any) -> bool:
        """True for calls of split and its like, and for slices."""
        if not isinstance(value, ir.Expr):
            return False
        if value.op == "static_getitem":
            return isinstance(value.index, slice)
        if value.op == "getitem":
            index = ir_utils.guard(ir_utils.get_definition, self._func_ir, value.index)
            return isinstance(index, ir.Expr) and index.op == "call" and self._known(index.func) is slice
        if value.op != "call":
            return False
        called: Any = ir_utils.guard(ir_utils.get_definition, self._func_ir, value.func)
        return isinstance(called, ir.Expr) and called.op == "getattr" and bool(called.attr in _SPLITTING)

    def _known(self, variable: Any) -> Any:
        definition = ir_utils.guard(ir_utils.get_definition, self._func_ir, variable)
        return getattr(definition, "value", None)


_PREFIX = "$split_"


@register_rewrite("before-inference")
class _Changed(Rewrite):
    """Puts `as_list` behind each split, and each slice, that becomes a value which the function changes."""

    def match(self, func_ir, block, typemap, calltypes):
        """True if the block has one."""
        if not is_guarded(func_ir.func_id.code):
            return False
        if not hasattr(func_ir, "_kernelmill_names"):
            func_ir._kernelmill_names = _Names(func_ir)
        self._func_ir, self._block, self._names = func_ir, block, func_ir._kernelmill_names
        return any(map(self._is_changed, block.find_insts(ir.Assign)))

    def _is_changed(self, statement: Any) -> bool:
        name = statement.target.name
        if self._names.is_empty_list(statement):
            return True
        if name.startswith(_PREFIX) or self._names.first_of(name) not in self._names.changed:
            return False
        return bool(self._names.is_split(statement.value))

    def apply(self):
        """The block with lists."""
        made = ir.Block(self._block.scope, self._block.loc)
        for statement in self._block.body:
            if isinstance(statement, ir.Assign) and self._is_changed(statement):
                value, loc = statement.value, statement.loc
                is_empty = self._names.is_empty_list(statement)
                given = [] if is_empty else [self._assigned(made, value, loc)]
                known = ir.Global("list", no_texts if is_empty else as_list, loc)
                called = ir.Expr.call(self._assigned(made, known, loc), given, (), loc)
                definitions = self._func_ir._definitions[statement.target.name]
                definitions[:] = [called if one is value else one for one in definitions]
                statement = ir.Assign(called, statement.target, loc)
            made.append(statement)
        return made

    def _assigned(self, block: Any, value: Any, loc: Any) -> Any:
        variable = ir.Var(block.scope, ir_utils.mk_unique_var(_PREFIX), loc)
        self._func_ir._definitions[variable.name] = [value]
        block.append(ir.Assign(value, variable, loc))
        return variable


# What lists do, of pieces ---------------------------------------------------------------------------------------------


@user_function
def _are_equal(a: Any, b: Any) -> Any:
    if len(a) != len(b):
        return False
    for one, other in zip(a, b):  # noqa: B905, SIM110 - numba knows no strict=, and all() becomes this
        if one != other:
            return False
    return True


@user_function
def _is_less(a: Any, b: Any) -> Any:
    for one, other in zip(a, b):  # noqa: B905 - numba knows no strict=
        if one != other:
            return one < other
    return len(a) < len(b)


@user_function
def _added(a: Any, b: Any) -> Any:
    made = [one for one in a]  # noqa: C416 - numba makes it faster than list()
    for one in b:
        made.append(one)
    return made


_LISTS: Any = types.List


def _register(a: Any, b: Any) -> None:
    """Comparisons and + of two of these kinds; texts are what the lists hold."""

    def given(body: Any) -> Any:
        return user_function(body)

    function(operator.eq, a, b)(given(lambda one, other: _are_equal(one, other)))
    function(operator.ne, a, b)(given(lambda one, other: not _are_equal(one, other)))
    function(operator.lt, a, b)(given(lambda one, other: _is_less(one, other)))
    function(operator.gt, a, b)(given(lambda one, other: _is_less(other, one)))
    function(operator.le, a, b)(given(lambda one, other: not _is_less(other, one)))
    function(operator.ge, a, b)(given(lambda one, other: not _is_less(one, other)))
    function(operator.add, a, b)(given(lambda one, other: _added(one, other)))


for _pair in ((PiecesType, PiecesType), (PiecesType, _LISTS), (_LISTS, PiecesType)):
    _register(*_pair)


@function(operator.iadd, _LISTS, PiecesType)
@user_function
def extend(values: Any, pieces: Any) -> Any:
    """values += text.split()"""
    for one in list_of(pieces):
        values.append(one)
    return values


@function(operator.mul, PiecesType, INT)
@user_function
def repeated(pieces: Any, times: Any) -> Any:
    """text.split() * times"""
    return list_of(pieces) * times


@function(operator.mul, INT, PiecesType)
@user_function
def times(count: Any, pieces: Any) -> Any:
    """times * text.split()"""
    return list_of(pieces) * count


@method_of(PiecesType, "count", TEXT)
@user_function
def count(pieces: Any, text: Any) -> Any:
    """text.split().count(other)"""
    found = 0
    for one in pieces:
        if one == text:
            found += 1
    return found


@method_of(PiecesType, "index", TEXT)
@user_function
def index(pieces: Any, text: Any) -> Any:
    """text.split().index(other)"""
    for place, one in enumerate(pieces):
        if one == text:
            return place
    raise ValueError("it is not in the list")


@method_of(PiecesType, "copy")
@user_function
def copy(pieces: Any) -> Any:
    """text.split().copy()"""
    return list_of(pieces)
