"""What Python raises, and numba goes on after: whole numbers of floats, powers, shifts, and the functions of math.

Python raises for int(nan), 1 << -1 and math.log(0); numba gives some number. So in users' functions what such an
operation gives is checked beside what it was given, and compiled code raises too: the record is then called again as
plain Python, which raises or gives what fits no int64. It may raise where Python does not, then: that costs time alone.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math
import operator
from types import CodeType
from typing import Any

from llvmlite import ir as llvm_ir
from numba import types
from numba.core import cgutils, errors, ir, ir_utils
from numba.core.imputils import impl_ret_borrowed
from numba.core.rewrites.registry import Rewrite, register_rewrite
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.functions.powers import float_power
from kernelmill.kernels.text.jitting import call, helper
from kernelmill.kernels.usercode import CannotCompileError

_WHOLE: Any = (int, round, math.floor, math.ceil, math.trunc)
_NUMBER = types.Integer | types.Boolean
_EXACT = 1 << 53
"""Up to here each whole number is a float."""

NO_DICT = "a dict that is made inside a function is not supported in compiled functions"

_guarded_codes: set[CodeType] = set()


def guard(code: CodeType) -> None:
    """Check what may raise in functions of this code, and in functions made inside them, once they are compiled."""
    _guarded_codes.add(code)
    for one in code.co_consts:
        if isinstance(one, CodeType):
            guard(one)


def is_guarded(code: CodeType) -> bool:
    """True for the code of users' functions, and of functions made inside them."""
    return code in _guarded_codes


# The checks, each of one kind of operation: they return True or raise ----------------------------------------------


@helper
def _fits_int64(value):
    """For int(value), round(value), math.floor, ceil and trunc of a float."""
    if not -9223372036854775808.0 <= value < 9223372036854775808.0:
        raise OverflowError("no int64")
    return True


@helper
def _is_no_domain_error(result, value):
    """For a function of math of one number: nan of a number, or inf of what is finite, raises in Python."""
    if not math.isfinite(result) and (math.isfinite(value) or (math.isnan(result) and not math.isnan(value))):
        raise ValueError("math domain error")
    return True


@helper
def _is_no_domain_error_of_two(result, a, b):
    """Likewise of two."""
    if not math.isfinite(result):
        if math.isfinite(a) and math.isfinite(b):
            raise ValueError("math domain error")
        if math.isnan(result) and not math.isnan(a) and not math.isnan(b):
            raise ValueError("math domain error")
    return True


@helper
def _has_whole_power(exponent):
    """For a power of whole numbers, which Python makes a float if the exponent is negative."""
    if exponent < 0:
        raise ValueError("a negative exponent")
    return True


@helper
def _may_be_shifted(count):
    """For shifts, by machine code of 0 to 63 bits alone."""
    if not 0 <= count < 64:
        raise ValueError("a shift beyond 64 bits")
    return True


@helper
def _is_exponent(value):
    """For math.ldexp, which is given 32 bits."""
    if not -2147483648 <= value < 2147483648:
        raise OverflowError("no exponent of a float")
    return True


@helper
def _divides_exactly(a, b):
    """For a / b of whole numbers, which numba makes floats first."""
    if not (-_EXACT <= a <= _EXACT and -_EXACT <= b <= _EXACT):
        raise OverflowError("beyond the whole numbers of a float")
    return True


@helper
def _has_whole_quotient(a, b):
    """For // and % of whole numbers: the one quotient of two int64 that is none."""
    if b == -1 and a == -9223372036854775808:
        raise OverflowError("no int64")
    return True


@helper
def _has_opposite(value):
    """For abs(value) of a whole number."""
    if value == -9223372036854775808:
        raise OverflowError("no int64")
    return True


@helper
def _is_a_float(value):
    """For min and max of whole numbers and floats, which numba makes floats first."""
    if not -_EXACT <= value <= _EXACT:
        raise OverflowError("beyond the whole numbers of a float")
    return True


@helper
def _rounds_exactly(value, digits):
    """For round(value, digits): not near the middle of two decimals, where numba looks at a product that is rounded."""
    if math.isfinite(value):
        if not -15 <= digits <= 15:
            raise ValueError("too many digits to be sure")
        scaled = abs(value * 10.0**digits) if digits >= 0 else abs(value / 10.0**-digits)
        if scaled > 1e12 or abs(scaled - math.floor(scaled) - 0.5) < 1e-3:
            raise ValueError("too close to the middle to be sure")
    return True


# What a checked operation is to numba -------------------------------------------------------------------------------


def _checked(result: Any, *arguments: Any) -> Any:
    """The result of an operation, if Python would give it; replaced by one function for each operation."""
    raise AssertionError("compiled code alone calls it")


_CHECKED: dict[Any, Any] = {}
"""The function that checks an operation, by the operation."""


