"""examples/custom_sink.py against a loop over the lines, and what is left where something fails."""

import json
import os
from pathlib import Path

import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError


def warmest_of(path):
    found = {}
    for line in Path(path).read_text().splitlines():
        station, _, reading = line.partition(";")
        try:
            found[station] = max(found.get(station, float("-inf")), float(reading))
        except ValueError:
            continue
    return found


def rows_in(folder):
    parts = sorted(name for name in os.listdir(folder) if name.startswith("part-"))
    return [json.loads(line) for name in parts for line in (folder / name).read_text().splitlines()]


@pytest.fixture
def readings(inputs, tmp_path):
    return inputs.write_measurements(tmp_path / "readings.txt", lines=5_000)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_folder_holds_the_warmest_reading_of_each_station(load, readings, tmp_path, threads):
    example = load("custom_sink")
    result = example.job.run(readings, output=example.JsonLines(tmp_path / "out"), on_bad="reject", threads=threads)
    rows = rows_in(tmp_path / "out")
    assert {row["station"]: row["warmest"] for row in rows} == warmest_of(readings)
    assert len(rows) == result.rows and {"part-00000.ndjson", "part-00001.ndjson"} <= set(os.listdir(tmp_path / "out"))


def test_rejected_records_are_in_a_file_of_their_own(load, tmp_path):
    (tmp_path / "readings.txt").write_text("a;1.5\nb;warm\na;2\n")
    example = load("custom_sink")
    example.job.run(tmp_path / "readings.txt", output=example.JsonLines(tmp_path / "out"), on_bad="reject")
    rejected = json.loads((tmp_path / "out" / "rejects.ndjson").read_text())
    assert "ValueError" in rejected["reason"] and rows_in(tmp_path / "out") == [{"station": "a", "warmest": 2.0}]


def test_nothing_is_left_of_a_job_that_fails_and_an_output_is_not_overwritten(load, tmp_path):
    (tmp_path / "readings.txt").write_text("a;1.5\nb;warm\n")
    example = load("custom_sink")
    for _ in range(2):
        with pytest.raises(KernelmillError) as caught:
            example.job.run(tmp_path / "readings.txt", output=example.JsonLines(tmp_path / "out"))
        assert caught.value.code is Code.FUNCTION_FAILED and os.listdir(tmp_path) == ["readings.txt"]
    (tmp_path / "out").mkdir()
    with pytest.raises(KernelmillError) as caught:
        km.scan_text(tmp_path / "readings.txt").sink(example.JsonLines(tmp_path / "out"))
    assert "already there" in caught.value.what and os.listdir(tmp_path / "out") == []


def test_main_names_the_files(run_main):
    assert "['part-00000.ndjson', 'part-00001.ndjson'" in run_main("custom_sink", "-o", "warmest")
