"""Dates and timestamps where pyarrow.compute does otherwise than our semantics ask: reading, cutting, writing them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pyarrow as pa

from kernelmill.engine.compute import FALSE, Datum, cast, floor_divide, join_text, pc
from kernelmill.engine.errors import Code, error

_EVERY = re.compile(r"(\d*)(ns|us|ms|s|mo|m|h|d|w|q|y)")
EPOCH_UNITS = ("ns", "us", "ms", "s", "d")
_PER_DAY = {"ns": 86_400 * 10**9, "us": 86_400 * 10**6, "ms": 86_400_000, "s": 86_400, "d": 1}
_MULTIPLE_MAX = (1 << 31) - 1
_DIRECTIVE = re.compile(r"%([-_0^#]?[EO]?)(.?)", re.DOTALL)
_DIRECTIVES = frozenset("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%+")
_PADDED = frozenset("ekl")  # with a space before one digit
_UNIT_OF = {
    **{"ns": "nanosecond", "us": "microsecond", "ms": "millisecond", "s": "second", "m": "minute", "h": "hour"},
    **{"d": "day", "w": "week", "mo": "month", "q": "quarter", "y": "year"},
}


def check_format(form: str | None) -> str | None:
    """Give back a format of strptime, None for ISO 8601; KM0107 for what no text can be read by.

    pyarrow 26 crashes at an empty one.
    """
    if form == "":
        hint = 'say how it is written, as in "%d/%m/%Y"; no format is ISO 8601'
        raise error(Code.BAD_SETTING, "a date cannot be read by an empty format", hint=hint)
    if form is not None:
        _refuse_nul(form)
    for flags, letter in _DIRECTIVE.findall(form or ""):
        if letter == "Z":
            what = f"the format {form!r} has %Z, and names of time zones are not read"
            raise error(Code.BAD_SETTING, what, hint="%z reads an offset such as +0100")
        if letter not in _DIRECTIVES or not letter:
            what = f"the format {form!r} has %{flags}{letter}, which is no part of a date"
            hint = "fractions of a second are read by no format, which is ISO 8601" if letter == "f" else "a % is %%"
            raise error(Code.BAD_SETTING, what, hint=hint)
    return form


def check_written_format(form: str) -> str:
    """Give back a format of strftime; KM0107 for one with a part that would stay as it is in what is written."""
    _refuse_nul(form)
    moment: Any = pa.scalar(0, pa.timestamp("s", "UTC"))
    for directive in _DIRECTIVE.finditer(form):
        part = directive[0]
        if part == "%" or directive[2] in ("q", "Q") or pc.strftime(moment, format=part, locale="C").as_py() == part:
            what = f"the format {form!r} has {part}, which is no part of a date that can be written"
            raise error(Code.BAD_SETTING, what, hint="a % is %%; there are neither flags, as in %-d, nor %f")
    return form


def writes_zone(form: str) -> bool:
    """Tell whether a format of strftime writes the time zone."""
    return any(letter in ("z", "Z") for _, letter in _DIRECTIVE.findall(form))


def _refuse_nul(form: str) -> None:
    if "\0" in form:  # what is behind it would be left out
        raise error(Code.BAD_SETTING, f"the format {form!r} has a NUL character", hint="leave it out")


def to_moment(values: Datum, form: str | None, target: pa.DataType, *, strict: bool) -> Datum:
    """Text as a date or timestamp: ISO 8601, or as `form` says (strptime)."""
    if form is None:
        return cast(values, target, strict=strict)
    parsed = pc.strptime(values, format=form, unit="us", error_is_null=not strict)
    impossible = pc.or_(_is_impossible(values, form, parsed), _is_spaced_otherwise(values, form))
    if strict and pc.any(pa.array([impossible]) if isinstance(impossible, pa.Scalar) else impossible).as_py():
        raise pa.ArrowInvalid("no such day, a second 60, or a space too many")
    parsed = pc.if_else(impossible, pa.scalar(None, parsed.type), parsed)
    return pc.cast(parsed, options=pc.CastOptions(target, allow_time_truncate=True))


def _is_impossible(values: Datum, form: str, parsed: Datum) -> Datum:
    """Where strptime made another day of a day that its month lacks, or another minute of a second 60.

    What stands last in a format wins, so the text is read again with a January behind it, which has all days that may
    be written, and with a minute 0; in UTC, for a zone moves days too. If these then differ, something was rolled over.
    """
    written = _read(values, form, " 1 0 Z", " %m %M %z")
    rolled = _read(values, form, " Z", " %z") if "%z" in form else parsed
    differs = pc.or_(pc.not_equal(pc.day(written), pc.day(rolled)), pc.greater(pc.minute(written), pa.scalar(0)))
    return pc.coalesce(differs, FALSE)


def _is_spaced_otherwise(values: Datum, form: str) -> Datum:
    """Where strptime skipped white space for which the format has none: it does so before each number."""
    fits = pc.match_substring_regex(values, pattern=_spacing(form))
    return pc.coalesce(pc.invert(fits), FALSE)


@lru_cache(maxsize=256)
def _spacing(form: str) -> str:
    """A pattern for texts with white space only where `form` has it."""
    pattern, place = "", 0
    for directive in _DIRECTIVE.finditer(form):
        pattern += _literal(form[place : directive.start()])
        place = directive.end()
        match directive[2]:
            case "%":
                pattern += "%"
            case "n" | "t":
                pattern += "[[:space:]]*"
            case "c" | "r" | "x" | "X" | "+":  # of several parts
                pattern += ".*"
            case letter:
                padding = "[[:space:]]*" if letter in _PADDED or "_" in directive[1] else ""
                pattern += padding + "[^[:space:]]+"
    return f"(?s)^{pattern}{_literal(form[place:])}$"


def _literal(text: str) -> str:
    parts = re.split(r"[ \t-\r]+", text)
    return "[[:space:]]*".join(map(re.escape, parts))


def _read(values: Datum, form: str, more: str, form_of_more: str) -> Datum:
    text = join_text(values, pa.scalar(more, values.type))
    return pc.cast(pc.strptime(text, format=form + form_of_more, unit="us", error_is_null=True), pa.timestamp("us"))


def parse_every(every: str) -> tuple[int, str]:
    """The number and unit of a length of time such as "15m" or "1mo"; KM0107 for what is none."""
    form = _EVERY.fullmatch(every)
    if form is None or form[1].strip("0") == "" != form[1]:
        raise error(Code.BAD_SETTING, f"{every!r} is no length of time", hint="a number and ns us ms s m h d w mo q y")
    if len(form[1]) > 10 or int(form[1] or 1) > _MULTIPLE_MAX:
        raise error(Code.BAD_SETTING, f"{every!r} is too long", hint=f"the number is at most {_MULTIPLE_MAX}")
    return int(form[1] or 1), _UNIT_OF[form[2]]


def truncate(values: Datum, every: str) -> Datum:
    """The start of the window of length `every` that a moment is in; weeks start on Monday."""
    multiple, unit = parse_every(every)
    if pa.types.is_date(values.type) and unit in ("hour", "minute", "second", "millisecond", "microsecond"):
        return values
    return pc.floor_temporal(values, multiple=multiple, unit=unit, week_starts_monday=True)


def format_moment(values: Datum, form: str) -> Datum:
    """A moment as text, by strftime's rules in the C locale; %S is whole seconds."""
    if pa.types.is_timestamp(values.type) and values.type.unit != "s":
        # pyarrow's %S shows the fraction of the column's unit; Python's and Polars' do not
        floored = pc.floor_temporal(values, unit="second")
        values = pc.cast(floored, pa.timestamp("s", values.type.tz))
    return pc.strftime(values, format=form, locale="C")


