"""Jobs with known answers. Every input row has an id, and its key and value follow from it by a formula; so what an
output must hold is known without running anything, and a row that is lost, doubled or made up is seen as such.

Functions of the user are made inside functions: they travel to workers by value, for a worker cannot import this file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import kernelmill as km
from kernelmill.engine import execute

Row = tuple[Any, ...]
PARTITIONS = 4
SETTINGS = {"split_size": "64KiB", "partitions": PARTITIONS}
"""Splits and partitions of every job: the 20,000 rows below are some 7 maps, and 4 reduces."""
ROWS = 20_000


def key_of(number: int) -> str:
    return f"k{number * 2_654_435_761 % 997}"


def skewed_key_of(number: int) -> str:
    """Nine rows in ten have one key."""
    return "hot" if number % 10 else key_of(number)


def value_of(number: int) -> int:
    return (number * number * 31 + 7) % 2_000_003 - 1_000_000


@dataclass
class KnownJob:
    """A job, its input and the rows it must give. `run(inputs, target, **options)` runs it where a context says."""

    name: str
    write_input: Callable[[Path], Path]
    frame: Callable[[Path], km.LazyFrame]
    expected: Callable[[], Iterable[Row]]
    is_repeatable: bool = True
    """False: its bytes differ from run to run, so only its rows can be compared."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    gate: str = ""
    """A file without which the job waits in the middle; it has the process's number in GATE.pid by then."""

    def run(self, source: Path, target: Path, **options: Any) -> Any:
        """Run it where jobs run now: on the cluster that is connected, or here."""
        return self.frame(source).sink_parquet(
            str(target), **{**SETTINGS, "progress": False, **self.settings, **options}
        )


# Inputs --------------------------------------------------------------------------------------------------------------


def write_lines(path: Path, key: Callable[[int], str] = key_of, rows: int = ROWS) -> Path:
    """Lines "id key value"."""
    with open(path, "w") as file:
        file.writelines(line(number, key) + "\n" for number in range(rows))
    return path


def line(number: int, key: Callable[[int], str] = key_of) -> str:
    """The line of an id."""
    return f"{number} {key(number)} {value_of(number)}"


