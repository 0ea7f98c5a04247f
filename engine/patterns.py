"""Regular expressions over columns of text: what pyarrow.compute lacks or gets wrong, and checks of patterns (RE2)."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa

from kernelmill.engine.compute import Datum, pc
from kernelmill.engine.errors import Code, error
from kernelmill.engine.promotion import is_text


def find(values: Datum, pattern: str, *, literal: bool) -> Datum:
    """The byte offset of the first match, null if there is none."""
    found = (pc.find_substring if literal else pc.find_substring_regex)(values, pattern=pattern)
    return pc.if_else(pc.less(found, pa.scalar(0, found.type)), pa.scalar(None, found.type), found)


def replace(values: Datum, pattern: str, value: str, *, literal: bool, most: int | None) -> Datum:
    r"""Matches replaced by `value`, at most `most` of them; a group is `\1` in `value` (RE2)."""
    if literal:
        return pc.replace_substring(values, pattern=pattern, replacement=value, max_replacements=most)
    return pc.replace_substring_regex(values, pattern=pattern, replacement=value, max_replacements=most)


def count_matches(values: Datum, pattern: str, *, literal: bool) -> Datum:
    """The number of matches that do not overlap; those of an empty text lie between characters."""
    if literal and pattern:
        return pc.count_substring(values, pattern=pattern)
    pattern = "" if literal else pattern
    if not _depends_on_place(pattern):
        return pc.count_substring_regex(values, pattern=pattern)
    # pyarrow's counting takes what is left after a match for a text of its own, at whose start ^ and \b match again,
    # and goes byte by byte where a match is empty; its replacing does not, so each match is made a byte longer
    longer, shorter = (pc.replace_substring_regex(values, pattern=pattern, replacement=by) for by in ("-", ""))
    return pc.subtract(pc.binary_length(longer), pc.binary_length(shorter))


@lru_cache(maxsize=256)
def _depends_on_place(pattern: str) -> bool:
    """Whether a pattern may match nothing, or looks at what is before a match; [^...] does not."""
    is_anchored = re.search(r"(?<!\[)\^|\\[AbB]", pattern) is not None
    return is_anchored or bool(pc.match_substring_regex(pa.scalar(""), pattern=pattern).as_py())


def extract(values: Datum, pattern: str, group: int) -> Datum:
    """What group `group` (0: the whole) of the first match holds; null without a match."""
    named, names = name_groups(pattern)
    found = pc.extract_regex(values, pattern=named)
    part = pc.struct_field(found, names[group])
    empty = pc.equal(part, pa.scalar("" if is_text(part.type) else b"", part.type))
    if pc.any(pa.array([empty]) if isinstance(empty, pa.Scalar) else empty).as_py():
        # an empty text, or no part in the match: only the places tell, which are null then
        found = pc.extract_regex_span(values, pattern=named)
        found = pc.struct_field(found, names[group])
    return pc.if_else(pc.is_valid(found), part, pa.scalar(None, part.type))


def extract_all(values: Datum, pattern: str) -> Datum:
    """All matches of each text, as a list.

    pyarrow finds the first only, so marks are put around each match and the text is cut at them: every other piece is
    one. A mark neither begins as it ends nor occurs in a text, so it is found only where it was put.
    """
    if isinstance(values, pa.Scalar):
        return extract_all(pa.array([values], values.type), pattern)[0]
    mark = next(mark for mark in map("\x01{}\x02".format, range(1 << 31)) if not _occurs(values, mark))
    marked = pc.replace_substring_regex(values, pattern=pattern, replacement=rf"{mark}\0{mark}")
    pieces = pc.split_pattern(marked, pattern=mark)
    counts = np.asarray(pc.coalesce(pc.list_value_length(pieces), pa.scalar(0, pa.int32()))).astype(np.int64)
    flat, firsts = pieces.flatten(), np.cumsum(counts) - counts
    is_match = (np.arange(len(flat)) - np.repeat(firsts, counts)) % 2 == 1
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(counts // 2, out=offsets[1:])
    found, bounds = flat.filter(pa.array(is_match)), pa.array(offsets, pa.int32())
    return pa.ListArray.from_arrays(bounds, found, type=pa.list_(values.type), mask=pc.is_null(values))


def _occurs(values: Datum, text: str) -> bool:
    return bool(pc.any(pc.match_substring(values, pattern=text)).as_py())


@lru_cache(maxsize=256)
def name_groups(pattern: str) -> tuple[str, list[str]]:
    """The pattern with a name for each of its groups, the whole being the first, and the names.

    pyarrow's extract_regex takes only patterns whose groups are all named.
    """
    out, names, place, in_class = ["(?P<g0>"], ["g0"], 0, False
    while place < len(pattern):
        here = pattern[place]
        if here == "\\":
            end = pattern.find("\\E", place) + 2 if pattern[place + 1 : place + 2] == "Q" else place + 2
            end = len(pattern) if end < place + 2 else end
            out.append(pattern[place:end])
            place = end
            continue
        if in_class:
            in_class = here != "]"
        elif here == "[":
            in_class = True
            # a "]" that comes first, or first after "^", is itself a member
            more = re.match(r"\[\^?\]?", pattern[place:])
            here = more[0] if more else here
        elif here == "(":
            given = re.match(r"\(\?P?<(\w+)>", pattern[place:])
            if given or pattern[place + 1 : place + 2] != "?":
                names.append(f"g{len(names)}")
                here, skipped = f"(?P<{names[-1]}>", len(given[0]) if given else 1
                out.append(here)
                place += skipped
                continue
        out.append(here)
        place += len(here)
    return "".join([*out, ")"]), names


def check_pattern(pattern: str, *, literal: bool, group: int | None = None) -> None:
    """Raise KM0107 where `pattern` is no regular expression of RE2, or has no such group."""
    if literal:
        return
    try:
        pc.match_substring_regex(pa.array([""]), pattern=pattern)
    except pa.ArrowInvalid as exc:
        hint = "patterns are RE2's: no look-around, no back-references; literal=True takes the text as it is"
        raise error(Code.BAD_SETTING, f"pattern {pattern!r}: {exc}", hint=hint) from exc
    if group is not None and not 0 <= group < len(name_groups(pattern)[1]):
        groups = len(name_groups(pattern)[1]) - 1
        raise error(Code.BAD_SETTING, f"pattern {pattern!r} has no group {group}", hint=f"it has {groups}; 0 is all")