def epoch(values: Datum, unit: str) -> Datum:
    """The units since 1970 in UTC, rounded down; raises where int64 does not hold them."""
    own = "d" if pa.types.is_date(values.type) else values.type.unit
    counted = pc.cast(pc.cast(values, pa.int32()) if own == "d" else values, pa.int64())
    finer, coarser = _PER_DAY[unit], _PER_DAY[own]
    if finer >= coarser:
        return pc.multiply_checked(counted, pa.scalar(finer // coarser, pa.int64()))
    return floor_divide(counted, pa.scalar(coarser // finer, pa.int64()))


def total_seconds(values: Datum) -> Datum:
    """The whole seconds of a duration, cut towards zero."""
    return pc.divide(pc.cast(values, pa.int64()), pa.scalar(_PER_DAY[values.type.unit] // _PER_DAY["s"], pa.int64()))


def replace_zone(values: Datum, zone: str | None, ambiguous: str, non_existent: str) -> Datum:
    """The same time on the clock in another zone, or in none; raises where the clock does not tell one moment."""
    local = values if values.type.tz is None else pc.local_timestamp(values)
    if zone is None:
        return local
    return pc.assume_timezone(local, timezone=zone, ambiguous=ambiguous, nonexistent=non_existent)


@lru_cache(maxsize=256)
def is_known_zone(dtype: pa.DataType) -> bool:
    """Tell whether the hour of day of timestamps of this type can be told: files may name zones that nobody knows."""
    moment: Any = pa.nulls(1, dtype)  # type: ignore[call-overload]  # its stubs want to know which type
    try:
        pc.hour(moment)
    except pa.ArrowInvalid:
        return False
    return True
