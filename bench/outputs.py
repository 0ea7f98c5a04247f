"""Compare what engines wrote: `python -m bench.outputs words PATH`, `groups PATH OTHER KEY...`, and so on; JSON.

These run as processes of their own, so that the one that measures stays small (see bench.measure). A PATH is a Parquet
file or a folder of them.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import duckdb

from bench.stations import digest_of_stations

MEAN_TOLERANCE = 1e-9  # relative: engines add floats in different orders


def parquet_glob(path: Path) -> str:
    """The SQL literal that names the Parquet files of an output."""
    files = path / "*.parquet" if path.is_dir() else path
    return "'" + str(files).replace("'", "''") + "'"


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false; SET threads = 2")
    return connection


def codecs(path: Path) -> list[str]:
    """The codecs of an output's column chunks, in lower case."""
    found = _connect().execute(f"SELECT DISTINCT lower(compression) FROM parquet_metadata({parquet_glob(path)})")
    return sorted(row[0] for row in found.fetchall())


def word_facts(path: Path) -> dict[str, Any]:
    """Facts of a word count with columns word and len: the same keys and digest as `bench.facts`, and the codecs."""
    row = _connect().execute(
        "SELECT count(*), count(DISTINCT word), coalesce(sum(len), 0)::BIGINT,"
        " coalesce(sum(md5_number_lower(concat(len::BIGINT, ':', word))), 0) % 18446744073709551616"
        f" FROM read_parquet({parquet_glob(path)})"
    )
    rows, distinct, words, digest = row.fetchall()[0]
    facts = {"rows": rows, "distinct": distinct, "words": words, "digest": f"{int(digest):016x}"}
    return {**facts, "codecs": codecs(path)}


def group_differences(path: Path, other: Path, keys: list[str]) -> dict[str, Any]:
    """How two group-bys with columns KEYS, total and average differ; all zero if they agree.

    Sums must be equal, means to a part in 10^9.
    """
    names = ", ".join(keys)
    far = f"abs(a.average - b.average) > {MEAN_TOLERANCE} * greatest(1, abs(b.average))"
    result = _connect().execute(
        "SELECT count(*), count(*) FILTER (WHERE a.total IS NULL), count(*) FILTER (WHERE b.total IS NULL),"
        f" count(*) FILTER (WHERE a.total <> b.total), count(*) FILTER (WHERE {far})"
        f" FROM read_parquet({parquet_glob(path)}) a FULL JOIN read_parquet({parquet_glob(other)}) b USING ({names})"
    )
    groups, absent, extra, sums, means = result.fetchall()[0]
    return {
        "groups": groups,
        "differences": {"absent": absent, "extra": extra, "sums": sums, "means": means},
        "codecs": sorted({*codecs(path), *codecs(other)}),
    }


def row_facts(path: Path) -> dict[str, Any]:
    """Facts of any rows, whatever their order: how many, the columns by name, a digest over all values, the codecs."""
    table = f"read_parquet({parquet_glob(path)})"
    names = sorted(row[0] for row in _connect().execute(f"DESCRIBE SELECT * FROM {table}").fetchall())
    row = ", ".join(f'"{name}"' for name in names)
    found = _connect().execute(f"SELECT count(*), coalesce(sum(hash({row})), 0) % 18446744073709551616 FROM {table}")
    rows, digest = found.fetchall()[0]
    return {"rows": rows, "columns": names, "digest": f"{int(digest):016x}", "codecs": codecs(path)}


def row_differences(path: Path, other: Path) -> dict[str, Any]:
    """How two tables of the same columns differ, the rows of both in the order of all columns; all zero if they agree.

    Floats must be equal to a part in 10^9.
    """
    connection = _connect()
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({parquet_glob(path)})").fetchall()
    columns = {row[0]: row[1] for row in described}
    exact = [f'"{name}"' for name, dtype in columns.items() if dtype != "DOUBLE"]
    floats = [f'"{name}"' for name, dtype in columns.items() if dtype == "DOUBLE"]
    order = ", ".join([*exact, *floats])
    tables = [
        f"(SELECT *, row_number() OVER (ORDER BY {order}) AS place FROM read_parquet({parquet_glob(one)}))"
        for one in (path, other)
    ]
    unequal = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in exact) or "false"
    far = [
        f"(a.{name} IS NULL) <> (b.{name} IS NULL) OR isnan(a.{name}) <> isnan(b.{name})"
        f" OR abs(a.{name} - b.{name}) > {MEAN_TOLERANCE} * greatest(1, abs(b.{name}))"
        for name in floats
    ]
    result = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE a.place IS NULL), count(*) FILTER (WHERE b.place IS NULL),"
        f" count(*) FILTER (WHERE {unequal}), count(*) FILTER (WHERE {' OR '.join(far) or 'false'})"
        f" FROM {tables[0]} a FULL JOIN {tables[1]} b USING (place)"
    )
    rows, absent, extra, values, distances = result.fetchall()[0]
    return {
        "rows": rows,
        "differences": {"absent": absent, "extra": extra, "values": values, "floats": distances},
        "codecs": sorted({*codecs(path), *codecs(other)}),
    }


