"""Records of delimited text: where they begin, whatever stands in quotes, against a regular expression."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Guarded

from kernelmill.kernels.records import find_records

_FIELD = rb'(?:"(?:[^"]|"")*+"[^,\r\n]*+|(?!")[^,\r\n]*+)'
_RECORD_BODY = re.compile(_FIELD + rb"(?:," + _FIELD + rb")*+")
_RECORD = re.compile(_RECORD_BODY.pattern + rb"(?:\r\n|\n|\r)")
_UNQUOTED = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)")
_PIECES = st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"\r\n", b"a", b"#", b"##", b"\xff"]), max_size=40)


def records_by_regex(data: bytes, quote: bool, comment: bytes) -> tuple[list[int], int]:
    """Where the records begin that end, and where the first begins that does not."""
    starts, at = [], 0
    while at < len(data):
        is_plain = not quote or (comment and data.startswith(comment, at))
        found = (_UNQUOTED if is_plain else _RECORD).match(data, at)
        if found is None:
            break
        starts.append(at)
        at = found.end()
    return starts, at


def found_in(data: bytes, quote: bool = True, comment: bytes = b"") -> tuple[list[int], int, int, bool]:
    starts, found = Guarded(len(data) + 1, np.int64), Guarded(3, np.int64)
    view = np.frombuffer(data, np.uint8)
    sign = np.frombuffer(comment, np.uint8)
    count = find_records(view, 0, len(data), ord(","), ord('"') if quote else -1, sign, starts.array, found.array)
    end, newlines, is_open = found.check().tolist()
    return starts.check()[:count].tolist(), end, newlines, bool(is_open)


@given(_PIECES.map(b"".join), st.booleans(), st.sampled_from([b"", b"#", b"##"]))
def test_records_are_those_of_the_expression(data, quote, comment):
    starts, end, newlines, is_open = found_in(data, quote, comment)
    assert (starts, end) == records_by_regex(data, quote, comment)
    is_plain = not quote or (comment and data.startswith(comment, end))
    assert is_open == (not is_plain and _RECORD_BODY.fullmatch(data, end) is None)
    bounds = [*starts, end]
    inside = sum(data[a:b].rstrip(b"\r\n").count(b"\n") for a, b in zip(bounds, bounds[1:], strict=False))
    assert newlines >= inside


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ([], 0, 0, False)),
        (b"a,b\nc,d\n", ([0, 4], 8, 0, False)),
        (b'a,"b\nc",d\n', ([0], 10, 1, False)),
        (b'a,5" b\n', ([0], 7, 0, False)),
        (b'"a""\nb"\n', ([0], 8, 1, False)),
        (b'a\n"b\n', ([0], 2, 1, True)),
        (b"a\nb", ([0], 2, 0, False)),
        (b"a\r\nb\rc\n", ([0, 3, 5], 7, 0, False)),
    ],
)
def test_quotes_newlines_and_ends_are_told(data, expected):
    assert found_in(data) == expected
