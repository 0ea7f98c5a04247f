"""examples/join_by_hand.py against a dict of users."""

from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture
def files(inputs, tmp_path):
    return [inputs.write_clicks(tmp_path / "clicks.tsv", visits=1500), inputs.write_users(tmp_path / "users.tsv")]


def looked_up(files):
    """The clicks of each user in order of time and page, with the user's country; and how many lines are no clicks."""
    clicks, users = (Path(path).read_text().splitlines() for path in files)
    country_of = dict(line.split("\t") for line in users)
    rows, bad = [], 0
    for line in clicks:
        clock, user, page = (*line.split("\t"), "", "")[:3]
        if page.startswith("/"):
            rows.append((user, int(clock), page, country_of.get(user)))
        else:
            bad += 1
    return sorted(rows, key=lambda row: row[:3]), bad


def test_each_click_gets_the_country_of_its_user(load, files):
    found = load("join_by_hand").joined(files).collect(on_bad="reject", split_size="16KiB")
    expected, bad = looked_up(files)
    assert found.columns == ["user", "clock", "page", "country"]
    assert found.rows() == expected
    assert found.rejects.height == bad > 5
    assert 0 < sum(country is None for *_, country in expected) < len(expected)


def test_one_and_two_threads_give_equal_bytes(load, files, bytes_of):
    frame = load("join_by_hand").joined(files)
    settings = {"split_size": "16KiB", "on_bad": "reject"}
    assert bytes_of(frame, 1, **settings) == bytes_of(frame, 2, **settings)


def test_main_counts_clicks_by_country(files, run_main):
    expected, bad = looked_up(files)
    said = run_main("join_by_hand", *files, "-o", "joined").splitlines()
    assert f"{len(expected):,} rows" in said[0] and f"{bad} records rejected" in said[0]
    counts = Counter(str(country).replace("None", "null") for *_, country in expected)
    assert [line.split() for line in said[-len(counts) :]] == [
        [name, f"{counts[name]:,}"] for name in sorted(counts, key=lambda name: (name != "null", name))
    ]
