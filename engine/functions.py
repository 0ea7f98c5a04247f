"""The table of scalar functions: name -> how many arguments, its type rule, what pyarrow does for it, how it fails.

A name here is a `Call.function`. Arguments are expressions; options are plain values, checked by `engine/expr`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from kernelmill.engine import compute, listcompute, moments, nestedrules, patterns, rules
from kernelmill.engine.compute import Datum, pc
from kernelmill.engine.errors import Code
from kernelmill.engine.rules import Options, Rule

Apply = Callable[[list[Datum], Options], Datum]


class Function(NamedTuple):
    """One row of the table. `arity` is how many arguments it takes at least: hash alone takes more.

    `fails` is the code of the error that a bad value raises, None: none can.
    """

    arity: int
    rule: Rule
    apply: Apply
    fails: Code | None = None


def _arrow(name: str, **fixed: Any) -> Apply:
    """pyarrow's function `name` with the arguments as they come; looked up when it is called, as all are here."""
    return lambda args, options: getattr(pc, name)(*args, **fixed)


def _own(function: Callable[..., Datum]) -> Apply:
    """A function of `engine/compute` that takes the arguments alone."""
    return lambda args, options: function(*args)


def _invert(args: list[Datum], options: Options) -> Datum:
    return pc.invert(args[0]) if pa.types.is_boolean(args[0].type) else pc.bit_wise_not(args[0])


def _logic(kleene: str, bitwise: str) -> Apply:
    return lambda args, options: getattr(pc, bitwise if pa.types.is_integer(args[0].type) else kleene)(*args)


def _add(args: list[Datum], options: Options) -> Datum:
    kind = args[0].type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return compute.join_text(*args)
    return compute.join_text(*args) if pa.types.is_large_binary(kind) else pc.add_checked(*args)


def _same_or(function: str) -> Apply:
    """pyarrow's rounding `function` for floats; integers are round already."""
    return lambda args, options: args[0] if pa.types.is_integer(args[0].type) else getattr(pc, function)(args[0])


def _search(literal: str, regex: str) -> Apply:
    return lambda args, o: getattr(pc, literal if o["literal"] else regex)(args[0], pattern=o["pattern"])


def _strip(side: str) -> Apply:
    def apply(args: list[Datum], options: Options) -> Datum:
        characters = options["characters"]
        if characters is None:
            return getattr(pc, f"utf8_{side}_whitespace")(args[0])
        return getattr(pc, f"utf8_{side}")(args[0], characters=characters)

    return apply


def _moment(target: pa.DataType) -> Apply:
    return lambda args, o: moments.to_moment(args[0], o["format"], target, strict=o["strict"])


def _hash(args: list[Datum], options: Options) -> Datum:
    """By the kernels, which come with the first execution, not with the import of this."""
    made: Datum = importlib.import_module("kernelmill.engine.exec.rowhash").hashed(args, options["seed"])
    return made


_TEXT = rules.text(None)
_CHARACTERS = rules.text(None, bytes_too=False)  # needs to know characters: pyarrow has no kernel for bytes
_TEXT_TO_BOOL = rules.text(pa.bool_())
_TEXT_TO_INT = rules.text(pa.int64())
_MOMENT_TO_INT = rules.moment(pa.int64())
_TIME_TO_INT = rules.moment(pa.int64(), dates_too=False)

