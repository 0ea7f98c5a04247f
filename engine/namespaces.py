"""The methods behind `.str` and `.dt`. Each makes one node; its arguments are checked here."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.moments import EPOCH_UNITS, check_format, check_written_format, is_known_zone, parse_every
from kernelmill.engine.nodes import Tokenize
from kernelmill.engine.options import whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.patterns import check_pattern
from kernelmill.engine.schema import is_unicode

if TYPE_CHECKING:
    from kernelmill.engine.expr import Expr  # it imports this module

_AT_CHANGES = ("raise", "earliest", "latest")
TOKENIZE_MODES = ("whitespace", "word", "identifier")
_FOREIGN = {
    **{"lower": "to_lowercase", "upper": "to_uppercase", "strip": "strip_chars", "lstrip": "strip_chars_start"},
    **{"rstrip": "strip_chars_end", "startswith": "starts_with", "endswith": "ends_with", "len": "len_chars"},
    **{"removeprefix": "strip_prefix", "removesuffix": "strip_suffix", "match": "contains", "strptime": "to_datetime"},
    **{"substr": "slice", "substring": "slice", "lengths": "len", "arr": "list", "dayofweek": "weekday"},
    **{"dayofyear": "ordinal_day", "floor": "truncate", "to_string": "strftime", "format": "strftime"},
}


class Namespace:
    """What each of them is: methods on an expression; KM0106 for a method that is not there."""

    __slots__ = ("_expr",)
    _what = ""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        known = sorted(member for member in dir(type(self)) if not member.startswith("_"))
        close = [_FOREIGN[name]] if _FOREIGN.get(name) in known else difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
        raise error(Code.UNKNOWN_NAME, f"{self._what} has no {name!r}", where=users_line(), hint=hint)


class StringNamespace(Namespace):
    """Work on text columns. Patterns are RE2's unless `literal`; text compares by bytes, without locale."""

    __slots__ = ()
    _what = ".str"

    def len_bytes(self) -> Expr:
        """Count the bytes: int64."""
        return self._expr._call("str.len_bytes")

    def len_chars(self) -> Expr:
        """Count the characters (code points): int64."""
        return self._expr._call("str.len_chars")

    def to_lowercase(self) -> Expr:
        """Turn each character into its lower case, one to one."""
        return self._expr._call("str.to_lowercase")

    def to_uppercase(self) -> Expr:
        """Turn each character into its upper case, one to one."""
        return self._expr._call("str.to_uppercase")

    def strip_chars(self, characters: str | None = None) -> Expr:
        """Cut `characters` (None: Unicode white space) off both ends."""
        return self._expr._call("str.strip_chars", characters=_maybe_text("strip_chars", "characters", characters))

    def strip_chars_start(self, characters: str | None = None) -> Expr:
        """Cut `characters` (None: Unicode white space) off the start."""
        given = _maybe_text("strip_chars_start", "characters", characters)
        return self._expr._call("str.strip_chars_start", characters=given)

    def strip_chars_end(self, characters: str | None = None) -> Expr:
        """Cut `characters` (None: Unicode white space) off the end."""
        given = _maybe_text("strip_chars_end", "characters", characters)
        return self._expr._call("str.strip_chars_end", characters=given)

    def strip_prefix(self, prefix: str) -> Expr:
        """Cut `prefix` off the start, once, where it is there."""
        return self._expr._call("str.strip_prefix", prefix=checked_text("strip_prefix", "prefix", prefix))

    def strip_suffix(self, suffix: str) -> Expr:
        """Cut `suffix` off the end, once, where it is there."""
        return self._expr._call("str.strip_suffix", suffix=checked_text("strip_suffix", "suffix", suffix))

    def starts_with(self, prefix: str) -> Expr:
        """Tell where the text starts with `prefix`."""
        return self._expr._call("str.starts_with", prefix=checked_text("starts_with", "prefix", prefix))

    def ends_with(self, suffix: str) -> Expr:
        """Tell where the text ends with `suffix`."""
        return self._expr._call("str.ends_with", suffix=checked_text("ends_with", "suffix", suffix))

    def contains(self, pattern: str, *, literal: bool = False) -> Expr:
        """Tell where `pattern` occurs."""
        return self._expr._call("str.contains", **_pattern("contains", pattern, literal))

    def find(self, pattern: str, *, literal: bool = False) -> Expr:
        """Give the byte offset of the first match: int64, null where there is none."""
        return self._expr._call("str.find", **_pattern("find", pattern, literal))

    def count_matches(self, pattern: str, *, literal: bool = False) -> Expr:
        """Count matches that do not overlap: int64; an empty one lies before each character and at the end."""
        return self._expr._call("str.count_matches", **_pattern("count_matches", pattern, literal))

    def replace(self, pattern: str, value: str, *, literal: bool = False, n: int = 1) -> Expr:
        r"""Replace the first `n` matches by `value`, in which `\1` is the first group."""
        whole_number("n", n, 0)
        return self._expr._call("str.replace", **_replacement("replace", pattern, value, literal), n=n)

    def replace_all(self, pattern: str, value: str, *, literal: bool = False) -> Expr:
        r"""Replace every match by `value`, in which `\1` is the first group.

        As RE2 has it: an empty match right after another match is none, so `x*` becomes `-a-` in "xa", not `--a-`.
        """
        return self._expr._call("str.replace_all", **_replacement("replace_all", pattern, value, literal))

    def extract(self, pattern: str, group_index: int = 1) -> Expr:
        """Give group `group_index` (0: all) of the first match; null without a match, or if it took no part in it."""
        whole_number("group_index", group_index, 0)
        with located(users_line()):
            check_pattern(checked_text("extract", "pattern", pattern), literal=False, group=group_index)
        return self._expr._call("str.extract", pattern=pattern, group_index=group_index)

    def extract_all(self, pattern: str) -> Expr:
        """Give all matches that do not overlap, as a list; matches of nothing are those of `replace_all`."""
        with located(users_line()):
            check_pattern(checked_text("extract_all", "pattern", pattern), literal=False)
        return self._expr._call("str.extract_all", pattern=pattern)

    def split(self, by: str) -> Expr:
        """Split at each `by`, taken as it is, into lists of text."""
        if not checked_text("split", "by", by):
            raise _bad("split(by='')", "a separator of at least one character")
        return self._expr._call("str.split", by=by)

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """Take `length` characters (None: all) from `offset`; a negative one counts from the end."""
        whole_number("offset", offset)
        if length is not None:
            whole_number("length", length, 0)
        return self._expr._call("str.slice", offset=offset, length=length)

    def head(self, n: int) -> Expr:
        """Take the first `n` characters."""
        return self._expr._call("str.slice", offset=0, length=whole_number("n", n, 0))

    def tail(self, n: int) -> Expr:
        """Take the last `n` characters."""
        if whole_number("n", n, 0) == 0:
            return self.head(0)
        return self._expr._call("str.slice", offset=-n, length=None)

    def to_date(self, format: str | None = None, *, strict: bool = True) -> Expr:
        """Read a date: ISO 8601, or as `format` (strptime) says; KM0207 for another text, or null if not `strict`."""
        return self._expr._call("str.to_date", format=_format("to_date", format), strict=bool(strict))

    def to_datetime(self, format: str | None = None, *, strict: bool = True) -> Expr:
        """Read a timestamp[us] as `to_date` reads a date; seconds may have a fraction only in ISO 8601."""
        return self._expr._call("str.to_datetime", format=_format("to_datetime", format), strict=bool(strict))

    def to_integer(self, *, strict: bool = True) -> Expr:
        """Read a decimal int64; KM0207 for another text, or null if not `strict`."""
        return self._expr._call("str.to_integer", strict=bool(strict))

    def tokenize(
        self,
        mode: str = "whitespace",
        *,
        lowercase: bool = False,
        min_len: int = 1,
        separators: str | bytes | None = None,
    ) -> Expr:
        """Split text into lists of tokens: between white space, runs of word characters, identifiers, or `separators`.

        whitespace splits as Python's bytes.split(); word: A-Z a-z 0-9 _ and all bytes above 127; identifier: a word
        that does not start with a digit; `separators`: any set of ASCII characters to split at. `lowercase` turns
        each character into its lower case, one to one; tokens shorter than `min_len` bytes are left out. KM0107 for
        another mode or set.
        """
        whole_number("min_len", min_len, 1)
        if separators is None:
            _one_of("tokenize", "mode", mode, TOKENIZE_MODES)
            return self._tokenize(mode, bool(lowercase), min_len, b"")
        if mode not in ("whitespace", "separators"):
            raise _bad(f"tokenize({mode!r}, separators=...)", "give a mode or separators, not both")
        given: object = separators.encode() if isinstance(separators, str) and separators.isascii() else separators
        if not isinstance(given, bytes) or not given or max(given) > 127:
            raise _bad(f"tokenize(separators={separators!r})", 'ASCII characters to split at, e.g. separators=" ,;\\n"')
        return self._tokenize("separators", bool(lowercase), min_len, bytes(sorted(set(given))))

    def _tokenize(self, mode: str, lowercase: bool, min_len: int, separators: bytes) -> Expr:
        return type(self._expr._call("is_null"))(Tokenize(self._expr.node, mode, lowercase, min_len, separators))


