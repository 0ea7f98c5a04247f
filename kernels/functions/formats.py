"""f-strings with specifications, `"%05d of %s" % (n, line)`, `"{:>8}".format(n)`, `format(n, "x")` in users' functions.

What is written in the code is taken apart when a function is compiled (`specifications`), each field becomes a call,
and the parts are added up. Fields and specifications that are not known stay as they are, and are Python's. numba does
not read specifications of f-strings: `as_slices` makes each a slice(value, specification) in the byte code, which takes
as many bytes and is found again here. Importing this module tells numba.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import dis
import operator
from types import CodeType
from typing import Any

from numba import types
from numba.core import ir, ir_utils
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.functions import specifications
from kernelmill.kernels.functions.guards import is_guarded
from kernelmill.kernels.functions.specifications import Field, Spec
from kernelmill.kernels.functions.strings import user_str
from kernelmill.kernels.text.formatting import formatted_float, formatted_int, formatted_text
from kernelmill.kernels.text.jitting import call, has_arena
from kernelmill.kernels.text.pointers import WORDS
from kernelmill.kernels.text.registering import is_text, refuse
from kernelmill.kernels.text.texttype import TEXT, arena_at_hand

_CONVERSION, _WITH_SPEC, _TO_STR = 3, 4, 1  # parts of the argument of FORMAT_VALUE
_MARK, _OF_STR = "\0", "\0s"  # before a specification that is given to slice: of the value, or of its str()
_ARGUMENT_MAX = 255  # of an instruction of two bytes


def as_slices(code: CodeType) -> CodeType:
    """The code with slice(value, specification) where an f-string has one, and without !s, which str() does anyway."""
    changed, constants = bytearray(code.co_code), list(code.co_consts)
    is_converted, before = False, None
    for step in dis.get_instructions(code):
        name, argument = step.opname, step.arg or 0
        if name == "FORMAT_VALUE" and argument == _TO_STR:
            changed[step.offset + 1] = 0
        elif name == "CONVERT_VALUE":  # as Python 3.13 has it
            is_converted = argument == _TO_STR
            if is_converted:
                changed[step.offset : step.offset + 2] = bytes([dis.opmap["NOP"], 0])
        elif name == "FORMAT_SIMPLE":
            is_converted = False
        elif name == "FORMAT_WITH_SPEC" or (name == "FORMAT_VALUE" and argument & _WITH_SPEC):
            is_of_str = is_converted if name == "FORMAT_WITH_SPEC" else argument & _CONVERSION == _TO_STR
            is_plain = name == "FORMAT_WITH_SPEC" or argument & _CONVERSION in (0, _TO_STR)
            is_written = before is not None and before.opname == "LOAD_CONST" and (before.arg or 0) <= _ARGUMENT_MAX
            if before is not None and is_plain and is_written and len(constants) <= _ARGUMENT_MAX:
                changed[before.offset + 1] = len(constants)
                constants.append((_OF_STR if is_of_str else _MARK + "v") + before.argval)
                changed[step.offset : step.offset + 2] = bytes([dis.opmap["BUILD_SLICE"], 2])
            is_converted = False
        before = step
    return code.replace(co_code=bytes(changed), co_consts=tuple(constants)) if changed != code.co_code else code


def user_format(value: Any, specification: str) -> str:
    """format(value, specification)"""
    return format(value, specification)


def user_percent(value: Any, field: str) -> str:
    """field % value"""
    return str(field % value)


# A field ------------------------------------------------------------------------------------------------------------


def _by_format(given: Any, text: str) -> tuple[Any, Spec] | None:
    """The type that a value is passed as, and how it is laid out; None if that is not known."""
    for kind, family in _families(given):
        spec = specifications.parsed(text, family)
        if spec is not None:
            return kind, spec
    return None


def _by_percent(given: Any, text: str) -> tuple[Any, Spec] | None:
    found = specifications.FIELD.fullmatch(text)
    if found is None:
        return None
    for kind, family in _families(given):
        spec = specifications.percent(found[1], found[2], found[3], found[4], family)
        if spec is not None:
            return kind, spec
    return None


def _families(given: Any) -> list[tuple[Any, str]]:
    if is_text(given):
        return [(TEXT, "text")]
    if isinstance(given, types.Boolean | types.Integer) and given != types.uint64:
        return [(types.int64, "int"), (types.float64, "float")]
    return [(types.float64, "float")] if isinstance(given, types.Float) else []


def _register(name: Any, understood: Any) -> None:
    class Template(AbstractTemplate):
        key = name
        prefer_literal = True

        def generic(self, args, kws):
            """A Text, of a value and of what is written in the code."""
            if kws or len(args) != 2 or not isinstance(args[1], types.StringLiteral) or not has_arena():
                return None
            bare: Any = args[0].type if isinstance(args[0], types.Optional) else args[0]  # None raises, or is Python's
            is_string = isinstance(bare, types.UnicodeType)
            found = None if is_string else understood(bare, args[1].literal_value)
            return None if found is None else signature(TEXT, found[0], args[1])

    def lower(context, builder, sig, args):
        kind, spec = understood(sig.args[0], sig.args[1].literal_value)
        values = args[0], [spec.align, spec.width, spec.fill], arena_at_hand(builder)
        return _laid_out(context, builder, kind, spec, values)

    infer_global(name)(Template)
    lower_builtin(name, types.VarArg(types.Any))(lower)


def _laid_out(context: Any, builder: Any, kind: Any, spec: Spec, values: Any) -> Any:
    value, padding, arena = values
    function: Any
    if kind == TEXT:
        function, numbers = formatted_text, [spec.precision]
    elif kind == types.float64:
        group, is_percent = 3 if spec.separator else 0, spec.kind == "%"
        places = 6 if spec.precision < 0 else spec.precision
        if is_percent:
            value = builder.fmul(value, context.get_constant(types.float64, 100.0))
        function, numbers = formatted_float, [places, group, spec.separator, ord("%") * is_percent, spec.plus]
    else:
        base, after_nine, group, prefix = specifications.base_of(spec)
        function, numbers = formatted_int, [base, after_nine, group, spec.separator, spec.plus, prefix]
    constants = [context.get_constant(types.int64, one) for one in (*numbers, *padding)]
    kinds = kind, *(types.int64 for _ in constants), WORDS
    return call(context, builder, function, kinds, (value, *constants, arena))


@infer_global(format)
class _Format(AbstractTemplate):
    """What is left of the name when its calls are rewritten; a call that is not has no type."""

    key = format

    def generic(self, args, kws):
        """None for any arguments."""
        return None


for _strings in (types.StringLiteral, types.UnicodeType):
    refuse(_strings, "format")
_register(user_format, _by_format)
_register(user_percent, _by_percent)


# The rewrite --------------------------------------------------------------------------------------------------------


@register_rewrite("before-inference")
class _Formats(Rewrite):
    """Makes calls and sums of what is written with fields, in users' functions."""

    def match(self, func_ir, block, typemap, calltypes):
        """True if the block has something that is written so, and is known."""
        self._func_ir, self._block = func_ir, block
        if not is_guarded(func_ir.func_id.code):
            return False
        return any(self._parts_of(one.value) is not None for one in block.find_insts(ir.Assign))

    def _parts_of(self, value: Any) -> list[Any] | None:
        """The literals, and the values with their fields, that are to be added up."""
        if not isinstance(value, ir.Expr):
            return None
        if value.op == "binop" and value.fn is operator.mod:
            text = self._text(value.lhs)
            return None if text is None else self._of_percent(text, value.rhs)
        if value.op != "call" or value.vararg is not None:
            return None
        called = self._known(value.func)
        if called in (slice, format) and len(value.args) == 2 and not value.kws:
            spec = self._text(value.args[1])
            if spec is None or (called is slice and not spec.startswith(_MARK)):
                return None
            return [(value.args[0], Field(0, spec if called is slice else _MARK + "v" + spec))]
        if called is format and len(value.args) == 1 and not value.kws:
            return [(value.args[0], Field(0, _OF_STR))]
        method = ir_utils.guard(ir_utils.get_definition, self._func_ir, value.func)
        if isinstance(method, ir.Expr) and method.op == "getattr" and method.attr == "format":
            text = self._text(method.value)
            return None if text is None else self._of_braces(text, value)
        return None

    def _of_percent(self, text: str, given: Any) -> list[Any] | None:
        fields = specifications.percent_fields(text)
        built: Any = ir_utils.guard(ir_utils.get_definition, self._func_ir, given)
        is_tuple = isinstance(built, ir.Expr) and built.op == "build_tuple"
        values = list(built.items) if is_tuple else [given]
        if fields is None or sum(isinstance(one, Field) for one in fields) != len(values):
            return None
        return [(values[int(one.value)], one) if isinstance(one, Field) else one for one in fields]

    def _of_braces(self, text: str, value: Any) -> list[Any] | None:
        values = {**dict(enumerate(value.args)), **dict(value.kws)}
        fields = specifications.brace_fields(text)
        if fields is None or any(isinstance(one, Field) and one.value not in values for one in fields):
            return None
        return [(values[one.value], one) if isinstance(one, Field) else one for one in fields]

    def _text(self, variable: Any) -> str | None:
        known = self._known(variable)
        return known if isinstance(known, str) else None

    def _known(self, variable: Any) -> Any:
        definition = ir_utils.guard(ir_utils.get_definition, self._func_ir, variable)
        return definition.value if isinstance(definition, ir.Global | ir.FreeVar | ir.Const) else None

    def apply(self):
        """The block with sums of calls."""
        made = ir.Block(self._block.scope, self._block.loc)
        for statement in self._block.body:
            parts = self._parts_of(statement.value) if isinstance(statement, ir.Assign) else None
            if parts is not None:
                value, loc = statement.value, statement.loc
                added = self._added(made, parts, loc)
                definitions = self._func_ir._definitions[statement.target.name]
                definitions[:] = [added if one is value else one for one in definitions]
                statement = ir.Assign(added, statement.target, loc)
            made.append(statement)
        return made

    def _added(self, block: Any, parts: list[Any], loc: Any) -> Any:
        """The variable that holds the parts one behind the other."""
        sum_of: Any = None
        for part in parts:
            if part == "":
                continue
            if isinstance(part, str):
                one = self._assigned(block, ir.Const(part, loc), loc)
            else:
                one = self._field(block, part[0], part[1], loc)
            if sum_of is not None:
                one = self._assigned(block, ir.Expr.binop(operator.add, sum_of, one, loc), loc)
            sum_of = one
        return self._assigned(block, ir.Const("", loc), loc) if sum_of is None else sum_of

    def _field(self, block: Any, value: Any, field: Field, loc: Any) -> Any:
        spec, is_of_str = field.spec, field.is_percent and field.spec.endswith("s")
        if spec.startswith(_MARK):
            spec, is_of_str = spec[len(_OF_STR) :], spec.startswith(_OF_STR)
        if is_of_str or spec == "":
            value = self._called(block, user_str, [value], loc)
        if spec in ("", "%s"):
            return value
        text = self._assigned(block, ir.Const(spec, loc), loc)
        return self._called(block, user_percent if field.is_percent else user_format, [value, text], loc)

    def _called(self, block: Any, function: Any, arguments: list[Any], loc: Any) -> Any:
        known = self._assigned(block, ir.Global(function.__name__, function, loc), loc)
        return self._assigned(block, ir.Expr.call(known, arguments, (), loc), loc)

    def _assigned(self, block: Any, value: Any, loc: Any) -> Any:
        variable = ir.Var(block.scope, ir_utils.mk_unique_var("$field_"), loc)
        self._func_ir._definitions[variable.name] = [value]
        block.append(ir.Assign(value, variable, loc))
        return variable
