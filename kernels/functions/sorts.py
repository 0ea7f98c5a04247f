"""`sorted` and `list.sort` in users' functions: a merge sort, stable as Python's, with key= and reverse=.

numba's own, quick, changes the order of what is equal. NaN has no order, and comes out where the algorithm leaves it:
that is Python's.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import inspect
from typing import Any

from numba import types
from numba.core import ir, ir_utils
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.functions.guards import is_guarded
from kernelmill.kernels.text.jitting import call, result_type, user_function


def user_sorted(values: Any, /, *, key: Any = None, reverse: Any = False) -> Any:
    """sorted(values, key=None, reverse=False)"""
    return sorted(values, key=key, reverse=reverse)


def user_sort(values: Any, /, *, key: Any = None, reverse: Any = False) -> None:
    """values.sort(key=None, reverse=False)"""
    values.sort(key=key, reverse=reverse)


def _register(name: Any, accepted: Any, functions: dict[tuple[str, ...], Any]) -> None:
    """Let compiled code call `name` of values of the type `accepted`; one function for each set of its options."""

    @infer_global(name)
    class Template(AbstractTemplate):
        key = name

        def generic(self, args, kws):
            """The signature, its options in the order of their names; None for what Python would not take."""
            given = {one: kind for one, kind in kws.items() if one != "key" or not isinstance(kind, types.NoneType)}
            if len(args) != 1 or not isinstance(args[0], accepted) or len(given) != len(kws):
                return None
            if not isinstance(types.unliteral(kws.get("reverse", types.boolean)), types.Boolean | types.Integer):
                return None
            passed = (args[0], *(types.unliteral(kws[one]) for one in sorted(kws)))
            if tuple(sorted(kws)) not in functions:
                return None
            function = functions[tuple(sorted(kws))]
            parameters = [inspect.Parameter(one, _BY_PLACE) for one in ("values", *sorted(kws))]
            made = signature(result_type(function, passed), *passed)
            return made.replace(pysig=inspect.Signature(parameters))

    @lower_builtin(name, types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        function = functions[tuple(list(sig.pysig.parameters)[1:])]
        return call(context, builder, function, sig.args, args)


_BY_PLACE = inspect.Parameter.POSITIONAL_OR_KEYWORD


@register_rewrite("before-inference")
class _Sort(Rewrite):
    """Makes `values.sort(...)` a call of `user_sort` in users' functions."""

    def match(self, func_ir, block, typemap, calltypes):
        self._func_ir, self._block = func_ir, block
        return is_guarded(func_ir.func_id.code) and any(map(self._list_of, block.body))

    def _list_of(self, statement: Any) -> Any:
        """The variable whose sort a statement calls; None for other statements."""
        value = getattr(statement, "value", None)
        if not isinstance(statement, ir.Assign) or not isinstance(value, ir.Expr) or value.op != "call":
            return None
        method = ir_utils.guard(ir_utils.get_definition, self._func_ir, value.func)
        is_sort = isinstance(method, ir.Expr) and method.op == "getattr" and method.attr == "sort"
        return method.value if is_sort and value.vararg is None else None

    def apply(self):
        made = ir.Block(self._block.scope, self._block.loc)
        for statement in self._block.body:
            owner = self._list_of(statement)
            if owner is not None:
                value, loc = statement.value, statement.loc
                function = ir.Var(made.scope, ir_utils.mk_unique_var("$sort_"), loc)
                known = ir.Global("sort", user_sort, loc)
                called = ir.Expr.call(function, [owner, *value.args], value.kws, loc)
                self._func_ir._definitions[function.name] = [known]
                definitions = self._func_ir._definitions[statement.target.name]
                definitions[:] = [called if one is value else one for one in definitions]
                made.append(ir.Assign(known, function, loc))
                statement = ir.Assign(called, statement.target, loc)
            made.append(statement)
        return made


# The sorts ------------------------------------------------------------------------------------------------------------


def _merge_sorted(values):
    """Runs of 1, 2, 4... rows merged from one list into another."""
    found = list(values)
    for value in found:
        if value != value:
            raise ValueError("NaN has no order")
    other = list(found)
    count = len(found)
    width = 1
    while width < count:
        for begin in range(0, count, 2 * width):
            middle, end = min(begin + width, count), min(begin + 2 * width, count)
            left, right, to = begin, middle, begin
            while left < middle and right < end:
                if found[right] < found[left]:
                    other[to] = found[right]
                    right += 1
                else:
                    other[to] = found[left]
                    left += 1
                to += 1
            while left < middle:
                other[to] = found[left]
                left += 1
                to += 1
            while right < end:
                other[to] = found[right]
                right += 1
                to += 1
        found, other = other, found
        width *= 2
    return found


def _order_of(keys, reverse):
    """The places of `keys` in their order, or against it; of equal ones the first comes first either way."""
    for key in keys:
        if key != key:
            raise ValueError("NaN has no order")
    count = len(keys)
    found = list(range(count))
    other = list(range(count))
    width = 1
    while width < count:
        for begin in range(0, count, 2 * width):
            middle, end = min(begin + width, count), min(begin + 2 * width, count)
            left, right = begin, middle
            for to in range(begin, end):
                takes_right = left == middle
                if left < middle and right < end:
                    first, second = keys[found[left]], keys[found[right]]
                    takes_right = first < second if reverse else second < first
                if takes_right:
                    other[to] = found[right]
                    right += 1
                else:
                    other[to] = found[left]
                    left += 1
        found, other = other, found
        width *= 2
    return found


def _sorted_by_key(values, key, reverse):
    found = list(values)
    return [found[place] for place in _order_of([key(one) for one in found], reverse)]


def _sorted_reverse(values, reverse):
    found = list(values)
    return [found[place] for place in _order_of(found, reverse)]


def _sorted_key(values, key):
    return _sorted_by_key(values, key, False)


def _sort(values):
    values[:] = _merge_sorted(values)


def _sort_key(values, key):
    values[:] = _sorted_by_key(values, key, False)


def _sort_reverse(values, reverse):
    values[:] = _sorted_reverse(values, reverse)


def _sort_by_key(values, key, reverse):
    values[:] = _sorted_by_key(values, key, reverse)


for _function in (
    *(_merge_sorted, _order_of, _sorted_by_key, _sorted_reverse, _sorted_key),
    *(_sort, _sort_key, _sort_reverse, _sort_by_key),
):
    user_function(_function)
_register(
    user_sorted,
    types.IterableType,
    {
        (): _merge_sorted,
        ("key",): _sorted_key,
        ("reverse",): _sorted_reverse,
        ("key", "reverse"): _sorted_by_key,
    },
)
_register(
    user_sort,
    types.List,
    {
        (): _sort,
        ("key",): _sort_key,
        ("reverse",): _sort_reverse,
        ("key", "reverse"): _sort_by_key,
    },
)
