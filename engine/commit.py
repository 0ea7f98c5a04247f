"""The manifest: what a job left behind, written last inside the output folder. And re-reading an output against it.

`_manifest.json`, version 1, UTF-8 JSON with two-space indents and a final newline; objects that are maps (counters,
rejects, versions) have sorted keys, everything else the order below; equal content gives equal bytes (I1):

    version   1; a reader takes this one and says KM0202 to later ones
    rows      of all files
    bytes     of all files
    files     [{name, rows, bytes, checksum}]: name relative to the folder, checksum xxh3-128 of the file, hex; files
              in folders `column=value` by the bytes of these names
    schema    [{name, type, nullable}]: type as Arrow prints it; columns that are in names of folders come last
    counters  the user's own counters
    rejects   {reason: records}
    reject_files  as files, below _rejects/
    outputs   only of a job with several: [{name, rows, bytes, files, schema}] of the named ones, files below name/
    versions  of kernelmill, pyarrow and the Parquet format: what the bytes depend on
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa
import xxhash

from kernelmill.engine.errors import Code, error
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.leftovers import clean_folder, clean_target, staging_path

MANIFEST_NAME = "_manifest.json"
MANIFEST_VERSION = 1
REJECTS_FOLDER = "_rejects"
OUTPUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""What a named output may be called, by `fullmatch`: a folder that is not hidden, not among the parts, not too long."""
_READ_BYTES = 1 << 20


class PartFile(msgspec.Struct, frozen=True):
    """One closed file: its name, rows, size in bytes, and the xxh3-128 of its bytes in hex."""

    name: str
    rows: int
    bytes: int
    checksum: str


class PlacedFile(PartFile, frozen=True):
    """One of several closed files of a task: `folder` is where it belongs below the output, "" or "year=2020/n=3"."""

    folder: str


class ManifestField(msgspec.Struct, frozen=True):
    """A column of the output; `type` as Arrow prints it."""

    name: str
    type: str
    nullable: bool


class NamedFiles(msgspec.Struct, frozen=True):
    """A named output of a job with several: its files are in a folder of its name, the other fields as Manifest's."""

    name: str
    rows: int
    bytes: int
    files: tuple[PartFile, ...]
    schema: tuple[ManifestField, ...]


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an output holds; the same input and plan give the same manifest, whoever ran it and however.

    `rows`, `bytes`, `files` and `schema` are the main output's where there are others.
    """

    version: int
    rows: int
    bytes: int
    files: tuple[PartFile, ...]
    schema: tuple[ManifestField, ...]
    counters: dict[str, int]
    rejects: dict[str, int]
    reject_files: tuple[PartFile, ...]
    versions: dict[str, str]
    outputs: tuple[NamedFiles, ...] = ()

    @property
    def data_files(self) -> tuple[PartFile, ...]:
        """The files of all outputs."""
        return (*self.files, *(file for output in self.outputs for file in output.files))

    @property
    def names(self) -> set[str]:
        """The names of all that lies in the folder, this manifest included."""
        return {file.name for file in (*self.data_files, *self.reject_files)} | {MANIFEST_NAME}


class Problem(msgspec.Struct, frozen=True):
    """One difference between a manifest and the files: `kind` is missing, extra, size, checksum, rows or unreadable."""

    kind: str
    name: str
    what: str


class CheckReport(msgspec.Struct, frozen=True):
    """What `check` could read, and every difference it found from `against`: "its manifest" or "its footer"."""

    path: str
    against: str
    files: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True if the output is exactly what its manifest, or a single file's footer, says."""
        return not self.problems


def part_names(parts: Sequence[PartFile]) -> list[tuple[str, PartFile]]:
    """The files of an output, in the manifest's order, with their names in it; `parts` are in the order of tasks.

    They are numbered in each folder. Of tasks that write several files those without rows are left out, unless there
    are no others: then one stays, which tells the columns.
    """
    placed = [part for part in parts if isinstance(part, PlacedFile)]
    spare = placed[:1] if placed and not any(part.rows for part in parts) else []
    numbers: dict[str, int] = {}
    named = []
    for part in parts:
        folder = ""
        if isinstance(part, PlacedFile):
            if not part.rows and part not in spare:
                continue
            folder = part.folder
        number = numbers[folder] = numbers.get(folder, -1) + 1
        named.append((os.path.join(folder, f"part-{number:05d}.parquet"), part))
    return sorted(named, key=lambda one: os.fsencode(os.path.join(os.path.dirname(one[0]), "")))