def _register(operation: Any) -> None:
    def checked(*_arguments: Any) -> Any:
        return _checked(*_arguments)

    class Template(AbstractTemplate):
        key = checked

        def generic(self, args, kws):
            passed = tuple(types.unliteral(one) for one in args)
            if operation in (min, max):
                _refuse_bools_beside_numbers(operation.__name__, passed[1:])
            return None if kws else signature(passed[0], *passed)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = _check(context, builder, operation, sig.args, args)
        if found is not None:
            return found
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    checked.__name__ = checked.__qualname__ = operation.__name__  # messages have it
    infer_global(checked, types.Function(Template))
    lower_builtin(checked, types.VarArg(types.Any))(lower)
    _CHECKED[operation] = checked


def _refuse_bools_beside_numbers(name: str, kinds: Any) -> None:
    """Raise for max(flag, 0), whose value Python leaves a bool."""
    given = kinds[0].types if len(kinds) == 1 and isinstance(kinds[0], types.Tuple) else kinds
    bools = [isinstance(one, types.Boolean) for one in given]
    if any(bools) and not all(bools):
        raise CannotCompileError(f"{name} of a bool and a number is not supported in compiled functions")


def _check(context: Any, builder: Any, operation: Any, kinds: Any, values: Any) -> Any:
    """Code that raises where Python does; returns another result than values[0], or None where that is right."""
    given = [_plain(context, builder, *one) for one in zip(kinds, values, strict=True)]
    (kind, _), arguments = given[0], given[1:]
    of_numbers = all(isinstance(one, types.Float | _NUMBER) for one, _ in arguments)
    if not arguments or not of_numbers:
        return None

    def run(check: Any, *operands: Any) -> Any:
        return call(context, builder, check, tuple(one for one, _ in operands), tuple(one for _, one in operands))

    are_whole = all(isinstance(one, _NUMBER) for one, _ in arguments)
    if operation in (operator.lshift, operator.rshift):
        run(_may_be_shifted, arguments[1])
    elif operation is operator.truediv:
        if are_whole:
            run(_divides_exactly, *arguments)
    elif operation in _QUOTIENTS:
        if are_whole:
            run(_has_whole_quotient, *arguments)
    elif operation is abs:
        if are_whole:
            run(_has_opposite, arguments[0])
    elif operation in (min, max):
        if not are_whole:
            for one in arguments:
                if isinstance(one[0], types.Integer):
                    run(_is_a_float, one)
    elif operation in _WHOLE:
        if operation is round and are_whole and len(arguments) == 1:  # numba's goes by way of a float
            return context.cast(builder, arguments[0][1], arguments[0][0], kind)
        if isinstance(arguments[0][0], types.Float):
            if len(arguments) == 1:
                run(_fits_int64, arguments[0])
            elif isinstance(kind, types.Float):
                run(_rounds_exactly, *arguments)
    elif operation in (operator.pow, pow) and are_whole:
        run(_has_whole_power, arguments[1])
    elif operation in (operator.pow, pow, math.pow):
        if isinstance(kind, types.Float):
            return run(float_power, *arguments)
    elif isinstance(kind, types.Float):
        if operation is math.ldexp:
            run(_is_exponent, arguments[1])
        run(_is_no_domain_error if len(arguments) == 1 else _is_no_domain_error_of_two, given[0], *arguments[:2])
    return None


