"""Type rules of scalar functions: from the arguments' types to what they are cast to, and what comes out.

Checking a plan and running it use the same rule, so a plan that was accepted runs with the types it showed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from kernelmill.engine.aggregates import is_compared, opened
from kernelmill.engine.compute import pc
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.moments import is_known_zone, writes_zone
from kernelmill.engine.node_text import cast_text, node_text
from kernelmill.engine.nodes import Column
from kernelmill.engine.promotion import Arg, is_bytes, is_number, is_text, mixes_signs, number_for, unify
from kernelmill.engine.schema import dtype_text

Options = Mapping[str, Any]


class Signature(NamedTuple):
    """What a call does with types: `args` is what each argument is cast to, `result` what comes out."""

    args: tuple[pa.DataType, ...]
    result: pa.DataType
    nullable: bool


Rule = Callable[[str, Sequence[Arg], Options], Signature]

_DECIMAL_DIGITS, _WIDE_DIGITS = 38, 76
_NO_VALUES = "columns of this type are passed on, and not computed with"
_VERBS = {
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "eq_missing", "ne_missing"), "compare"),
    **{"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "divide"},
    **{"mod": "take the remainder of", "pow": "raise", "and": "and", "or": "or", "xor": "xor"},
}


def compare(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Two values of one kind that has an order; null where one of them is null."""
    meeting = _meet(function, args)
    meeting = pa.bool_() if pa.types.is_null(meeting) else meeting  # pyarrow compares no nulls without a type
    if not _can_compute("less", meeting):
        raise mismatch(function, args, "compare its parts" if pa.types.is_nested(meeting) else _NO_VALUES)
    return Signature((meeting, meeting), pa.bool_(), any_null(args))