def make_manifest(
    files: Sequence[PartFile],
    schema: pa.Schema,
    *,
    counters: Mapping[str, int],
    rejects: Mapping[str, int],
    reject_files: Sequence[PartFile],
    versions: Mapping[str, str],
    outputs: Sequence[tuple[str, Sequence[PartFile], pa.Schema]] = (),
) -> Manifest:
    """Describe an output whose files have their final names."""
    return Manifest(
        version=MANIFEST_VERSION,
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=tuple(files),
        schema=_fields(schema),
        counters=dict(counters),
        rejects=dict(rejects),
        reject_files=tuple(reject_files),
        versions=dict(versions),
        outputs=tuple(
            NamedFiles(name, sum(f.rows for f in made), sum(f.bytes for f in made), tuple(made), _fields(columns))
            for name, made, columns in outputs
        ),
    )


def _fields(schema: pa.Schema) -> tuple[ManifestField, ...]:
    return tuple(ManifestField(field.name, str(field.type), field.nullable) for field in schema)


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of `_manifest.json`."""
    compact = msgspec.json.encode(manifest, order="deterministic")
    return msgspec.json.format(compact, indent=2) + b"\n"


_NO_MANIFEST_HINT = (
    "its part files can be read as they are: name them by a glob; to write there again, remove the folder first"
)


def decode_manifest(data: bytes, *, where: str = "") -> Manifest:
    """Read a manifest of this version. Raises KM0202 for a later version and for anything else."""
    hint = _NO_MANIFEST_HINT
    try:
        version = msgspec.json.decode(data, type=_VersionOnly).version
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(Code.FORMAT, f"this is not a manifest: {problem}", where=where, hint=hint) from problem
    if version > MANIFEST_VERSION:
        what = f"the manifest has version {version}, this kernelmill reads up to {MANIFEST_VERSION}"
        raise error(Code.FORMAT, what, where=where, hint="upgrade kernelmill: pip install -U kernelmill")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(Code.FORMAT, f"the manifest is damaged: {problem}", where=where, hint=hint) from problem
    for file in (*manifest.data_files, *manifest.reject_files):
        if not _is_inside(file.name):
            what = f"the manifest names {file.name!r}, which is not in its folder"
            raise error(Code.FORMAT, what, where=where, hint=hint)
    return manifest


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of an output folder. Raises KM0201 if there is none, KM0202 if it cannot be understood."""
    path = os.path.join(os.fspath(folder), MANIFEST_NAME)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except IsADirectoryError as problem:
        raise error(Code.FORMAT, "this is a folder, not a manifest", where=path, hint=_NO_MANIFEST_HINT) from problem
    except OSError as problem:
        hint = "give the folder that a job wrote; an output that is one .parquet file has no manifest"
        raise error(Code.INPUT_NOT_FOUND, f"no manifest: {problem.strerror}", where=path, hint=hint) from problem
    return decode_manifest(data, where=path)