def ordered_differences(path: Path, other: Path) -> dict[str, Any]:
    """How two tables of the same columns differ, row by row in the order of their files; all zero if they agree.

    Numbers must be equal to a part in 10^9, for one engine adds decimals where another adds floats.
    """
    (names, rows), (other_names, other_rows) = _in_order(path), _in_order(other)
    pairs = [pair for both in zip(rows, other_rows, strict=False) for pair in zip(*both, strict=False)]
    differences = {
        "columns": int(names != other_names),
        "rows": abs(len(rows) - len(other_rows)),
        "values": sum(not _alike(*pair) for pair in pairs),
    }
    return {"rows": len(rows), "differences": differences, "codecs": sorted({*codecs(path), *codecs(other)})}


def _in_order(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of columns, and the rows, of an output as its files have them."""
    source = f"read_parquet({parquet_glob(path)}, filename=true, file_row_number=true)"
    query = f"SELECT * EXCLUDE (filename, file_row_number) FROM {source} ORDER BY filename, file_row_number"
    found = _connect().execute(query)
    names = [column[0] for column in found.description or ()]
    return names, found.fetchall()


def _alike(one: Any, two: Any) -> bool:
    if isinstance(one, int | float | Decimal) and isinstance(two, int | float | Decimal):
        return math.isclose(one, two, rel_tol=MEAN_TOLERANCE)
    return bool(one == two)


def station_facts(path: Path) -> dict[str, Any]:
    """Facts of a summary of temperatures with columns station, min, mean, max and count; see `bench.stations`."""
    rows = _connect().execute(
        'SELECT station, "count"::BIGINT, round("min" * 10)::BIGINT, round("max" * 10)::BIGINT,'
        f' round("mean" * "count" * 10)::BIGINT FROM read_parquet({parquet_glob(path)})'
    )
    found = rows.fetchall()
    facts = {"lines": sum(row[1] for row in found), "stations": len(found), "digest": digest_of_stations(found)}
    return {**facts, "codecs": codecs(path)}


def index_facts(path: Path) -> dict[str, Any]:
    """Facts of an inverted index with columns word and at: words, postings, and a digest of all postings in order."""
    row = _connect().execute(
        "SELECT count(*), count(DISTINCT word), coalesce(sum(len(postings)), 0)::BIGINT,"
        " coalesce(sum(md5_number_lower(concat(word, ':', postings::BIGINT[]::VARCHAR))), 0) % 18446744073709551616"
        f' FROM (SELECT word, "at" AS postings FROM read_parquet({parquet_glob(path)}))'
    )
    rows, distinct, postings, digest = row.fetchall()[0]
    facts = {"rows": rows, "distinct": distinct, "postings": postings, "digest": f"{int(digest):016x}"}
    return {**facts, "codecs": codecs(path)}


@click.group(help=__doc__)
def main() -> None:
    """Compare outputs; see the module's text."""


path_argument = click.Path(exists=True, path_type=Path)


@main.command()
@click.argument("path", type=path_argument)
def words(path: Path) -> None:
    """Print the facts of a word count."""
    click.echo(json.dumps(word_facts(path)))


@main.command()
@click.argument("path", type=path_argument)
def rows(path: Path) -> None:
    """Print the facts of any rows."""
    click.echo(json.dumps(row_facts(path)))


@main.command()
@click.argument("path", type=path_argument)
def stations(path: Path) -> None:
    """Print the facts of a summary of temperatures."""
    click.echo(json.dumps(station_facts(path)))


@main.command()
@click.argument("path", type=path_argument)
def index(path: Path) -> None:
    """Print the facts of an inverted index."""
    click.echo(json.dumps(index_facts(path)))


@main.command()
@click.argument("path", type=path_argument)
@click.argument("other", type=path_argument)
@click.argument("keys", nargs=-1, required=True)
def groups(path: Path, other: Path, keys: tuple[str, ...]) -> None:
    """Print how two group-bys differ."""
    click.echo(json.dumps(group_differences(path, other, list(keys))))


@main.command()
@click.argument("path", type=path_argument)
@click.argument("other", type=path_argument)
def ordered(path: Path, other: Path) -> None:
    """Print how two tables differ, in the order of their rows."""
    click.echo(json.dumps(ordered_differences(path, other)))


@main.command()
@click.argument("path", type=path_argument)
@click.argument("other", type=path_argument)
def differences(path: Path, other: Path) -> None:
    """Print how two tables differ, whatever the order of their rows."""
    click.echo(json.dumps(row_differences(path, other)))


if __name__ == "__main__":
    main()
