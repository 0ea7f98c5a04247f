"""Made texts and literals beside views of the record: in users' functions all of them are one type, Text.

`str(n)`, f-strings and `str` of a text give a Text in the arena; a variable that holds a literal now and a made text
then is a Text; so are the items of a list of literals. That takes an arena at hand (`has_arena`): functions of numbers
alone go on with numba's own strings. Importing this module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import ir, ir_utils
from numba.core.imputils import impl_ret_borrowed
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast

from kernelmill.kernels.functions.guards import is_guarded
from kernelmill.kernels.text.integers import written_int
from kernelmill.kernels.text.jitting import call, has_arena, helper, meeting
from kernelmill.kernels.text.piecelists import listed
from kernelmill.kernels.text.pieces import TABLE, LazyPiecesType, PiecesType
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.text.registering import is_text
from kernelmill.kernels.text.strings import string_to_arena
from kernelmill.kernels.text.texttype import TEXT, TextType, arena_at_hand, constant

_METHODS = frozenset({"endswith", "removeprefix", "removesuffix", "startswith"})
_true, _false = constant("True"), constant("False")


def user_str(value: Any) -> str:
    """str(value)"""
    return str(value)


def as_text(item: Any) -> Any:
    """The item, as a Text if it is a text and the function has an arena."""
    return item


@helper
def _of_bool(value: Any) -> Any:
    return _true() if value else _false()


# Types that meet ----------------------------------------------------------------------------------------------------


@meeting
def met(first: Any, second: Any) -> Any:
    """A Text for two texts of different kinds, and for the first item of a list; a table for two kinds of pieces."""
    if isinstance(first, PiecesType) and isinstance(second, PiecesType):
        return TABLE
    pair = [one for one in (first, second) if one is not types.undefined]
    return TEXT if all(map(is_text, pair)) and has_arena() else None


@lower_cast(types.UnicodeType, TextType)
def _text_of_string(context, builder, fromty, toty, val):
    return call(context, builder, string_to_arena, (fromty, WORDS), (val, arena_at_hand(builder)))


@lower_cast(LazyPiecesType, type(TABLE))
def _table_of_pieces(context, builder, fromty, toty, val):
    return call(context, builder, listed, (fromty,), (val,))


# str and literals ---------------------------------------------------------------------------------------------------


class _Strings(AbstractTemplate):
    key: Any = user_str
    prefer_literal = True
    leaves_others = False

    def generic(self, args, kws):
        """A Text of a text, an int or a bool where there is an arena; else what numba says of str."""
        if kws or len(args) != 1:
            return None
        bare: Any = args[0].type if isinstance(args[0], types.Optional) else args[0]  # None raises, and is Python's
        given = types.unliteral(bare)
        if has_arena() and is_text(bare):
            return signature(TEXT, given if isinstance(bare, types.UnicodeType) else TEXT)
        if self.leaves_others:
            return signature(args[0], args[0])
        if has_arena() and isinstance(given, types.Boolean):
            return signature(TEXT, given)
        if has_arena() and isinstance(given, types.Integer) and given != types.uint64:
            return signature(TEXT, types.int64)
        return self.context.resolve_function_type(str, args, kws)


class _Literals(_Strings):
    key = as_text
    leaves_others = True


infer_global(user_str)(_Strings)
infer_global(as_text)(_Literals)


@lower_builtin(user_str, types.VarArg(types.Any))
def _str(context, builder, sig, args):
    (given,) = sig.args
    if sig.return_type != TEXT or given == TEXT:
        if given == sig.return_type:
            return args[0]
        function = context.typing_context.resolve_value_type(str)
        return context.get_function(function, sig)(builder, args)
    if isinstance(given, types.Boolean):
        return call(context, builder, _of_bool, (given,), args)
    if isinstance(given, types.UnicodeType):
        return _text_of_string(context, builder, given, TEXT, args[0])
    assert given == types.int64
    return call(context, builder, written_int, (types.int64, WORDS), (args[0], arena_at_hand(builder)))


@lower_builtin(as_text, types.VarArg(types.Any))
def _literal(context, builder, sig, args):
    if sig.return_type != sig.args[0]:
        return _text_of_string(context, builder, sig.args[0], TEXT, args[0])
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


# The rewrite --------------------------------------------------------------------------------------------------------


@register_rewrite("before-inference")
class _Texts(Rewrite):
    """Makes `str` ours, and texts of the literals in lists, in users' functions."""

    def match(self, func_ir, block, typemap, calltypes):
        """True if the block calls str, writes a list of literals out, or calls a method of one."""
        self._func_ir, self._block = func_ir, block
        return is_guarded(func_ir.func_id.code) and any(map(self._is_concerned, block.find_insts(ir.Assign)))

    def _is_concerned(self, statement: Any) -> bool:
        value = statement.value
        return isinstance(value, ir.Expr) and (
            self._is_str(value) or self._has_texts(value) or self._is_method_of_literal(value)
        )

    def _is_method_of_literal(self, value: Any) -> bool:
        """True for a method of a literal that numba's own strings have not, or not for texts."""
        return value.op == "getattr" and value.attr in _METHODS and isinstance(self._known(value.value), str)

    def _is_str(self, value: Any) -> bool:
        return value.op == "call" and self._known(value.func) is str

    def _has_texts(self, value: Any) -> bool:
        """True for a list or tuple that is written out with a literal or an str() among its items."""
        return value.op in ("build_list", "build_tuple") and any(map(self._is_text, value.items))

    def _is_text(self, variable: Any) -> bool:
        definition = ir_utils.guard(ir_utils.get_definition, self._func_ir, variable)
        if isinstance(definition, ir.Expr) and definition.op == "call":
            return self._known(definition.func) in (str, user_str)
        return isinstance(self._known(variable), str)

    def _known(self, variable: Any) -> Any:
        definition = ir_utils.guard(ir_utils.get_definition, self._func_ir, variable)
        return definition.value if isinstance(definition, ir.Global | ir.FreeVar | ir.Const) else None

    def apply(self):
        """The block with calls of ours."""
        made = ir.Block(self._block.scope, self._block.loc)
        for statement in self._block.body:
            if isinstance(statement, ir.Assign) and self._is_concerned(statement):
                value: Any = statement.value
                loc = statement.loc
                if value.op == "call":
                    function = self._named(made, user_str, loc)
                    changed = ir.Expr.call(function, list(value.args), value.kws, loc)
                elif value.op == "getattr":
                    changed = ir.Expr.getattr(self._text(made, value.value, loc), value.attr, loc)
                else:
                    changed = ir.Expr(op=value.op, loc=loc, items=[self._text(made, one, loc) for one in value.items])
                definitions = self._func_ir._definitions[statement.target.name]
                definitions[:] = [changed if one is value else one for one in definitions]
                statement = ir.Assign(changed, statement.target, loc)
            made.append(statement)
        return made

    def _text(self, block: Any, item: Any, loc: Any) -> Any:
        return self._assigned(block, ir.Expr.call(self._named(block, as_text, loc), [item], (), loc), loc)

    def _named(self, block: Any, function: Any, loc: Any) -> Any:
        return self._assigned(block, ir.Global(function.__name__, function, loc), loc)

    def _assigned(self, block: Any, value: Any, loc: Any) -> Any:
        variable = ir.Var(block.scope, ir_utils.mk_unique_var("$text_"), loc)
        self._func_ir._definitions[variable.name] = [value]
        block.append(ir.Assign(value, variable, loc))
        return variable
