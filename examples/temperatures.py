"""Temperatures: the least, the mean and the greatest reading of each weather station, from lines like `Hamburg;12.0`.

The task of the One Billion Row Challenge (2024). A combiner keeps four numbers for each station and takes readings in
as they are emitted, so that one row for each station and split travels; there the states of several tasks are merged.

Readings that are no numbers, or of no thermometer, are set aside in the output's folder _rejects.

    python examples/temperatures.py
    python examples/temperatures.py measurements.txt -o temperatures/
    kernelmill run examples/temperatures.py:job measurements.txt -o temperatures/ --on-bad reject
"""

import math

import kernelmill as km
from inputs import arguments, made, write_measurements


def map(line, emit):
    station, reading = line.split(";")
    celsius = float(reading)  # a record for which this raises is a bad one
    if -90 < celsius < 60:
        emit(station, celsius)
    else:
        emit.reject("beyond any record")


class Summary:
    """The least and the greatest reading so far, their sum, their number."""

    def init(self):
        return math.inf, -math.inf, 0.0, 0

    def step(self, state, celsius):
        least, most, total, count = state
        return min(least, celsius), max(most, celsius), total + celsius, count + 1

    def merge(self, a, b):
        return min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2], a[3] + b[3]

    def finish(self, state):
        least, most, total, count = state
        return least, total / count, most


types = {"station": "string", "celsius": "float64"}, {"min": "float64", "mean": "float64", "max": "float64"}
job = km.MapReduce(map, combine=Summary, key="station", value="celsius", schema=types)


def main():
    given = arguments(__doc__, "temperatures")
    lines = given.inputs or write_measurements(made(given.output, "measurements.txt"))
    result = job.run(lines, output=given.output, mode="overwrite", on_bad="reject", max_rejects=10_000)
    print(result)
    print("rejects:", dict(result.rejects))
    km.scan_parquet(f"{given.output}/*.parquet").show(20)


if __name__ == "__main__":
    main()
