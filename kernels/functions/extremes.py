"""`max` and `min` in users' functions: of texts and tuples, and with key= and default=.

As CPython's: the first of what is equal, and the places of NaN decide. Pairs of an item and its key stand for a key
that captures (`capturing`). Importing this module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import inspect
from typing import Any

from numba import types
from numba.core import ir, ir_utils
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.functions.guards import is_guarded
from kernelmill.kernels.text.jitting import as_argument, call, result_type, user_function
from kernelmill.kernels.text.registering import function
from kernelmill.kernels.text.texttype import TEXT


def user_max(*values: Any, **options: Any) -> Any:
    """max(values, key=None, default=...)"""
    return max(*values, **options)


def user_min(*values: Any, **options: Any) -> Any:
    """min(values, key=None, default=...)"""
    return min(*values, **options)


# By key, or with a default ------------------------------------------------------------------------------------------


def _greatest_by_key(values, key):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    if len(found) == 0:
        raise ValueError("max() arg is an empty sequence")
    best = found[0]
    height = key(best)
    for place in range(1, len(found)):
        other = key(found[place])
        if other > height:
            best, height = found[place], other
    return best


def _least_by_key(values, key):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    if len(found) == 0:
        raise ValueError("min() arg is an empty sequence")
    best = found[0]
    height = key(best)
    for place in range(1, len(found)):
        other = key(found[place])
        if other < height:
            best, height = found[place], other
    return best


def _greatest_or(values, default):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    return max(found) if len(found) > 0 else default


def _least_or(values, default):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    return min(found) if len(found) > 0 else default


def _greatest_by_key_or(values, default, key):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    return _greatest_by_key(found, key) if len(found) > 0 else default


def _least_by_key_or(values, default, key):
    found = [one for one in values]  # noqa: C416 - numba makes it faster than list()
    return _least_by_key(found, key) if len(found) > 0 else default


def _greatest_of_pairs(pairs, _of_pairs):
    if len(pairs) == 0:
        raise ValueError("max() arg is an empty sequence")
    best, height = pairs[0]
    for place in range(1, len(pairs)):
        one, other = pairs[place]
        if other > height:
            best, height = one, other
    return best


def _least_of_pairs(pairs, _of_pairs):
    if len(pairs) == 0:
        raise ValueError("min() arg is an empty sequence")
    best, height = pairs[0]
    for place in range(1, len(pairs)):
        one, other = pairs[place]
        if other < height:
            best, height = one, other
    return best


def _greatest_of_pairs_or(pairs, _of_pairs, default):
    return _greatest_of_pairs(pairs, _of_pairs) if len(pairs) > 0 else default


def _least_of_pairs_or(pairs, _of_pairs, default):
    return _least_of_pairs(pairs, _of_pairs) if len(pairs) > 0 else default


def _greater_by_key(a, b, key):
    return b if key(b) > key(a) else a


def _lesser_by_key(a, b, key):
    return b if key(b) < key(a) else a


for _one in (
    *(_greatest_by_key, _least_by_key, _greatest_or, _least_or, _greatest_by_key_or, _least_by_key_or),
    *(_greatest_of_pairs, _least_of_pairs, _greatest_of_pairs_or, _least_of_pairs_or, _greater_by_key, _lesser_by_key),
):
    user_function(_one)

_FUNCTIONS: dict[Any, dict[tuple[int, tuple[str, ...]], Any]] = {
    user_max: {
        (1, ("key",)): _greatest_by_key,
        (1, ("default",)): _greatest_or,
        (1, ("default", "key")): _greatest_by_key_or,
        (1, ("_of_pairs",)): _greatest_of_pairs,
        (1, ("_of_pairs", "default")): _greatest_of_pairs_or,
        (2, ("key",)): _greater_by_key,
    },
    user_min: {
        (1, ("key",)): _least_by_key,
        (1, ("default",)): _least_or,
        (1, ("default", "key")): _least_by_key_or,
        (1, ("_of_pairs",)): _least_of_pairs,
        (1, ("_of_pairs", "default")): _least_of_pairs_or,
        (2, ("key",)): _lesser_by_key,
    },
}
_BY_PLACE = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _register(name: Any) -> None:
    functions = _FUNCTIONS[name]

    class Template(AbstractTemplate):
        key = name

        def generic(self, args, kws):
            """The signature, its options in the order of their names; None for what Python would not take."""
            options = tuple(sorted(kws))
            function = functions.get((len(args), options))
            is_iterable = isinstance(args[0], types.IterableType)
            if function is None or isinstance(kws.get("key"), types.NoneType) or (len(args) == 1 and not is_iterable):
                return None
            passed = tuple(as_argument(one) for one in (*args, *(kws[one] for one in options)))
            if len(args) == 2 and passed[0] != passed[1]:
                return None
            made = signature(result_type(function, passed), *passed)
            names = [*("a", "b")[: len(args)], *options]
            return made.replace(pysig=inspect.Signature([inspect.Parameter(one, _BY_PLACE) for one in names]))

    def lower(context, builder, sig, args):
        names = list(sig.pysig.parameters)
        count = 2 if "b" in names else 1
        function = functions[count, tuple(names[count:])]
        return call(context, builder, function, sig.args, args)

    infer_global(name)(Template)
    lower_builtin(name, types.VarArg(types.Any))(lower)


for _name in _FUNCTIONS:
    _register(_name)


@register_rewrite("before-inference")
class _Extremes(Rewrite):
    """Makes max and min with options ours, in users' functions."""

    def match(self, func_ir, block, typemap, calltypes):
        """True if the block has such a call."""
        self._func_ir, self._block = func_ir, block
        return is_guarded(func_ir.func_id.code) and any(map(self._ours_for, block.find_insts(ir.Assign)))

    def _ours_for(self, statement: Any) -> Any:
        value = statement.value
        if not isinstance(value, ir.Expr) or value.op != "call" or not value.kws:
            return None
        known = ir_utils.guard(ir_utils.get_definition, self._func_ir, value.func)
        builtin = known.value if isinstance(known, ir.Global | ir.FreeVar) else None
        return user_max if builtin is max else user_min if builtin is min else None

    def apply(self):
        """The block with calls of ours."""
        made = ir.Block(self._block.scope, self._block.loc)
        for statement in self._block.body:
            ours = self._ours_for(statement) if isinstance(statement, ir.Assign) else None
            if ours is not None:
                value, loc = statement.value, statement.loc
                function = ir.Var(made.scope, ir_utils.mk_unique_var("$extreme_"), loc)
                known = ir.Global(ours.__name__, ours, loc)
                called = ir.Expr.call(function, list(value.args), value.kws, loc)
                self._func_ir._definitions[function.name] = [known]
                definitions = self._func_ir._definitions[statement.target.name]
                definitions[:] = [called if one is value else one for one in definitions]
                made.append(ir.Assign(known, function, loc))
                statement = ir.Assign(called, statement.target, loc)
            made.append(statement)
        return made


