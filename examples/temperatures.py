"""Temperatures: the least, the mean and the greatest reading of each weather station, from lines like `Hamburg;12.0`.

The task of the One Billion Row Challenge (2024). Each reading becomes a small summary of itself; two summaries of one
station become one, on emit and again where tasks meet, so that what travels is one row for each station and split.

Readings that are no numbers, or of no thermometer, are set aside in the output's folder _rejects.

    python examples/temperatures.py
    python examples/temperatures.py measurements.txt -o temperatures/
    kernelmill run examples/temperatures.py:job measurements.txt -o temperatures/ --on-bad reject
"""

import kernelmill as km
from inputs import arguments, made, write_measurements


def map(line, emit):
    station, reading = line.split(";")
    celsius = float(reading)  # a record for which this raises is a bad one
    if -90 < celsius < 60:
        emit(station, (celsius, celsius, celsius, 1))
    else:
        emit.reject("beyond any record")


def combine(a, b):
    return min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2], a[3] + b[3]


job = km.MapReduce(map, combine=combine, key="station", value=("min", "max", "sum", "count"))


def main():
    given = arguments(__doc__, "temperatures")
    lines = given.inputs or write_measurements(made(given.output, "measurements.txt"))
    result = job.run(lines, output=given.output, mode="overwrite", on_bad="reject", max_rejects=10_000)
    print(result)
    print("rejects:", dict(result.rejects))
    stations = km.scan_parquet(f"{given.output}/*.parquet")
    stations.select("station", "min", "max", mean=km.col("sum") / km.col("count")).show(20)


if __name__ == "__main__":
    main()
