"""Build the benchmark's inputs: `python -m bench.corpus kernel | prose | part | tree | zipf | tables | ...`.

They go to $KERNELMILL_BENCH_DATA (default: build/bench). Beside every input lies a JSON file of the same name that says
from which sources and versions it was made, and for texts how many lines, words and distinct words it has. An input
whose JSON file is there is not built again, unless --force is given. Only the download of a Debian package needs the
network, and --deb takes one that is already here.
"""

from __future__ import annotations

import functools
import gzip
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.facts import facts_of_text, line_blocks
from bench.jointables import write_join_tables
from bench.records import RECORD_BYTES, write_records
from bench.stations import STATIONS, write_measurements
from bench.tables import write_group_by_table, write_h2o_table
from bench.zipf import zipf_blocks
from kernelmill.engine.sizes import parse_bytes

ROOT = Path(__file__).resolve().parents[1]
TEXT_SUFFIXES = (".c", ".h", ".rst", ".txt")
KERNEL_PACKAGE = "linux-source-6.1"
PROSE_PACKAGE = "dict-gcide"
PROSE_WIDTH = 60
PROSE_BYTES_MIN = 1_000_000_000
PART_BYTES = {"kernel": 300_000_000}
RECORDS_SIZE = "1GB"


def data_dir() -> Path:
    """The folder of the benchmark's inputs: $KERNELMILL_BENCH_DATA, else build/bench of the checkout."""
    return Path(os.environ.get("KERNELMILL_BENCH_DATA") or ROOT / "build" / "bench")


@dataclass
class Repairs:
    """What was changed on the way into a corpus, so that it is valid UTF-8 and no word joins two files."""

    files: int = 0
    newlines_added: int = 0
    lines_transcoded: int = 0
    sources: list[dict[str, str]] = field(default_factory=list)


def as_utf8(text: bytes, repairs: Repairs) -> bytes:
    """Return `text` as valid UTF-8 that ends a line: lines that are not UTF-8 are read as Latin-1.

    Line by line, for old texts mix both; a whole file read as Latin-1 would encode its UTF-8 a second time.
    """
    if text and not text.endswith(b"\n"):
        repairs.newlines_added += 1
        text += b"\n"
    try:
        text.decode("utf-8")
        return text
    except UnicodeDecodeError:
        return b"".join(_line_as_utf8(line, repairs) for line in text.splitlines(keepends=True))


def _line_as_utf8(line: bytes, repairs: Repairs) -> bytes:
    try:
        line.decode("utf-8")
        return line
    except UnicodeDecodeError:
        repairs.lines_transcoded += 1
        return line.decode("latin-1").encode("utf-8")