def _plain(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """A type and value that are not optional: the operation itself has raised if there is none."""
    if isinstance(kind, types.Optional):
        return kind.type, context.make_helper(builder, kind, value).data
    return kind, value


_MATH = [
    getattr(math, name)
    for name in (
        *("exp", "expm1", "exp2", "sqrt", "log", "log1p", "log10", "log2", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
        *("asin", "acos", "atan", "asinh", "acosh", "atanh", "degrees", "radians", "erf", "erfc", "gamma", "lgamma"),
        *("atan2", "fmod", "hypot", "ldexp", "pow"),
    )
    if hasattr(math, name)
]
_OTHER_DIGITS = (math.gamma, math.lgamma, math.hypot)
"""Python has algorithms of its own for them, numba the C library's: they are left to Python."""
_QUOTIENTS = (operator.floordiv, operator.mod, divmod)
_OPERATORS = (operator.pow, operator.lshift, operator.rshift, operator.truediv, *_QUOTIENTS)
for _operation in (*_WHOLE, *_MATH, *_OPERATORS, pow, abs, min, max):
    _register(_operation)


@register_rewrite("before-inference")
class _Check(Rewrite):
    """Puts a check behind each operation that may raise in a user's function."""

    def match(self, func_ir, block, typemap, calltypes):
        self._func_ir, self._block = func_ir, block
        if func_ir.func_id.code not in _guarded_codes:
            return False
        for one in block.find_insts(ir.Assign):
            _refuse_passing_on(func_ir, one.value)
            _refuse_dict(func_ir, one.value)
        return any(_operation_of(func_ir, one) is not None for one in block.find_insts(ir.Assign))

    def apply(self):
        func_ir, block = self._func_ir, self._block
        made = ir.Block(block.scope, block.loc)
        for statement in block.body:
            operation = _operation_of(func_ir, statement) if isinstance(statement, ir.Assign) else None
            if operation is None:
                made.append(statement)
                continue
            value, loc = statement.value, statement.loc
            if operation in _OTHER_DIGITS:
                raise errors.TypingError(f"math.{operation.__name__} has other digits in compiled functions", loc=loc)
            result = ir.Var(block.scope, ir_utils.mk_unique_var(_PREFIX), loc)
            checked = ir.Var(block.scope, ir_utils.mk_unique_var("$check_"), loc)
            function = ir.Global("checked", _CHECKED[operation], loc)
            called = ir.Expr.call(checked, [result, *_arguments(value)], (), loc)
            func_ir._definitions[result.name], func_ir._definitions[checked.name] = [value], [function]
            known = func_ir._definitions[statement.target.name]
            known[:] = [called if one is value else one for one in known]
            made.append(ir.Assign(value, result, loc))
            made.append(ir.Assign(function, checked, loc))
            made.append(ir.Assign(called, statement.target, loc))
        return made


_PREFIX = "$unchecked_"


def _operation_of(func_ir: Any, statement: Any) -> Any:
    """The operation that a statement assigns the result of, if that is to be checked and is not yet."""
    value = statement.value
    if not isinstance(value, ir.Expr) or statement.target.name.startswith(_PREFIX):
        return None
    found = None
    if value.op in ("binop", "static_binop"):
        found = value.fn
    elif value.op == "inplace_binop":
        found = value.immutable_fn
    elif value.op == "call" and value.vararg is None:
        found = _callee(func_ir, value.func)
    try:
        return found if found in _CHECKED else None
    except TypeError:  # not hashable
        return None


def _refuse_passing_on(func_ir: Any, value: Any) -> None:
    """Raise for a function given to another, which would call it unchecked; `map(int, texts)` may stay."""
    if not isinstance(value, ir.Expr) or value.op != "call" or value.vararg is not None:
        return
    for one in _arguments(value):
        given = _callee(func_ir, one)
        if isinstance(given, type(math.log)) and given in _CHECKED:
            what = f"{given.__name__} is not supported as an argument: call it in a function of your own"
            raise errors.TypingError(what, loc=value.loc)


def _refuse_dict(func_ir: Any, value: Any) -> None:
    """Raise for a dict that a function makes: numba's compares keys by their bytes, and so texts by their addresses."""
    is_call = isinstance(value, ir.Expr) and value.op == "call"
    is_dict = isinstance(value, ir.Expr) and value.op == "build_map"
    if is_dict or (is_call and _callee(func_ir, value.func) is dict):
        raise errors.TypingError(NO_DICT, loc=value.loc)


def _callee(func_ir: Any, function: Any) -> Any:
    """The value that a call calls, where it is a global or an attribute of one."""
    definition = ir_utils.guard(ir_utils.get_definition, func_ir, function)
    if isinstance(definition, ir.Global | ir.FreeVar | ir.Const):
        return definition.value
    if isinstance(definition, ir.Expr) and definition.op == "getattr":
        return getattr(_callee(func_ir, definition.value), definition.attr, None)
    return None


def _arguments(value: Any) -> list[Any]:
    if value.op == "call":
        return [*value.args, *(one for _, one in value.kws)]
    return [value.lhs, value.rhs]


# `is` of a bool that may be None, which numba says of no bool -------------------------------------------------------

_MAYBE = types.Optional(types.boolean)


@lower_builtin(operator.is_, _MAYBE, types.Boolean)
@lower_builtin(operator.is_, types.Boolean, _MAYBE)
@lower_builtin(operator.is_, _MAYBE, _MAYBE)
def _is_bool(context, builder, sig, args):
    true = llvm_ir.Constant(llvm_ir.IntType(1), 1)
    opened = []
    for kind, value in zip(sig.args, args, strict=True):
        held = context.make_helper(builder, kind, value) if isinstance(kind, types.Optional) else None
        valid = true if held is None else cgutils.as_bool_bit(builder, held.valid)
        bare = types.boolean if held is None else kind.type
        truth = context.cast(builder, value if held is None else held.data, kind if held is None else bare, bare)
        opened.append((valid, builder.and_(valid, truth)))
    (has_a, a), (has_b, b) = opened
    return builder.and_(builder.icmp_unsigned("==", has_a, has_b), builder.icmp_unsigned("==", a, b))