def maps_of(rows: int = ROWS) -> int:
    """How many maps read the lines of `write_lines`."""
    size = sum(len(line(number)) + 1 for number in range(rows))
    return -(-size // (64 << 10))


def write_table(path: Path, rows: int = ROWS) -> Path:
    """Columns id, key, value in 8 row groups."""
    numbers = range(rows)
    columns = {"id": list(numbers), "key": [key_of(n) for n in numbers], "value": [value_of(n) for n in numbers]}
    pq.write_table(pa.table(columns), path, row_group_size=-(-rows // 8))
    return path


# Functions of the user -----------------------------------------------------------------------------------------------


def fields_map(gate: str = "", gate_at: int = -1) -> Callable[..., None]:
    """A map that emits (id, (key, value)). At the line of id `gate_at` it waits until the file `gate` is there, and
    says its process's number in GATE.pid.
    """

    def split_fields(line, emit):
        import os
        import time

        number, key, value = line.split()
        if int(number) == gate_at:
            deadline = time.monotonic() + 60
            with open(f"{gate}.new", "w") as file:
                file.write(str(os.getpid()))
            os.replace(f"{gate}.new", f"{gate}.pid")
            while not os.path.exists(gate):
                if time.monotonic() > deadline:
                    raise TimeoutError(gate)
                time.sleep(0.01)
        emit(int(number), (key, int(value)))

    return split_fields


def poisoned_map(way: str, poison: tuple[int, ...]) -> Callable[..., None]:
    """As `fields_map`, but for these ids it raises, crashes the process ("segv") or ends it ("exit")."""

    def split_fields(line, emit):
        import os
        import signal

        number, key, value = line.split()
        if int(number) in poison:
            if way == "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            if way == "exit":
                os._exit(3)
            raise ValueError(f"cannot take {number}")
        emit(int(number), (key, int(value)))

    return split_fields


def sums_map() -> Callable[..., None]:
    def key_and_value(line, emit):
        _, key, value = line.split()
        emit(key, int(value))

    return key_and_value


def sum_and_count() -> Callable[..., None]:
    def add_up(key, values, emit):
        total = count = 0
        for value in values:
            total += value
            count += 1
        emit((total, count))

    return add_up


def restless_map() -> Callable[..., None]:
    """A map that gives every id another key each time it runs."""

    def id_under_any_key(line, emit):
        import random

        emit(random.SystemRandom().getrandbits(40), int(line.split()[0]))

    return id_under_any_key


# Jobs ----------------------------------------------------------------------------------------------------------------


def _grouped(key: Callable[[int], str], rows: int) -> Iterable[Row]:
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for number in range(rows):
        sums[key(number)] += value_of(number)
        counts[key(number)] += 1
    return [(key, sums[key], counts[key]) for key in counts]


def _pairs(function: Callable[..., None]) -> km.MapReduce:
    types = {"id": "int64", "key": "string", "value": "int64"}
    return km.MapReduce(function, None, key="id", value=("key", "value"), schema=types, compile="never")


def identity(rows: int = ROWS, gate: str = "", gate_at: int = -1) -> KnownJob:
    """Every row as it is, through a shuffle."""
    job = _pairs(fields_map(gate, gate_at))
    return KnownJob(
        "identity",
        lambda path: write_lines(path, rows=rows),
        lambda source: job(km.scan_text(source)),
        lambda: ((number, key_of(number), value_of(number)) for number in range(rows)),
        gate=gate,
    )


def poisoned(way: str, poison: tuple[int, ...], rows: int = ROWS) -> KnownJob:
    """Every row but these, which the map cannot take. It cannot run locally where it crashes the process."""
    job = _pairs(poisoned_map(way, poison))
    return KnownJob(
        "poisoned",
        lambda path: write_lines(path, rows=rows),
        lambda source: job(km.scan_text(source)),
        lambda: ((number, key_of(number), value_of(number)) for number in range(rows) if number not in poison),
        is_repeatable=False,
    )


def group_sums(rows: int = ROWS) -> KnownJob:
    """Sum and count by key, with verbs over Parquet."""
    return KnownJob(
        "group sums",
        lambda path: write_table(path, rows),
        lambda source: km.scan_parquet(source).group_by("key").agg(km.col("value").sum().alias("sum"), km.len()),
        lambda: _grouped(key_of, rows),
    )


def skewed_sums(rows: int = ROWS) -> KnownJob:
    """Sum and count by key with functions of the user, nine rows in ten under one key."""
    schema = {"key": "string", "value": "int64"}, {"sum": "int64", "count": "int64"}
    job = km.MapReduce(sums_map(), sum_and_count(), schema=schema, compile="never")
    return KnownJob(
        "skewed sums",
        lambda path: write_lines(path, skewed_key_of, rows),
        lambda source: job(km.scan_text(source)),
        lambda: _grouped(skewed_key_of, rows),
    )


def restless(rows: int = ROWS) -> KnownJob:
    """A map that differs on each run: its keys are chance, its ids are not."""
    job = km.MapReduce(
        restless_map(), None, key="chance", value="id", schema={"chance": "int64", "id": "int64"}, compile="never"
    )
    return KnownJob(
        "restless",
        lambda path: write_lines(path, rows=rows),
        lambda source: job(km.scan_text(source)),
        lambda: ((number,) for number in range(rows)),
        is_repeatable=False,
    )


ALL = {job.__name__: job for job in (identity, group_sums, skewed_sums, restless)}


# Oracle --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differences:
    """Rows that are not there, that are there too often, and that should not be there at all; with examples."""

    lost: int
    doubled: int
    unexpected: int
    examples: tuple[Row, ...] = ()


NO_DIFFERENCES = Differences(0, 0, 0)


def differences(expected: Iterable[Row], found: Iterable[Row]) -> Differences:
    """Compare rows as multisets."""
    wanted, had = Counter(expected), Counter(found)
    lost, more = wanted - had, had - wanted
    doubled = {row: count for row, count in more.items() if row in wanted}
    unexpected = {row: count for row, count in more.items() if row not in wanted}
    examples = tuple(row for some in (lost, doubled, unexpected) for row in list(some)[:3])
    return Differences(sum(lost.values()), sum(doubled.values()), sum(unexpected.values()), examples)


def rows_of(target: Path) -> list[Row]:
    """The rows of all part files of an output. Each file is read: a manifest's numbers are not believed."""
    tables = [pq.read_table(path) for path in sorted(target.glob("part-*.parquet"))]
    return [row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def rejected_lines(target: Path) -> list[str]:
    """The records that were set aside, sorted."""
    table = pq.read_table(target / "_rejects")
    return sorted(record.decode() for record in table.column("record").to_pylist())


def problems_of_manifest(target: Path) -> list[str]:
    """How the files in an output's folder differ from its manifest: names, sizes, rows, checksums."""
    manifest = json.loads((target / "_manifest.json").read_text())
    said = {one["name"]: one for one in [*manifest["files"], *manifest["reject_files"]]}
    there = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} - {"_manifest.json"}
    problems = [f"{name} is not in the manifest" for name in sorted(there - set(said))]
    problems += [f"{name} is not there" for name in sorted(set(said) - there)]
    for name in sorted(there & set(said)):
        data, rows = (target / name).read_bytes(), pq.read_metadata(target / name).num_rows
        found = {"bytes": len(data), "rows": rows, "checksum": xxhash.xxh3_128_hexdigest(data)}
        problems += [
            f"{name}: {fact} {found[fact]}, not {said[name][fact]}" for fact in found if found[fact] != said[name][fact]
        ]
    if sum(one["rows"] for one in manifest["files"]) != manifest["rows"]:
        problems.append("rows of the files do not add up")
    return problems


def bytes_of(target: Path) -> dict[str, bytes]:
    """Name -> bytes of every file of an output, hidden ones and the manifest too."""
    return {str(path.relative_to(target)): path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file()}


def leftovers_beside(target: Path) -> list[str]:
    """What a job left beside its output: staging, old outputs."""
    return sorted(name for name in os.listdir(target.parent) if name.startswith(f".{target.name}."))


@contextlib.contextmanager
def _open_gate(gate: str) -> Iterator[None]:
    if gate:
        Path(gate).touch()
    yield
    if gate:
        for path in (gate, f"{gate}.pid"):
            os.unlink(path)


class Truth:
    """A job's input in a folder, and what the local runner makes of it; made once, compared with often."""

    def __init__(self, job: KnownJob, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.job = job
        self.source = job.write_input(folder / f"{job.name.replace(' ', '-')}.input")
        self._local = folder / f"{job.name.replace(' ', '-')}.local"
        if job.is_repeatable:
            with _open_gate(job.gate):
                self.run_here(self._local, threads=1)
            self.check(self._local)

    def run_here(self, target: Path, **options: Any) -> None:
        """Run the job in this process, whatever cluster is connected."""
        with execute.in_this_process():
            self.job.run(self.source, target, **options)

    def check(self, target: Path) -> None:
        """Assert that an output holds each row once, is what its manifest says, and has the local run's bytes."""
        found = rows_of(target)
        if not self.job.is_repeatable:
            found = [row[1:] for row in found]
        assert differences(self.job.expected(), found) == NO_DIFFERENCES
        assert problems_of_manifest(target) == []
        if self.job.is_repeatable:
            ours, theirs = bytes_of(self._local), bytes_of(target)
            assert sorted(ours) == sorted(theirs)
            assert [name for name in ours if ours[name] != theirs[name]] == []
