"""examples/temperatures.py against lists of readings by station."""

import math
from collections import defaultdict
from pathlib import Path

import pytest

import kernelmill as km


@pytest.fixture
def measurements(inputs, tmp_path):
    return inputs.write_measurements(tmp_path / "measurements.txt", lines=20_000)


def summed_up(path):
    """Station -> (least, mean, greatest), and how many lines are no readings."""
    readings, bad = defaultdict(list), 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            station, reading = line.rstrip("\n").split(";")
            if reading in ("", "n/a", "-999.9") or not -90 < float(reading) < 60:
                bad += 1
            else:
                readings[station].append(float(reading))
    return {name: (min(some), math.fsum(some) / len(some), max(some)) for name, some in readings.items()}, bad


def test_it_finds_least_mean_and_greatest_and_sets_bad_readings_aside(load, measurements):
    found = load("temperatures").job(km.scan_text(measurements)).collect(on_bad="reject", split_size="16KiB")
    expected, bad = summed_up(measurements)
    assert found.columns == ["station", "min", "mean", "max"]
    assert [row[0] for row in found.rows()] == sorted(expected, key=str.encode)
    for station, least, mean, most in found.rows():
        assert (least, most) == (expected[station][0], expected[station][2])
        assert mean == pytest.approx(expected[station][1], rel=1e-12)
    assert found.rejects.height == bad > 5


def test_plain_python_makes_the_same_of_a_sample(load, measurements):
    assert "the same as plain Python" in str(load("temperatures").job.verify(measurements, sample="100KiB"))


def test_the_readings_are_the_same_for_the_same_seed(inputs, tmp_path):
    first, second, other = (
        Path(inputs.write_measurements(tmp_path / str(number), lines=50, seed=seed)).read_text(encoding="utf-8")
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == second != other


def test_one_and_two_threads_give_equal_bytes(load, measurements, bytes_of):
    frame = load("temperatures").job(km.scan_text(measurements))
    settings = {"split_size": "16KiB", "on_bad": "reject"}
    assert bytes_of(frame, 1, **settings) == bytes_of(frame, 2, **settings)


def test_main_shows_the_stations(measurements, run_main):
    expected, bad = summed_up(measurements)
    said = run_main("temperatures", measurements, "-o", "temperatures")
    assert f"{len(expected)} rows" in said and f"{bad} records rejected" in said
    assert all(station in said for station in expected)