def texts_of_tree(directory: Path, suffixes: tuple[str, ...], repairs: Repairs) -> Iterator[bytes]:
    """Yield the files under `directory` that end in one of `suffixes` (none: all), by the bytes of their paths."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in sorted(paths, key=lambda path: os.fsencode(path.relative_to(directory))):
        if not suffixes or path.name.endswith(suffixes):
            repairs.files += 1
            yield as_utf8(path.read_bytes(), repairs)


def texts_of_tar(archive: Path, suffixes: tuple[str, ...], repairs: Repairs) -> Iterator[bytes]:
    """Yield the members of an uncompressed tar file that end in one of `suffixes`, by the bytes of their paths."""
    with tarfile.open(archive, "r:") as tar, archive.open("rb") as file:
        members = [member for member in tar if member.isfile() and member.name.endswith(suffixes)]
        for member in sorted(members, key=lambda member: os.fsencode(member.name)):
            repairs.files += 1
            file.seek(member.offset_data)
            yield as_utf8(file.read(member.size), repairs)


def write_corpus(name: str, texts: Iterable[bytes], repairs: Repairs, **more: Any) -> dict[str, Any]:
    """Write `texts` to NAME.txt, count it, and put NAME.json beside it, which makes it complete; returns the facts."""
    target = data_dir() / f"{name}.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".json").unlink(missing_ok=True)
    with target.open("wb") as out:
        for text in texts:
            out.write(text)
    counted = facts_of_text(target)
    facts = {
        "name": name,
        "bytes": target.stat().st_size,
        "lines": sum(block.count(b"\n") for block in line_blocks(target)),
        **asdict(counted),
        **asdict(repairs),
        **more,
        "python": platform.python_version(),
    }
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def debian_package(package: str, deb: Path | None) -> tuple[Path, dict[str, str]]:
    """Return a Debian package's file, downloaded by apt if `deb` is None, with its name and version."""
    if deb is None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise click.ClickException(f"{package}: no apt here; give the package with --deb, or use `tree DIRECTORY`")
        folder = data_dir() / "packages"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        deb = max(folder.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    shown = subprocess.run(["dpkg-deb", "-f", deb, "Package", "Version"], check=True, capture_output=True, text=True)
    fields = dict(line.split(": ", 1) for line in shown.stdout.splitlines())
    return deb, {"package": fields["Package"], "version": fields["Version"]}


def build_kernel(deb: Path | None, package: str = KERNEL_PACKAGE) -> dict[str, Any]:
    """Write kernel.txt: the *.c *.h *.rst *.txt files of Debian's Linux source, by path, in one file."""
    deb, source = debian_package(package, deb)
    repairs = Repairs(sources=[source])
    data_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir()) as scratch:
        subprocess.run(["dpkg-deb", "-x", deb, scratch], check=True)
        packed = next(Path(scratch).rglob("linux-source-*.tar.xz"))
        archive = Path(scratch) / "linux.tar"
        with lzma.open(packed) as unpacked, archive.open("wb") as out:
            shutil.copyfileobj(unpacked, out, 1 << 20)
        return write_corpus("kernel", texts_of_tar(archive, TEXT_SUFFIXES, repairs), repairs)


def kjv_text(path: Path) -> bytes:
    """The King James text from a file, a gzip file or a folder of text files, without leading verse references."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise click.ClickException(f"{path}: no King James text there; give it with --kjv")
    texts = [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files]
    return re.sub(rb"(?m)^\w+:\d+ ", b"", b"".join(texts))


def build_prose(deb: Path | None, kjv: Path, bytes_min: int = PROSE_BYTES_MIN) -> dict[str, Any]:
    """Write prose.txt: the dictionary of dict-gcide and the King James text, repeated to at least `bytes_min`.

    Each copy breaks its lines elsewhere. Equal copies would be a gift to whoever groups equal lines before splitting
    them (DuckDB counted such a file 4 times faster so), which no text but this one would repay.
    """
    deb, source = debian_package(PROSE_PACKAGE, deb)
    repairs = Repairs(sources=[source, {"package": "King James text", "version": "data/kjv"}])
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["dpkg-deb", "-x", deb, scratch], check=True)
        packed = next(Path(scratch).rglob("gcide.dict.dz"))  # dictzip is gzip with an index in its header
        dictionary = gzip.decompress(packed.read_bytes())
    text = as_utf8(dictionary, repairs) + as_utf8(kjv_text(kjv), repairs)
    repairs.files = 2
    copies = -(-bytes_min // len(text))
    flowed = text.replace(b"\n", b" ")
    return write_corpus("prose", (wrapped(flowed, PROSE_WIDTH + i) for i in range(copies)), repairs, copies=copies)


def wrapped(text: bytes, width: int) -> bytes:
    """`text`, one line, broken at the first spaces after each `width` bytes of a line."""
    return re.sub(rb"(.{%d}[^ ]*) +" % width, rb"\1\n", text) + b"\n"


def build_tree(directory: Path, name: str, suffixes: tuple[str, ...]) -> dict[str, Any]:
    """Write NAME.txt: the text files of any folder, by path, in one file."""
    repairs = Repairs(sources=[{"package": directory.name, "version": "folder"}])
    return write_corpus(name, texts_of_tree(directory, suffixes, repairs), repairs)


def build_part(name: str, part_bytes_max: int) -> dict[str, Any]:
    """Write NAME-part.txt: the first lines of NAME.txt, as many as fit into `part_bytes_max`."""
    whole = data_dir() / f"{name}.txt"
    if not whole.with_suffix(".json").exists():
        raise click.ClickException(f"{whole} is not there: build it first")
    repairs = Repairs(files=1, sources=[{"package": whole.name, "version": f"first {part_bytes_max:,} bytes"}])
    return write_corpus(f"{name}-part", _first_lines(whole, part_bytes_max), repairs)


def _first_lines(text: Path, bytes_max: int) -> Iterator[bytes]:
    for block in line_blocks(text):
        if len(block) > bytes_max:
            yield block[: block.rfind(b"\n", 0, bytes_max) + 1]
            return
        bytes_max -= len(block)
        yield block


def build_zipf(words: int, vocabulary: int, exponent: float, seed: int) -> dict[str, Any]:
    """Write zipf.txt: `words` words drawn by Zipf's law from a made-up vocabulary."""
    blocks = zipf_blocks(words, vocabulary, exponent, seed)
    return write_corpus("zipf", blocks, Repairs(), vocabulary=vocabulary, exponent=exponent, seed=seed)


