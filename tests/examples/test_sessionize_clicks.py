"""examples/sessionize_clicks.py against a loop over each user's sorted clicks."""

from collections import defaultdict
from pathlib import Path

import pytest

import kernelmill as km


@pytest.fixture
def log(inputs, tmp_path):
    return inputs.write_clicks(tmp_path / "clicks.tsv", visits=1500)


def clicks_of(lines):
    """User -> sorted clicks, and how many lines are none."""
    clicks, bad = defaultdict(list), 0
    for line in lines:
        fields = line.rstrip("\n").split("\t")
        if len(fields) == 3 and fields[2].startswith("/"):
            clicks[fields[1]].append((int(fields[0]), fields[2]))
        else:
            bad += 1
    return {user: sorted(some) for user, some in clicks.items()}, bad


def cut(clicks):
    """The sessions of all users: user, start, seconds, clicks, entry, exit."""
    rows = []
    for user in sorted(clicks):
        sessions = []
        for click in clicks[user]:
            if not sessions or click[0] - sessions[-1][-1][0] > 1800:
                sessions.append([])
            sessions[-1].append(click)
        for one in sessions:
            rows.append((user, one[0][0], one[-1][0] - one[0][0], len(one), one[0][1], one[-1][1]))
    return rows


def test_it_cuts_where_a_user_was_away(load, log):
    found = load("sessionize_clicks").job(km.scan_text(log)).collect(on_bad="reject", split_size="16KiB")
    clicks, bad = clicks_of(Path(log).read_text().splitlines())
    assert found.rows() == cut(clicks)
    assert found.rejects.height == bad > 5
    assert found.height > len(clicks)


def test_half_an_hour_is_still_one_session_and_a_second_more_is_two(load):
    lines = ["2000\tann\t/b", "200\tann\t/a", "3800\tann\t/c", "5601\tann\t/d", "100\tbob\t/z"]
    found = load("sessionize_clicks").job.trial(lines).rows()
    assert found == cut(clicks_of(lines)[0])
    assert found == [("ann", 200, 3600, 3, "/a", "/c"), ("ann", 5601, 0, 1, "/d", "/d"), ("bob", 100, 0, 1, "/z", "/z")]


def test_plain_python_makes_the_same_of_a_sample(load, log):
    assert "the same as plain Python" in str(load("sessionize_clicks").job.verify(log, sample="100KiB"))


def test_the_log_is_the_same_for_the_same_seed(inputs, tmp_path):
    first, second, other = (
        Path(inputs.write_clicks(tmp_path / str(number), visits=50, seed=seed)).read_text()
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == second != other


def test_one_and_two_threads_give_equal_bytes(load, log, bytes_of):
    frame = load("sessionize_clicks").job(km.scan_text(log))
    settings = {"split_size": "16KiB", "on_bad": "reject"}
    assert bytes_of(frame, 1, **settings) == bytes_of(frame, 2, **settings)


def test_main_tells_how_many_sessions_there_are(log, run_main):
    clicks, bad = clicks_of(Path(log).read_text().splitlines())
    said = run_main("sessionize_clicks", log, "-o", "sessions")
    assert f"{len(cut(clicks)):,} rows" in said and f"{bad} records rejected" in said