def checksum_of(path: str) -> tuple[int, str]:
    """Read a file: its size in bytes and its xxh3-128 in hex. Raises OSError."""
    hasher = xxhash.xxh3_128()
    size_bytes = 0
    buffer = memoryview(bytearray(_READ_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size_bytes += count
    return size_bytes, hasher.hexdigest()


def check(path: str | os.PathLike[str]) -> CheckReport:
    """Re-read an output: a folder against its manifest, a single .parquet file by decoding all its pages.

    Differences are in the report; raises KM0201 or KM0202 only where there is nothing to compare with.
    """
    place = os.fspath(path)
    if os.path.isfile(place):
        return _check_single(place)
    manifest = read_manifest(place)
    problems: list[Problem] = []
    files = rows = size_bytes = 0
    expected = (*manifest.data_files, *manifest.reject_files)
    for file in expected:
        found = _check_part(place, file, problems)
        if found is not None:
            files += 1
            size_bytes += found.bytes
            rows += found.rows if file not in manifest.reject_files else 0
    extra = files_below(place, manifest.names)
    problems += [Problem("extra", name, "the manifest does not name it") for name in extra]
    return CheckReport(place, "its manifest", files, rows, size_bytes, tuple(problems))


def files_below(folder: str, known: set[str]) -> Iterator[str]:
    """Names, relative to an output folder, of what is there and not in `known`, sorted; folders we make are entered."""
    yield from _below(folder, "", known, {REJECTS_FOLDER, *folders_of(known)})


def folders_of(names: Iterable[str]) -> set[str]:
    """The folders in which files of these names lie, and those above them."""
    found: set[str] = set()
    for name in names:
        while (name := os.path.dirname(name)) and name not in found:
            found.add(name)
    return found


def _below(folder: str, prefix: str, known: set[str], ours: set[str]) -> Iterator[str]:
    for entry in sorted(os.listdir(os.path.join(folder, prefix))):
        name = os.path.join(prefix, entry)
        if name in ours and os.path.isdir(os.path.join(folder, name)):
            yield from _below(folder, name, known, ours)
        elif name not in known:
            yield name


def clean(directory: str | os.PathLike[str]) -> list[str]:
    """Remove what dead jobs left in `directory`, and what a dead job that was writing `directory` left beside it.

    Only staging whose lock is free is touched. Returns the paths removed. Raises KM0201 if there is neither `directory`
    nor staging beside it, KM0502 if one resists.
    """
    hint = "name the folder in which a job wrote, or the output of a job that died"
    try:
        place = os.path.realpath(os.fspath(directory))
    except OSError as problem:
        what = f"the current folder cannot be read: {problem.strerror}"
        raise error(Code.INPUT_NOT_FOUND, what, where=os.fspath(directory), hint=hint) from problem
    if not os.path.lexists(place) and not os.path.lexists(staging_path(place)):
        raise error(Code.INPUT_NOT_FOUND, "there is no such folder or output", where=os.fspath(directory), hint=hint)
    inside = clean_folder(place) if os.path.isdir(place) else []
    return clean_target(place) + inside


class _VersionOnly(msgspec.Struct):
    version: int


def _is_inside(name: str) -> bool:
    return bool(name) and not os.path.isabs(name) and ".." not in name.split("/")


def _check_part(folder: str, file: PartFile, problems: list[Problem]) -> PartFile | None:
    """Compare one file: what is there, None if it could not be read; 0 rows if it is no Parquet."""
    path = os.path.join(folder, file.name)
    try:
        size_bytes, checksum = checksum_of(path)
    except FileNotFoundError:
        problems.append(Problem("missing", file.name, "the manifest names it, it is not there"))
        return None
    except OSError as problem:
        problems.append(Problem("unreadable", file.name, str(problem.strerror)))
        return None
    if size_bytes != file.bytes:
        problems.append(Problem("size", file.name, f"{size_bytes} bytes, the manifest says {file.bytes}"))
    elif checksum != file.checksum:
        problems.append(Problem("checksum", file.name, f"{checksum}, the manifest says {file.checksum}"))
    try:
        with open(path, "rb") as opened:
            rows = pq.read_metadata(opened).num_rows
    except (pa.ArrowException, OSError) as problem:
        problems.append(Problem("unreadable", file.name, f"no Parquet footer: {problem}"))
        return PartFile(file.name, 0, size_bytes, checksum)
    if rows != file.rows:
        problems.append(Problem("rows", file.name, f"{rows} rows, the manifest says {file.rows}"))
    return PartFile(file.name, rows, size_bytes, checksum)


def _check_single(path: str) -> CheckReport:
    size_bytes = os.path.getsize(path)
    rows = 0
    problems: list[Problem] = []
    try:
        with open(path, "rb") as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
            for batch in file.iter_batches(use_threads=False):
                rows += batch.num_rows
            if rows != file.metadata.num_rows:
                problems.append(Problem("rows", path, f"{rows} rows, the footer says {file.metadata.num_rows}"))
    except (pa.ArrowException, OSError) as problem:
        problems.append(Problem("unreadable", path, str(problem)))
    return CheckReport(path, "its footer", 1, rows, size_bytes, tuple(problems))