def build_tables(rows: int, groups: int, seed: int) -> dict[str, Any]:
    """Write groupby.parquet, the h2o db-benchmark's group-by table, and its facts."""
    return _described(
        "groupby.parquet", lambda target: write_group_by_table(target, rows=rows, groups=groups, seed=seed)
    )


def build_join_tables(rows: int, seed: int) -> dict[str, Any]:
    """Write join/, the four tables of the h2o db-benchmark's joins, and its facts."""
    return _described("join", lambda target: write_join_tables(target, rows=rows, seed=seed))


def build_h2o(rows: int, rows_each: int, seed: int) -> dict[str, Any]:
    """Write h2o.parquet, the whole table of h2o's group-by questions, and its facts."""
    return _described("h2o.parquet", lambda target: write_h2o_table(target, rows=rows, rows_each=rows_each, seed=seed))


def build_measurements(lines: int, stations: int, seed: int) -> dict[str, Any]:
    """Write measurements.txt, temperatures of stations as text, and its facts."""
    return _described(
        "measurements.txt", lambda target: write_measurements(target, lines=lines, stations=stations, seed=seed)
    )


def build_records(size: str) -> dict[str, Any]:
    """Write records-SIZE.parquet, records of 100 bytes to sort, and its facts."""
    rows = parse_bytes(size) // RECORD_BYTES
    return _described(f"records-{size}.parquet", lambda target: write_records(target, rows=rows))