class DateTimeNamespace(Namespace):
    """Work on dates and timestamps; those with a zone are read in their zone. Numbers are int64."""

    __slots__ = ()
    _what = ".dt"

    def year(self) -> Expr:
        """Give the year."""
        return self._expr._call("dt.year")

    def month(self) -> Expr:
        """Give the month, 1 to 12."""
        return self._expr._call("dt.month")

    def day(self) -> Expr:
        """Give the day of the month, 1 to 31."""
        return self._expr._call("dt.day")

    def hour(self) -> Expr:
        """Give the hour, 0 to 23, of a timestamp."""
        return self._expr._call("dt.hour")

    def minute(self) -> Expr:
        """Give the minute, 0 to 59, of a timestamp."""
        return self._expr._call("dt.minute")

    def second(self) -> Expr:
        """Give the whole second, 0 to 59, of a timestamp."""
        return self._expr._call("dt.second")

    def weekday(self) -> Expr:
        """Give the day of the week: Monday is 1, Sunday 7."""
        return self._expr._call("dt.weekday")

    def ordinal_day(self) -> Expr:
        """Give the day of the year, 1 to 366."""
        return self._expr._call("dt.ordinal_day")

    def week(self) -> Expr:
        """Give the week of the year by ISO 8601, 1 to 53."""
        return self._expr._call("dt.week")

    def iso_year(self) -> Expr:
        """Give the year that the week belongs to by ISO 8601."""
        return self._expr._call("dt.iso_year")

    def date(self) -> Expr:
        """Give the date without the time of day."""
        return self._expr._call("dt.date")

    def truncate(self, every: str) -> Expr:
        """Give the start of the window of length `every` ("15m", "1h", "1d", "1w", "1mo", "1q", "1y")."""
        with located(users_line()):
            parse_every(checked_text("truncate", "every", every))
        return self._expr._call("dt.truncate", every=every)

    def epoch(self, unit: str = "us") -> Expr:
        """Count the units (ns us ms s d) since 1970-01-01 in UTC, rounded down: int64."""
        _one_of("epoch", "unit", unit, EPOCH_UNITS)
        return self._expr._call("dt.epoch", unit=unit)

    def total_seconds(self) -> Expr:
        """Give the whole seconds of a duration, its fraction cut off: int64."""
        return self._expr._call("dt.total_seconds")

    def convert_time_zone(self, time_zone: str) -> Expr:
        """Show the same moments in `time_zone`; those without a zone count as UTC. KM0107 for an unknown zone."""
        return self._expr._call("dt.convert_time_zone", time_zone=_zone("convert_time_zone", time_zone))

    def replace_time_zone(
        self, time_zone: str | None, *, ambiguous: str = "raise", non_existent: str = "raise"
    ) -> Expr:
        """Keep the clock's time and say which zone it is of (None: of none).

        ambiguous: what is done with a time that a clock set back shows twice; non_existent: with one that a clock set
        forward leaves out: raise (KM0207), or take the earliest or latest moment.
        """
        zone = None if time_zone is None else _zone("replace_time_zone", time_zone)
        _one_of("replace_time_zone", "ambiguous", ambiguous, _AT_CHANGES)
        _one_of("replace_time_zone", "non_existent", non_existent, _AT_CHANGES)
        options = {"time_zone": zone, "ambiguous": ambiguous, "non_existent": non_existent}
        return self._expr._call("dt.replace_time_zone", **options)

    def strftime(self, format: str) -> Expr:
        """Write the moment as text as `format` says (strftime, C locale); %Z and %z need a column with a time zone."""
        with located(users_line()):
            check_written_format(checked_text("strftime", "format", format))
        return self._expr._call("dt.strftime", format=format)