_OPERATORS: dict[str, Function] = {
    "add": Function(2, rules.arithmetic, _add, Code.OVERFLOW),
    "sub": Function(2, rules.arithmetic, _arrow("subtract_checked"), Code.OVERFLOW),
    "mul": Function(2, rules.arithmetic, _arrow("multiply_checked"), Code.OVERFLOW),
    "truediv": Function(2, rules.true_divide, _arrow("divide")),
    "floordiv": Function(2, rules.floor_divide, _own(compute.floor_divide), Code.OVERFLOW),
    "mod": Function(2, rules.floor_divide, _own(compute.modulo)),
    "pow": Function(2, rules.power, _own(compute.power), Code.OVERFLOW),
    "neg": Function(1, rules.negative, _arrow("negate_checked"), Code.OVERFLOW),
    "eq": Function(2, rules.compare, _own(compute.equal)),
    "ne": Function(2, rules.compare, _own(compute.not_equal)),
    "lt": Function(2, rules.compare, _own(compute.less)),
    "le": Function(2, rules.compare, _own(compute.less_equal)),
    "gt": Function(2, rules.compare, lambda args, o: compute.less(args[1], args[0])),
    "ge": Function(2, rules.compare, lambda args, o: compute.less_equal(args[1], args[0])),
    "eq_missing": Function(2, rules.compare_missing, _own(compute.equal_missing)),
    "ne_missing": Function(2, rules.compare_missing, lambda args, o: pc.invert(compute.equal_missing(*args))),
    "and": Function(2, rules.logic, _logic("and_kleene", "bit_wise_and")),
    "or": Function(2, rules.logic, _logic("or_kleene", "bit_wise_or")),
    "xor": Function(2, rules.logic, _logic("xor", "bit_wise_xor")),
    "not": Function(1, rules.logic, _invert),
}
_ANY_TYPE: dict[str, Function] = {
    "is_null": Function(1, rules.null_test, _arrow("is_null")),
    "is_not_null": Function(1, rules.null_test, _arrow("is_valid")),
    "fill_null": Function(2, rules.coalesce, _arrow("coalesce")),
    "is_in": Function(2, rules.member, _own(compute.is_in)),
    "hash": Function(1, rules.hashed, _hash),
    "if_else": Function(3, rules.choose, _own(compute.choose)),
}
_NUMBERS: dict[str, Function] = {
    "abs": Function(1, rules.size, _arrow("abs_checked"), Code.OVERFLOW),
    "round": Function(1, rules.number, lambda args, o: compute.round_to(args[0], o["decimals"]), Code.OVERFLOW),
    "floor": Function(1, rules.number, _same_or("floor")),
    "ceil": Function(1, rules.number, _same_or("ceil")),
    "sqrt": Function(1, rules.number_to_float, _arrow("sqrt")),
    "exp": Function(1, rules.number_to_float, _arrow("exp")),
    "log": Function(1, rules.number_to_float, lambda args, o: compute.logarithm(args[0], o["base"])),
    "clip_min": Function(2, rules.numbers_alike, _own(compute.at_least)),
    "clip_max": Function(2, rules.numbers_alike, _own(compute.at_most)),
    "is_nan": Function(1, rules.number_to_bool, _arrow("is_nan")),
    "is_finite": Function(1, rules.number_to_bool, _arrow("is_finite")),
    "fill_nan": Function(2, rules.fill_not_a_number, _own(compute.fill_nan)),
}
_TEXTS: dict[str, Function] = {
    "str.len_bytes": Function(1, _TEXT_TO_INT, _arrow("binary_length")),
    "str.len_chars": Function(1, rules.text(pa.int64(), bytes_too=False), _arrow("utf8_length")),
    "str.to_lowercase": Function(1, _CHARACTERS, _arrow("utf8_lower")),
    "str.to_uppercase": Function(1, _CHARACTERS, _arrow("utf8_upper")),
    "str.strip_chars": Function(1, _CHARACTERS, _strip("trim")),
    "str.strip_chars_start": Function(1, _CHARACTERS, _strip("ltrim")),
    "str.strip_chars_end": Function(1, _CHARACTERS, _strip("rtrim")),
    "str.strip_prefix": Function(1, _TEXT, lambda args, o: compute.strip_prefix(args[0], o["prefix"])),
    "str.strip_suffix": Function(1, _TEXT, lambda args, o: compute.strip_suffix(args[0], o["suffix"])),
    "str.starts_with": Function(1, _TEXT_TO_BOOL, lambda args, o: pc.starts_with(args[0], pattern=o["prefix"])),
    "str.ends_with": Function(1, _TEXT_TO_BOOL, lambda args, o: pc.ends_with(args[0], pattern=o["suffix"])),
    "str.contains": Function(1, _TEXT_TO_BOOL, _search("match_substring", "match_substring_regex")),
    "str.count_matches": Function(
        1, _TEXT_TO_INT, lambda args, o: patterns.count_matches(args[0], o["pattern"], literal=o["literal"])
    ),
    "str.find": Function(
        1,
        rules.text(pa.int64(), nullable=True),
        lambda args, o: patterns.find(args[0], o["pattern"], literal=o["literal"]),
    ),
    "str.replace": Function(
        1, _TEXT, lambda args, o: patterns.replace(args[0], o["pattern"], o["value"], literal=o["literal"], most=o["n"])
    ),
    "str.replace_all": Function(
        1, _TEXT, lambda args, o: patterns.replace(args[0], o["pattern"], o["value"], literal=o["literal"], most=None)
    ),
    "str.extract": Function(
        1, rules.text(None, nullable=True), lambda args, o: patterns.extract(args[0], o["pattern"], o["group_index"])
    ),
    "str.extract_all": Function(1, rules.split_text, lambda args, o: patterns.extract_all(args[0], o["pattern"])),
    "str.split": Function(1, rules.split_text, lambda args, o: pc.split_pattern(args[0], pattern=o["by"])),
    "str.slice": Function(1, _TEXT, lambda args, o: compute.slice_text(args[0], o["offset"], o["length"])),
    "str.to_date": Function(1, rules.text(pa.date32(), bytes_too=False), _moment(pa.date32()), Code.CAST),
    "str.to_datetime": Function(
        1, rules.text(pa.timestamp("us"), bytes_too=False), _moment(pa.timestamp("us")), Code.CAST
    ),
    "str.to_integer": Function(
        1,
        rules.text(pa.int64(), bytes_too=False),
        lambda args, o: compute.cast(args[0], pa.int64(), strict=o["strict"]),
        Code.CAST,
    ),
}
_MOMENTS: dict[str, Function] = {
    "dt.year": Function(1, _MOMENT_TO_INT, _arrow("year")),
    "dt.month": Function(1, _MOMENT_TO_INT, _arrow("month")),
    "dt.day": Function(1, _MOMENT_TO_INT, _arrow("day")),
    "dt.hour": Function(1, _TIME_TO_INT, _arrow("hour")),
    "dt.minute": Function(1, _TIME_TO_INT, _arrow("minute")),
    "dt.second": Function(1, _TIME_TO_INT, _arrow("second")),
    "dt.weekday": Function(1, _MOMENT_TO_INT, _arrow("day_of_week", count_from_zero=False, week_start=1)),
    "dt.ordinal_day": Function(1, _MOMENT_TO_INT, _arrow("day_of_year")),
    "dt.week": Function(1, _MOMENT_TO_INT, _arrow("iso_week")),
    "dt.iso_year": Function(1, _MOMENT_TO_INT, _arrow("iso_year")),
    "dt.date": Function(1, rules.moment(pa.date32()), lambda args, o: compute.cast(args[0], pa.date32(), strict=True)),
    "dt.truncate": Function(1, rules.moment(None), lambda args, o: moments.truncate(args[0], o["every"])),
    "dt.epoch": Function(1, _MOMENT_TO_INT, lambda args, o: moments.epoch(args[0], o["unit"]), Code.OVERFLOW),
    "dt.total_seconds": Function(1, rules.duration, lambda args, o: moments.total_seconds(args[0])),
    "dt.convert_time_zone": Function(
        1, rules.zoned, lambda args, o: pc.cast(args[0], pa.timestamp(args[0].type.unit, o["time_zone"]))
    ),
    "dt.replace_time_zone": Function(
        1,
        rules.zoned,
        lambda args, o: moments.replace_zone(args[0], o["time_zone"], o["ambiguous"], o["non_existent"]),
        Code.CAST,
    ),
    "dt.strftime": Function(1, rules.written_moment, lambda args, o: moments.format_moment(args[0], o["format"])),
}
_LISTS: dict[str, Function] = {
    "list.len": Function(1, rules.of_list, _arrow("list_value_length")),
    "list.get": Function(1, rules.of_list, lambda args, o: compute.list_get(args[0], o["index"])),
    "list.contains": Function(2, rules.of_list, _own(compute.list_contains)),
    "list.join": Function(1, rules.of_list, lambda args, o: compute.list_join(args[0], o["separator"])),
    "list.sort": Function(
        1, nestedrules.ordered_list, lambda args, o: listcompute.list_sort(args[0], o["descending"], o["nulls_last"])
    ),
    "list.unique": Function(1, nestedrules.unique_list, _own(listcompute.list_unique)),
    "list.min": Function(1, nestedrules.ordered_list, _own(listcompute.list_min)),
    "list.max": Function(1, nestedrules.ordered_list, _own(listcompute.list_max)),
    "list.sum": Function(1, nestedrules.summed_list, _own(listcompute.list_sum), Code.OVERFLOW),
    "list.mean": Function(1, nestedrules.summed_list, _own(listcompute.list_mean)),
}
_STRUCTS: dict[str, Function] = {
    "struct.field": Function(1, nestedrules.field_of_struct, lambda args, o: pc.struct_field(args[0], o["name"])),
}

VALUE_TESTS = frozenset(
    ("eq", "ne", "lt", "le", "gt", "ge", "is_in", "str.starts_with", "str.ends_with", "str.contains"),
)
"""Functions that say yes or no of a value beside literals, null of null, and never fail: asked once of equal values."""

FUNCTIONS: Mapping[str, Function] = {
    **_OPERATORS,
    **_ANY_TYPE,
    **_NUMBERS,
    **_TEXTS,
    **_MOMENTS,
    **_LISTS,
    **_STRUCTS,
}
