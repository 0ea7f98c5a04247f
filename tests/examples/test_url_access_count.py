"""examples/url_access_count.py against a regular expression over the lines of a generated log."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError

COMBINED = re.compile(r'\S+ \S+ \S+ \[[^]]*\] "\S+ ([^ ?]+)(?:\?\S*)? \S+" (\d+) (\d+|-) "[^"]*" .*')


@pytest.fixture
def log(inputs, tmp_path):
    return inputs.write_access_log(tmp_path / "access.log", lines=20_000)


def counted(log):
    """Page -> (hits, bytes), and the lines that are no accesses."""
    totals, bad = defaultdict(lambda: (0, 0)), []
    with open(log) as file:
        for line in file:
            match = COMBINED.fullmatch(line.rstrip("\n"))
            if match is None:
                bad.append(line.rstrip("\n"))
                continue
            hits, size = totals[match[1]]
            totals[match[1]] = hits + 1, size + (0 if match[3] == "-" else int(match[3]))
    return totals, bad


def test_it_counts_hits_and_bytes_and_sets_bad_lines_aside(load, log):
    found = load("url_access_count").job(km.scan_text(log)).collect(on_bad="reject")
    totals, bad = counted(log)
    assert found.rows() == sorted((page, *total) for page, total in totals.items())
    assert found.rejects.height == len(bad) > 100


def test_without_a_policy_the_first_bad_line_ends_the_job(load, log):
    with pytest.raises(UserCodeError) as caught:
        load("url_access_count").job(km.scan_text(log)).collect()
    assert caught.value.code == Code.FUNCTION_FAILED


def test_plain_python_makes_the_same_of_a_sample(load, log):
    assert "the same as plain Python" in str(load("url_access_count").job.verify(log, sample="100KiB"))


def test_one_and_two_threads_give_equal_bytes(load, log, bytes_of):
    frame = load("url_access_count").job(km.scan_text(log))
    settings = {"split_size": "200KiB", "on_bad": "reject"}
    first = bytes_of(frame, 1, **settings)
    assert first == bytes_of(frame, 2, **settings)
    assert any(name.startswith("_rejects/") for name in first)


def test_the_log_is_the_same_for_the_same_seed(inputs, tmp_path):
    logs = [inputs.write_access_log(tmp_path / str(seed), lines=500, seed=seed) for seed in (1, 2)]
    again = inputs.write_access_log(tmp_path / "again", lines=500, seed=1)
    first, second, third = (Path(path).read_text() for path in (*logs, again))
    assert first == third != second


def test_main_counts_a_log_that_is_named(log, run_main):
    totals, bad = counted(log)
    said = run_main("url_access_count", log, "-o", "hits")
    assert f"{len(totals):,} rows" in said and f"{len(bad)} records rejected" in said
    assert said.split("int64\n")[0].count("page") == 1 and f"{totals['/'][0]:,}" in said