def compare_missing(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """As `compare`, but null is a value like others."""
    return compare(function, args, options)._replace(nullable=False)


def arithmetic(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """`+ - *`: numbers; text is joined by +; moments and durations go as they do in Python."""
    if function in ("add", "sub") and any(pa.types.is_temporal(arg.type) for arg in args):
        return _temporal(function, args)
    meeting = _meet(function, args)
    if function == "add" and (is_text(meeting) or is_bytes(meeting)):
        return Signature((meeting, meeting), meeting, any_null(args))
    if pa.types.is_decimal(meeting):
        return _decimals(function, args, meeting)
    meeting = _numbers(function, args, meeting)
    return Signature((meeting, meeting), meeting, any_null(args))


def _decimals(function: str, args: Sequence[Arg], meeting: Any) -> Signature:
    """Exact `+ - *` of decimals: of as many digits as any result has, but of 38 at most, then checked."""
    left, right = (arg.type if pa.types.is_decimal(arg.type) and not arg.bare else meeting for arg in args)
    if function == "mul":
        scale, digits = left.scale + right.scale, left.precision + right.precision + 1
    else:
        scale = max(left.scale, right.scale)
        digits = max(left.precision - left.scale, right.precision - right.scale) + scale + 1
    is_wide = digits > _DECIMAL_DIGITS or pa.types.is_decimal256(left) or pa.types.is_decimal256(right)
    if pa.types.is_decimal256(meeting) or scale > _DECIMAL_DIGITS or digits > _WIDE_DIGITS:
        raise mismatch(function, args, "cast one to a decimal of fewer digits, or to float64")
    if is_wide:
        taken = tuple(pa.decimal256(one.precision, one.scale) for one in (left, right))
        return Signature(taken, pa.decimal128(_DECIMAL_DIGITS, scale), any_null(args))
    return Signature((left, right), pa.decimal128(digits, scale), any_null(args))


def true_divide(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """`/`: float64 whatever the numbers were, decimals too; dividing by zero gives an infinity or NaN."""
    meeting = _meet(function, args)
    if not pa.types.is_decimal(meeting):
        _numbers(function, args, meeting)
    return Signature((pa.float64(), pa.float64()), pa.float64(), any_null(args))


def floor_divide(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """`//` and `%`: floored as in Python; null where an integer is divided by zero."""
    meeting = _meet(function, args)
    meeting = _numbers(function, args, meeting)
    divisor = args[1].literal
    never_zero = divisor is not None and divisor.is_valid and divisor.as_py() != 0
    nullable = any_null(args) or (pa.types.is_integer(meeting) and not never_zero)
    return Signature((meeting, meeting), meeting, nullable)


def power(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """`**`: integers stay integers, unless the exponent is a negative number written out."""
    meeting = _meet(function, args)
    meeting = _numbers(function, args, meeting)
    exponent = args[1].literal
    if exponent is not None and exponent.is_valid and pa.types.is_integer(meeting) and exponent.as_py() < 0:
        meeting = pa.float64()
    return Signature((meeting, meeting), meeting, any_null(args))


def logic(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """`& | ^ ~`: three-valued logic of booleans, or bits of integers."""
    meeting = _meet(function, args)
    meeting = pa.bool_() if pa.types.is_null(meeting) else meeting
    if not (pa.types.is_boolean(meeting) or pa.types.is_integer(meeting)):
        hint = "`&`, `|` and `~` take comparisons; put each in parentheses: (a > 1) & (b < 2)"
        raise mismatch(function, args, hint)
    return Signature((meeting,) * len(args), meeting, any_null(args))


def negative(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Signed integers, floats and durations."""
    dtype = args[0].type
    if pa.types.is_unsigned_integer(dtype):
        raise mismatch(function, args, f"{cast_text(args[0].node, pa.int64())} can be negative")
    if not pa.types.is_duration(dtype) and not pa.types.is_decimal128(dtype):
        dtype = _numbers(function, args, dtype)
    return Signature((dtype,), dtype, any_null(args))


def size(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A number or a decimal in, the same type out (abs)."""
    if pa.types.is_decimal128(args[0].type):
        return Signature((args[0].type,), args[0].type, any_null(args))
    return number(function, args, options)


def number(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A number in, the same type out."""
    dtype = _numbers(function, args, args[0].type)
    return Signature((dtype,), dtype, any_null(args))


def number_to_float(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A number in, a float out: float64 but for float32."""
    dtype = _numbers(function, args, args[0].type)
    real = dtype if pa.types.is_floating(dtype) and dtype.bit_width >= 32 else pa.float64()
    return Signature((real,), real, any_null(args))


def number_to_bool(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A number in, a yes or no out."""
    dtype = _numbers(function, args, args[0].type)
    dtype = pa.float64() if pa.types.is_integer(dtype) else dtype
    return Signature((dtype,), pa.bool_(), any_null(args))


def numbers_alike(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Numbers or moments of one kind in, the same type out (clip)."""
    meeting = _meet(function, args)
    if not pa.types.is_temporal(meeting) and not pa.types.is_decimal(meeting):
        meeting = _numbers(function, args, meeting)
    elif not _can_compute("less", meeting):
        raise mismatch(function, args, _NO_VALUES)
    return Signature((meeting,) * len(args), meeting, any_null(args))


def fill_not_a_number(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A float and what stands in for its NaN."""
    meeting = _numbers(function, args, _meet(function, args))
    if not pa.types.is_floating(meeting):
        raise mismatch(function, args, "only floats can be NaN")
    return Signature((meeting, meeting), meeting, any_null(args))


def null_test(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Any type in, a yes or no that is never null out."""
    return Signature((args[0].type,), pa.bool_(), False)


def hashed(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Values that can be group keys, and structs of such, in; uint64 that is never null out."""
    for arg in args:
        if not _is_hashed(arg.type):
            raise mismatch(function, [arg], "hash its parts, or cast it")
    # a day is the same day in both types of dates
    types = tuple(pa.date32() if pa.types.is_date(arg.type) else arg.type for arg in args)
    return Signature(types, pa.uint64(), False)


def _is_hashed(dtype: Any) -> bool:
    if pa.types.is_struct(dtype):
        return dtype.num_fields > 0 and all(_is_hashed(opened(dtype.field(i).type)) for i in range(dtype.num_fields))
    return is_compared(dtype) or bool(pa.types.is_null(dtype))


def coalesce(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Values of one kind; null only where all are."""
    meeting = _meet(function, args)
    if not _can_compute("coalesce", meeting):
        raise mismatch(function, args, _NO_VALUES)
    return Signature((meeting,) * len(args), meeting, all(arg.nullable for arg in args))


def choose(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A test, then two values of one kind; a null test counts as false."""
    test, *values = args
    if not pa.types.is_boolean(test.type) and not pa.types.is_null(test.type):
        text = node_text(test.node)
        what = f"when({text}) needs a boolean, this is {dtype_text(test.type)}"
        raise error(Code.TYPE_MISMATCH, what, hint=f"compare it with something: {text} == ...")
    meeting = _meet(function, values)
    if not _can_compute("coalesce", meeting):
        raise mismatch(function, args, _NO_VALUES)
    return Signature((pa.bool_(), meeting, meeting), meeting, any_null(values))


def member(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A value and a literal list (is_in): a yes or no, null for null."""
    value, members = args
    meeting = _type_among(value.type, members.literal, members.bare)
    if meeting is None or not (pa.types.is_null(meeting) or _can_compute("less", meeting)):
        item: Any = members.type
        shown = Arg(members.node, item.value_type, False)
        raise mismatch("eq", [value, shown], "give values of the column's type, or cast the column")
    return Signature((meeting, pa.list_(meeting)), pa.bool_(), value.nullable)


@lru_cache(maxsize=256)  # asked for each batch, and lists of members may be long
def _type_among(dtype: pa.DataType, members: Any, bare: bool) -> pa.DataType | None:
    """The type in which values of `dtype` meet the elements of a list."""
    column = Arg(Column(""), dtype, True)
    if not bare:
        return unify([column, Arg(Column(""), members.type.value_type, True)])
    return unify([column, *(Arg(Column(""), one.type, True, one, True) for one in members.values)])


def text(result: pa.DataType | None, *, nullable: bool = False, bytes_too: bool = True) -> Rule:
    """Text (and bytes if `bytes_too`) in; `result` out, None: the type that came in."""

    def rule(function: str, args: Sequence[Arg], options: Options) -> Signature:
        dtype = pa.string() if pa.types.is_null(args[0].type) else args[0].type
        if not is_text(dtype) and not (bytes_too and is_bytes(dtype)):
            raise mismatch(function, args, cast_text(args[0].node, pa.string()))
        out = result or dtype
        lenient = options.get("strict") is False
        return Signature((dtype,), out, nullable or lenient or any_null(args))

    return rule


def split_text(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """Text or bytes in, lists of it out."""
    signature = text(None)(function, args, options)
    return signature._replace(result=pa.list_(signature.args[0]))


def moment(result: pa.DataType | None, *, dates_too: bool = True) -> Rule:
    """A date or timestamp in; `result` out, None: the type that came in."""

    def rule(function: str, args: Sequence[Arg], options: Options) -> Signature:
        dtype = args[0].type
        if pa.types.is_date(dtype) and dates_too:
            return Signature((pa.date32(),), result or pa.date32(), any_null(args))
        if not pa.types.is_timestamp(dtype):
            timeless = pa.types.is_date(dtype)
            hint = "a date has no time of day" if timeless else "cast it to date32 or timestamp[us] first"
            raise mismatch(function, args, hint)
        if not is_known_zone(dtype):
            plain = cast_text(args[0].node, pa.timestamp(dtype.unit))
            raise mismatch(function, args, f"no time zone {dtype.tz!r} is known here; {plain} is in UTC")
        return Signature((dtype,), result or dtype, any_null(args))

    return rule


def written_moment(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A moment in, text out; KM0107 where its zone is to be written and it has none."""
    signature = moment(pa.string())(function, args, options)
    zone = getattr(args[0].type, "tz", None)
    if zone is None and writes_zone(options["format"]):
        what = f"the format {options['format']!r} writes the time zone, and {node_text(args[0].node)} has none"
        raise error(Code.BAD_SETTING, what, hint='leave %Z and %z out, or write the zone as text: "%H:%M UTC"')
    return signature


def duration(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A duration in, int64 out."""
    if not pa.types.is_duration(args[0].type):
        raise mismatch(function, args, "only durations have a length; a difference of two moments is one")
    return Signature((args[0].type,), pa.int64(), any_null(args))


def zoned(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A timestamp in, one in the zone of the options out."""
    signature = moment(None, dates_too=False)(function, args, options)
    unit: Any = args[0].type
    return signature._replace(result=pa.timestamp(unit.unit, options["time_zone"]))


def of_list(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A list in; int64 out for len, text for join, a boolean for contains, else an element or null."""
    dtype: Any = args[0].type
    if not (pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)):
        raise mismatch(function, args, "only columns of lists have .list")
    item = dtype.value_type
    lists = pa.list_(item)
    match function:
        case "list.len":
            return Signature((lists,), pa.int64(), any_null(args))
        case "list.join":
            if not is_text(item) and not is_bytes(item):
                raise mismatch(function, args, "only lists of text can be joined")
            return Signature((lists,), item, any_null(args))
        case "list.contains":
            meeting = unify([Arg(args[0].node, item, True), args[1]])
            if meeting is None or not (pa.types.is_null(meeting) or _can_compute("less", meeting)):
                raise mismatch(function, args, "look for a value of the elements' type")
            return Signature((pa.list_(meeting), meeting), pa.bool_(), any_null(args))
    return Signature((lists,), item, True)


def _temporal(function: str, args: Sequence[Arg]) -> Signature:
    left, right = args[0].type, args[1].type
    nullable = any_null(args)
    if pa.types.is_duration(left) and pa.types.is_duration(right):
        meeting: Any = _meet(function, args)
        return Signature((meeting, meeting), meeting, nullable)
    if function == "add" and pa.types.is_duration(left):
        (second, first), result, _ = _temporal(function, [args[1], args[0]])
        return Signature((first, second), result, nullable)
    if pa.types.is_timestamp(left) and pa.types.is_duration(right):
        bare = Arg(args[1].node, right, False)
        meeting = unify([bare, Arg(args[0].node, pa.duration(left.unit), False)])
        unit: Any = meeting.unit if meeting is not None else None
        return Signature((pa.timestamp(unit, left.tz), pa.duration(unit)), pa.timestamp(unit, left.tz), nullable)
    if function == "sub" and not pa.types.is_time(left):
        meeting = _meet(function, args)
        if pa.types.is_timestamp(meeting):
            return Signature((meeting, meeting), pa.duration(meeting.unit), nullable)
        if pa.types.is_date(meeting):
            return Signature((meeting, meeting), pa.duration("s"), nullable)
    raise mismatch(function, args, "a timestamp and a duration go together; cast dates to timestamp[us]")


@lru_cache(maxsize=256)
def _can_compute(function: str, dtype: pa.DataType) -> bool:
    """Tell whether pyarrow's `function` takes two values of `dtype`: none but moving them about does with some."""
    some: Any = pa.nulls(1, dtype)  # type: ignore[call-overload]  # its stubs want to know which type
    try:
        getattr(pc, function)(some, some)
    except pa.ArrowNotImplementedError:
        return False
    return True


def any_null(args: Sequence[Arg]) -> bool:
    """Whether one of the arguments may be null."""
    return any(arg.nullable for arg in args)


def _meet(function: str, args: Sequence[Arg]) -> pa.DataType:
    meeting = unify(args)
    if meeting is None:
        raise mismatch(function, args, _how_to_meet(args))
    return meeting


def _numbers(function: str, args: Sequence[Arg], dtype: pa.DataType) -> pa.DataType:
    """`dtype`, which must be of numbers; float64 for columns that hold nothing but nulls."""
    if is_number(dtype) or pa.types.is_null(dtype):
        return pa.float64() if pa.types.is_null(dtype) else dtype
    wrong = next(arg for arg in args if not is_number(arg.type))
    fixed = number_for(wrong.type)
    raise mismatch(function, args, "numbers are needed" + (f": {cast_text(wrong.node, fixed)}" if fixed else ""))


def mismatch(function: str, args: Sequence[Arg], hint: str) -> KernelmillError:
    """KM0102 for arguments that a function does not take."""
    types = [dtype_text(arg.type) for arg in args]
    if len(args) == 2 and function in _VERBS:
        joiner = {"raise": "to the power of", "divide": "by"}.get(_VERBS[function], "with")
        what = f"cannot {_VERBS[function]} {types[0]} {joiner} {types[1]}"
    else:
        name = "when/then/otherwise" if function == "if_else" else function
        what = f"{name} does not take {' and '.join(types)}"
    shown = "; ".join(f"{node_text(arg.node)} is {kind}" for arg, kind in zip(args, types, strict=True))
    return error(Code.TYPE_MISMATCH, f"{what}: {shown}", hint=hint)


def _how_to_meet(args: Sequence[Arg]) -> str:
    left, right = args[0], args[-1]
    if mixes_signs(left.type, right.type):
        unsigned, signed = (left, right) if left.type == pa.uint64() else (right, left)
        fixed = cast_text(signed.node, pa.float64()) if unsigned.bare else cast_text(unsigned.node, pa.int64())
        return f"no integer type holds both: {fixed}"
    column, other = (left, right) if not left.bare else (right, left)
    if is_number(other.type) and (is_text(column.type) or pa.types.is_boolean(column.type)):
        return cast_text(column.node, other.type)
    is_cast_to_number = is_text(other.type) or pa.types.is_boolean(other.type)
    if is_number(column.type) and is_cast_to_number and not other.bare:
        return cast_text(other.node, column.type)
    if is_text(other.type) and pa.types.is_temporal(column.type):
        return "compare it with a datetime.date or datetime.datetime"
    return f"make them one type, e.g. {cast_text(column.node, other.type)}"
