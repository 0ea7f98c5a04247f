"""examples/distributed_grep.py against a loop over the lines of the files."""

import re
from pathlib import Path

import pytest


def lines_of(pattern):
    for path in sorted(Path(pattern).parent.glob(Path(pattern).name)):
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            yield str(path), offset, line.decode().rstrip("\n")
            offset += len(line)


@pytest.mark.parametrize("pattern", ["Bethlehem", "and the", "no such text"])
def test_it_finds_the_lines_that_hold_the_pattern(load, inputs, pattern):
    found = load("distributed_grep").grep(inputs.KJV, pattern).collect()
    expected = [row for row in lines_of(inputs.KJV) if pattern in row[2]]
    assert found.rows() == expected
    assert found.counters == {"lines": 31_102, "matches": len(expected)} or not expected


def test_a_regular_expression_narrows_the_lines_first(load, inputs):
    regex = r"^And .*\bJe[rs]\w+"
    found = load("distributed_grep").grep(inputs.KJV, "king", regex).collect().rows()
    expected = [row for row in lines_of(inputs.KJV) if "king" in row[2] and re.search(regex, row[2])]
    assert found == expected and expected


def test_one_and_two_threads_give_equal_bytes(load, inputs, bytes_of):
    frame = load("distributed_grep").grep(inputs.KJV)
    assert bytes_of(frame, 1, split_size="200KiB") == bytes_of(frame, 2, split_size="200KiB")


def test_main_says_how_many_lines_matched(inputs, run_main):
    said = run_main("distributed_grep", inputs.KJV.replace("*", "08-*"), "--pattern", "Bethlehem", "-o", "found")
    matches = sum("Bethlehem" in line for _, _, line in lines_of(inputs.KJV.replace("*", "08-*")))
    assert f"{{'lines': 85, 'matches': {matches}}}" in said