# Of several texts, or two tuples ------------------------------------------------------------------------------------


@function(max, TEXT, TEXT)
@user_function
def greater(a: Any, b: Any) -> Any:
    """max(a, b)"""
    return b if b > a else a


@function(min, TEXT, TEXT)
@user_function
def lesser(a: Any, b: Any) -> Any:
    """min(a, b)"""
    return b if b < a else a


@function(max, TEXT, TEXT, TEXT)
@user_function
def greatest(a: Any, b: Any, c: Any) -> Any:
    """max(a, b, c)"""
    return greater(greater(a, b), c)


@function(min, TEXT, TEXT, TEXT)
@user_function
def least(a: Any, b: Any, c: Any) -> Any:
    """min(a, b, c)"""
    return lesser(lesser(a, b), c)


def _of_tuples(name: Any, chosen: Any) -> None:
    """Let compiled code call `name` of two tuples."""

    @infer_global(name)
    class Template(AbstractTemplate):
        key = name
        prefer_literal = True

        def generic(self, args, kws):
            if kws or len(args) != 2 or not all(isinstance(one, types.BaseTuple) for one in args):
                return None
            unified = self.context.unify_pairs(*map(as_argument, args))
            if unified is None:
                return None
            passed = unified, unified
            return signature(result_type(chosen, passed), *passed)

    @lower_builtin(name, types.BaseTuple, types.BaseTuple)
    def lower(context, builder, sig, args):
        return call(context, builder, chosen, sig.args, args)


_of_tuples(max, user_function(lambda a, b: b if b > a else a))
_of_tuples(min, user_function(lambda a, b: b if b < a else a))
