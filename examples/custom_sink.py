"""A sink of one's own: a job's rows as files of JSON lines, which are there all at once or not at all.

A sink is an object with four methods. `begin` makes a hidden folder beside the output; `write` puts the rows of one
part in a file there, in several threads, and again if a task is run again; `commit` gives the folder its name in one
step; `abort` removes it. `rejects` is optional: it takes the records that were set aside.

    python examples/custom_sink.py
    python examples/custom_sink.py sales.txt -o totals/
"""

import json
import os
import shutil

import kernelmill as km
from inputs import arguments, made, write_measurements


class JsonLines:
    """A folder `target` of part-00000.ndjson and so on; FileExistsError if it is there already."""

    def __init__(self, target):
        self._target = os.path.abspath(target)
        self.name = f"JSON lines in {target}"
        folder, name = os.path.split(self._target)
        self._staging = os.path.join(folder, f".{name}.writing")

    def begin(self, schema, parts):
        if os.path.lexists(self._target):
            raise FileExistsError(f"{self._target} is already there")
        shutil.rmtree(self._staging, ignore_errors=True)  # of a process that was killed
        os.mkdir(self._staging)

    def write(self, part, batches):
        name = f"part-{part:05d}.ndjson"
        return {"file": name, "rows": self._write(name, batches)}

    def rejects(self, table):
        self._write("rejects.ndjson", table.to_batches())

    def commit(self, receipts):
        assert all(os.path.isfile(os.path.join(self._staging, receipt["file"])) for receipt in receipts)
        os.rename(self._staging, self._target)

    def abort(self):
        shutil.rmtree(self._staging, ignore_errors=True)

    def _write(self, name, batches):
        rows = 0
        with open(os.path.join(self._staging, name), "w") as file:
            for batch in batches:
                file.writelines(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())
                rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        return rows


def map(line, emit):
    station, _, reading = line.partition(";")
    emit(station, float(reading))


job = km.MapReduce(map, "max", key="station", value="warmest", partitions=2)


def main():
    given = arguments(__doc__, "custom_sink")
    inputs = given.inputs or write_measurements(made(given.output, "measurements.txt"))
    shutil.rmtree(given.output, ignore_errors=True)
    result = job.run(inputs, output=JsonLines(given.output), on_bad="reject")
    print(f"{result.rows} rows in {sorted(os.listdir(given.output))}")


if __name__ == "__main__":
    main()