def _pattern(verb: str, pattern: object, literal: bool) -> dict[str, Any]:
    text = checked_text(verb, "pattern", pattern)
    with located(users_line()):
        check_pattern(text, literal=literal)
    return {"pattern": text, "literal": bool(literal)}


def _replacement(verb: str, pattern: object, value: object, literal: bool) -> dict[str, Any]:
    options = _pattern(verb, pattern, literal)
    text = checked_text(verb, "value", value)
    if literal and not options["pattern"]:
        # pyarrow 26 never returns from replacing an empty literal, its memory growing without end
        raise _bad(f"{verb}(pattern='', literal=True)", "a pattern of at least one character")
    if not literal:
        try:
            pa.compute.replace_substring_regex(pa.array([""]), pattern=f"(?:{options['pattern']})|", replacement=text)
        except pa.ArrowInvalid as exc:
            hint = r"\1 is the first group of the pattern, \\ a backslash; literal=True takes both texts as they are"
            raise _bad(f"{verb}(value={text!r}): {exc}", hint) from exc
    return {**options, "value": text}


def _one_of(verb: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value in allowed:
        return
    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = (f"did you mean {close[0]!r}? " if close else "") + f"{name} is one of {', '.join(allowed)}"
    raise _bad(f"{verb}({name}={value!r})", hint)


def checked_text(verb: str, name: str, value: object) -> str:
    """Give back `value` if it is a string of whole characters; else KM0107."""
    if not isinstance(value, str):
        raise _bad(f"{verb}({name}={value!r})", "a string; expressions are not taken here")
    if not is_unicode(value):
        raise _bad(f"{verb}({name}={value!r})", "whole characters, not half a surrogate pair")
    return value


def _zone(verb: str, value: object) -> str:
    zone = checked_text(verb, "time_zone", value)
    if not zone or not is_known_zone(pa.timestamp("us", zone)):
        raise _bad(f"{verb}(time_zone={value!r}): no such zone is known here", '"UTC", "Europe/Berlin", "+02:00"...')
    return zone


def _maybe_text(verb: str, name: str, value: object) -> str | None:
    return None if value is None else checked_text(verb, name, value)


def _format(verb: str, value: object) -> str | None:
    with located(users_line()):
        return check_format(_maybe_text(verb, "format", value))


def _bad(what: str, hint: str) -> KernelmillError:
    return error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