def _described(name: str, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Write an input and then the JSON file that makes it complete."""
    target = data_dir() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".json").unlink(missing_ok=True)
    facts = write(target)
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _build(name: str, force: bool, builder: Callable[[], dict[str, Any]]) -> None:
    described = data_dir() / f"{name}.json"
    if not force and described.exists():
        facts = json.loads(described.read_text())
    else:
        facts = builder()
    kept = {key: value for key, value in facts.items() if key != "name"}
    click.echo(f"{data_dir()}/{name}: " + ", ".join(f"{key} {value}" for key, value in kept.items()))


existing = click.Path(exists=True, path_type=Path)
force_option = click.option("--force", is_flag=True, help="Build it again though it is there.")
deb_option = click.option("--deb", type=existing, help="The Debian package, if it is already on this machine.")
kjv_option = click.option(
    "--kjv", type=existing, default=ROOT / "data" / "kjv", help="King James text: file or folder."
)


@click.group(help=__doc__)
def main() -> None:
    """Build benchmark inputs; see the module's text."""


@main.command()
@deb_option
@click.option("--package", default=KERNEL_PACKAGE, show_default=True)
@force_option
def kernel(deb: Path | None, package: str, force: bool) -> None:
    """Linux source, one file of 1.2 GB."""
    _build("kernel", force, lambda: build_kernel(deb, package))


@main.command()
@deb_option
@kjv_option
@click.option("--bytes-min", default=PROSE_BYTES_MIN, show_default=True)
@force_option
def prose(deb: Path | None, kjv: Path, bytes_min: int, force: bool) -> None:
    """English prose, one file of 1.0 GB."""
    _build("prose", force, lambda: build_prose(deb, kjv, bytes_min))


@main.command()
@click.argument("directory", type=existing)
@click.option("--name", default="tree", show_default=True)
@click.option("--suffix", "suffixes", multiple=True, help="Take only files that end so; may be repeated.")
@force_option
def tree(directory: Path, name: str, suffixes: tuple[str, ...], force: bool) -> None:
    """The text files of any folder in one file."""
    _build(name, force, lambda: build_tree(directory, name, suffixes))


@main.command()
@click.argument("name", type=click.Choice(list(PART_BYTES)))
@click.option("--bytes-max", type=click.IntRange(1), help="Default: 300 MB of kernel.")
@force_option
def part(name: str, bytes_max: int | None, force: bool) -> None:
    """The first lines of a text, for what is too large for the whole."""
    _build(f"{name}-part", force, lambda: build_part(name, bytes_max or PART_BYTES[name]))


@main.command()
@click.option("--words", default=20_000_000, show_default=True)
@click.option("--vocabulary", default=1_000_000, show_default=True)
@click.option("--exponent", default=1.1, show_default=True)
@click.option("--seed", default=1, show_default=True)
@force_option
def zipf(words: int, vocabulary: int, exponent: float, seed: int, force: bool) -> None:
    """Text by Zipf's law."""
    _build("zipf", force, lambda: build_zipf(words, vocabulary, exponent, seed))


@main.command()
@click.option("--rows", default=10_000_000, show_default=True)
@click.option("--groups", default=100_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@force_option
def tables(rows: int, groups: int, seed: int, force: bool) -> None:
    """The group-by table, Parquet."""
    _build("groupby", force, lambda: build_tables(rows, groups, seed))


@main.command(name="join-tables")
@click.option("--rows", default=10_000_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@force_option
def join_tables(rows: int, seed: int, force: bool) -> None:
    """The tables of the join questions, Parquet."""
    _build("join", force, lambda: build_join_tables(rows, seed))


@main.command()
@click.option("--rows", default=10_000_000, show_default=True)
@click.option("--rows-each", default=100, show_default=True, help="K: groups of the small keys, rows of a large one's.")
@click.option("--seed", default=1, show_default=True)
@force_option
def h2o(rows: int, rows_each: int, seed: int, force: bool) -> None:
    """The whole table of h2o's group-by questions, Parquet."""
    _build("h2o", force, lambda: build_h2o(rows, rows_each, seed))


@main.command()
@click.option("--lines", default=100_000_000, show_default=True)
@click.option("--stations", default=STATIONS, show_default=True)
@click.option("--seed", default=1, show_default=True)
@force_option
def measurements(lines: int, stations: int, seed: int, force: bool) -> None:
    """Temperatures of stations, as text of 1.3 GB."""
    _build("measurements", force, lambda: build_measurements(lines, stations, seed))


@main.command()
@click.option("--bytes", "size", default=RECORDS_SIZE, show_default=True, help="Of all records: 1GB, 4GB...")
@force_option
def records(size: str, force: bool) -> None:
    """Records of 100 bytes to sort, Parquet."""
    _build(f"records-{size}", force, lambda: build_records(size))


@main.command(name="all")
@kjv_option
@force_option
def everything(kjv: Path, force: bool) -> None:
    """All inputs that the comparisons read."""
    _build("kernel", force, lambda: build_kernel(None))
    _build("prose", force, lambda: build_prose(None, kjv))
    for name, size in PART_BYTES.items():
        _build(f"{name}-part", force, functools.partial(build_part, name, size))
    _build("zipf", force, lambda: build_zipf(20_000_000, 1_000_000, 1.1, 1))
    _build("groupby", force, lambda: build_tables(10_000_000, 100_000, 1))
    _build("join", force, lambda: build_join_tables(10_000_000, 1))
    _build("measurements", force, lambda: build_measurements(100_000_000, STATIONS, 1))
    _build(f"records-{RECORDS_SIZE}", force, lambda: build_records(RECORDS_SIZE))


if __name__ == "__main__":
    main()
