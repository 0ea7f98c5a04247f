"""`kernelmill show` and `check`: look at an output, compare it with its manifest."""

from __future__ import annotations

import os
from typing import Any

import click

import kernelmill as km
from kernelmill.engine.cli.console import common_options, print_json, print_text, say, the_console
from kernelmill.engine.commit import MANIFEST_NAME, Manifest, read_manifest
from kernelmill.engine.commit import check as check_output
from kernelmill.engine.io.source import list_files
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.sizes import format_bytes, format_count, format_things


@click.command(short_help="Print the first rows, the schema and the manifest of Parquet.")
@click.argument("path")
@click.option("-n", "--rows", type=click.IntRange(0), default=10, show_default=True, help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print rows, schema and manifest as JSON.")
@common_options
def show(path: str, rows: int, as_json: bool) -> None:
    """Print the first rows of PATH (an output folder, a Parquet file or a glob), its schema and its manifest."""
    # before the frame, which would say less of a manifest that is damaged
    manifest = read_manifest(path) if os.path.lexists(os.path.join(path, MANIFEST_NAME)) else None
    frame = km.scan_parquet(path)
    files = list_files(path, suffixes=(".parquet",))
    total = sum(_rows_in(file.path) for file in files)
    if manifest and manifest.rows != total:
        said = f"the manifest says {format_things(manifest.rows, 'row')}, the files have {format_count(total)}"
        say(f"warning: {path}: {said}; kernelmill check {path} compares them")
    first = frame.head(rows).collect(progress=False)
    if as_json:
        print_json(_described(path, frame, manifest, total, [file.path for file in files], first))
        return
    size = sum(file.size_bytes for file in files)
    print_text(f"{path}: {format_things(total, 'row')} in {format_things(len(files), 'file')}, {format_bytes(size)}")
    for name, column_type in _columns(frame):
        print_text(f"  {name}: {column_type}")
    if rows:
        print_text(str(first))
    if manifest:
        _print_manifest(manifest)


def _rows_in(path: str) -> int:
    with open(path, "rb") as file:  # Arrow itself opens no file whose name is not UTF-8
        return pq.read_metadata(file).num_rows


def _columns(frame: km.LazyFrame) -> list[tuple[str, str]]:
    return [(name, str(column_type)) for name, column_type in frame.schema.items()]


def _described(
    path: str, frame: km.LazyFrame, manifest: Manifest | None, total: int, files: list[str], first: km.DataFrame
) -> dict[str, Any]:
    described: dict[str, Any] = {"path": path, "rows": total, "files": files, "schema": dict(_columns(frame))}
    if manifest and manifest.outputs:
        described["outputs"] = {one.name: {"rows": one.rows, "bytes": one.bytes} for one in manifest.outputs}
    if manifest:
        described |= {"counters": manifest.counters, "rejects": manifest.rejects, "versions": manifest.versions}
    return described | {"head": [dict(zip(first.columns, row, strict=True)) for row in first.rows()]}


def _print_manifest(manifest: Manifest) -> None:
    for one in manifest.outputs:
        size = f"{format_things(one.rows, 'row')} in {format_things(len(one.files), 'file')}, {format_bytes(one.bytes)}"
        print_text(f"output {one.name}: {size}")
    for title, counts in (("counters", manifest.counters), ("rejects", manifest.rejects)):
        if counts:
            print_text(f"{title}: " + ", ".join(f"{name} {format_count(count)}" for name, count in counts.items()))
    print_text("written by: " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()))


@click.command(short_help="Re-read an output and compare it with its manifest.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@common_options
def check(path: str, as_json: bool) -> int:
    """Re-read the output at PATH: every file, size, checksum and row count. Exits with 1 if anything differs."""
    report = check_output(path)
    if as_json:
        problems = [{"kind": found.kind, "name": found.name, "what": found.what} for found in report.problems]
        print_json({"path": path, "ok": report.ok, "files": report.files, "rows": report.rows, "problems": problems})
        return 0 if report.ok else 1
    for found in report.problems:
        print_text(f"{found.kind}: {found.name}: {found.what}")
    read = f"{format_things(report.files, 'file')}, {format_things(report.rows, 'row')}, {format_bytes(report.bytes)}"
    different = f"{format_things(len(report.problems), 'difference')} from {report.against}"
    the_console().note(f"{path}: {read}: {f'as {report.against} says' if report.ok else different}")
    return 0 if report.ok else 1
