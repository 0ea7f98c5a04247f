"""A job opened in a task process: its signature is checked, then each part's digest, and then its code is unpickled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

import msgspec
import pyarrow as pa

from kernelmill.cluster.fields import AttemptKey, JobPart, JobParts, Place, Sheet, has_code
from kernelmill.cluster.jobspec.code import Contents
from kernelmill.cluster.jobspec.parts import (
    CODE,
    INPUTS,
    PLAN,
    TABLE,
    PlanPart,
    TablePart,
    decode_inputs,
    decode_plan,
    spec_digest,
)
from kernelmill.cluster.jobspec.registered import open_registered
from kernelmill.cluster.jobspec.tables import SentRows, unpack_table
from kernelmill.cluster.jobspec.unpickling import unpack_code
from kernelmill.cluster.keys.signing import check_signature
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage.layout import attempt_folder
from kernelmill.cluster.versions import VERSIONS_HINT, listed, versions_here
from kernelmill.engine import origin
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.codec import decode_pipeline
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.plan.stages import StageGraph, Task, task_of
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import FileStamp, ParquetFilesSplit, ParquetSplit, Split, TextSplit

_FILES_MAX = 256


class OpenJob:
    """A job whose spec was checked: the plan to run tasks of, and where its output's staging is.

    Paths in `plan` are as the client calls them; `task` gives them places here.
    """

    def __init__(
        self, job: bytes, sheet: Sheet, plan: JobPlan, sink: HeldSink | None, target: str, roots: Roots
    ) -> None:
        self.job, self.sheet, self.plan, self.sink, self.target, self.roots = job, sheet, plan, sink, target, roots
        self.on_bad, self.max_rejects = sheet.policy.on_bad, sheet.policy.rejects_max
        self._found_files: dict[FileStamp, FileStamp] = {}

    def task(self, stage: int, index: int) -> Task:
        """The value of a task, its files found below this process's roots. Raises KM0607, KM0107 where they are not."""
        task = task_of(self.plan.graph, stage, index)
        return task if task.split is None else msgspec.structs.replace(task, split=self._found(task.split))

    def _found(self, split: Split) -> Split:
        match split:
            case TextSplit(ranges=ranges):
                found = (msgspec.structs.replace(one, file=self._found_file(one.file)) for one in ranges)
                return TextSplit(tuple(found))
            case ParquetSplit(file=file):
                return msgspec.structs.replace(split, file=self._found_file(file))
            case ParquetFilesSplit(parts=parts):
                return ParquetFilesSplit(
                    tuple(msgspec.structs.replace(one, file=self._found_file(one.file)) for one in parts)
                )
            case _:
                return split

    def _found_file(self, file: FileStamp) -> FileStamp:
        """A file with its place here, looked for once for all of its splits that come after one another."""
        found = self._found_files.get(file)
        if found is None:
            root, _, parts = file.place.partition(":")
            path = self.roots.path_of(Place(root, tuple(parts.split("/"))))
            if len(self._found_files) >= _FILES_MAX:
                self._found_files.clear()
            found = self._found_files[file] = msgspec.structs.replace(file, place=path)
        return found

    def writes_files(self, stage: int) -> bool:
        """Whether a stage's tasks leave a file in staging, under `part_name`, rather than blocks."""
        return isinstance(self.plan.pipelines[stage].end, physical.ToParquet | physical.ToArrow | physical.ToSink)

    def part_name(self, stage: int) -> str:
        """The name of the file that an attempt at a task of this stage leaves in its folder."""
        return part_name(self.plan.pipelines[stage])

    def attempt_folder(self, attempt: AttemptKey) -> str:
        """Where the files of an attempt go: made by the slot with os.mkdir, which fails once the job is over."""
        return attempt_folder(self.target, self.job, attempt)


def open_job(
    job: bytes,
    sheet: Sheet,
    parts: JobParts,
    signature: bytes,
    expires_s: int,
    *,
    folder: str,
    code_key: bytes,
    now_s: float,
    roots: Roots,
    registered: Collection[str] | None = None,
) -> OpenJob:
    """Open the job whose parts lie in `folder` under their SHA-256 in hex. Only in a task process: it runs users' code.

    registered: the functions that this worker runs, if it does not run all that is signed.

    Raises KM0609, before anything is unpickled, unless a holder of the code key signed exactly this spec and the parts
    are those of it; KM0603 for other versions than those here, KM0607 for parts that make no sense.
    """
    check_signature(signature, code_key, spec_digest(job, sheet, parts, expires_s), expires_s, now_s)
    if sheet.versions != versions_here():
        what = f"the job was planned with {listed(sheet.versions)}, this process has {listed(versions_here())}"
        raise error(Code.VERSION, what, hint=VERSIONS_HINT)
    plan_part = decode_plan(_only(parts, PLAN, folder))
    inputs = decode_inputs(_only(parts, INPUTS, folder))
    tables = _tables(plan_part, [part for part in parts if part.role == TABLE], folder)
    origin.speak_from(plan_part.folder)
    contents = _contents(sheet, parts, folder, registered)
    plan = _plan(plan_part, inputs.splits, tables, contents)
    return OpenJob(job, sheet, plan, contents.sink, roots.path_of(sheet.output), roots)


def _contents(sheet: Sheet, parts: JobParts, folder: str, registered: Collection[str] | None) -> Contents:
    """The user's own of a job, if it has any: by names of what is registered here, or unpickled where all may run."""
    if not has_code(parts):
        return Contents((), {}, None)
    if sheet.policy.code == "registered":
        return open_registered(_only(parts, CODE, folder), registered or ())
    if registered is not None:
        what = "this worker runs registered functions only, and the job brings its code along"
        listed = ", ".join(sorted(registered)) or "none"
        hint = f"km.connect(..., code_policy='registered') sends names of functions; listed are: {listed}"
        raise error(Code.CODE_REFUSED, what, hint=hint)
    return unpack_code(_only(parts, CODE, folder))


def read_part(part: JobPart, folder: str) -> bytes:
    """The bytes of a part, which must be those that its SHA-256 names. Raises KM0609 if they are not."""
    path = os.path.join(folder, part.sha256.hex())
    try:
        with open(path, "rb") as file:
            data = file.read(part.size_bytes + 1)
    except OSError as problem:
        what = f"a part of the job cannot be read: {problem.strerror}"
        raise error(Code.CODE_REFUSED, what, where=path, hint="submit the job again") from problem
    if len(data) != part.size_bytes or hashlib.sha256(data).digest() != part.sha256:
        raise error(Code.CODE_REFUSED, "a part of the job is not what was signed", where=path, hint=_PART_HINT)
    return data


def part_name(pipeline: physical.Pipeline) -> str:
    """The name of the file that an attempt at a task with this pipeline leaves, or of the folder of its files."""
    match pipeline.end:
        case physical.ToArrow():
            return "part.arrow"
        case physical.ToSink():
            return "part.json"
        case physical.ToParquetFiles():
            return "parts"
        case _:
            return "part.parquet"


_PART_HINT = "submit the job again; if it comes back, look at the disk of this process's scratch folder"


def _only(parts: JobParts, role: str, folder: str) -> bytes:
    found = [part for part in parts if part.role == role]
    if len(found) != 1:
        raise error(Code.PROTOCOL, f"a job has {len(found)} parts of role {role}, and needs one")
    return read_part(found[0], folder)


_Tables = Mapping[str, tuple[TablePart, tuple[pa.RecordBatch, ...]]]


def _tables(plan: PlanPart, parts: Sequence[JobPart], folder: str) -> _Tables:
    """Each table of the client's memory, by name, with what the plan says of it."""
    if sum(table.parts for table in plan.tables) != len(parts):
        raise error(Code.PROTOCOL, "a job has other parts of tables than its plan says")
    found = {}
    rest = iter(parts)
    for table in plan.tables:
        pieces = (read_part(part, folder) for part in islice(rest, table.parts))
        found[table.name] = (table, unpack_table(table, pieces))
    return found


def _plan(part: PlanPart, splits: Sequence[tuple[Split, ...]], tables: _Tables, contents: Contents) -> JobPlan:
    if len(splits) != len(part.stages):
        raise error(Code.PROTOCOL, "a job has splits for other stages than it has")
    pairs = zip(part.stages, splits, strict=True)
    stages = tuple(msgspec.structs.replace(stage, splits=own) for stage, own in pairs)
    sources: dict[str, HeldSource] = dict(contents.sources)
    sources |= {name: SentRows(*one) for name, one in tables.items() if one[0].split_batches is not None}
    return JobPlan(
        StageGraph(stages),
        tuple(decode_pipeline(stage.operators) for stage in stages),
        {name: batches for name, (table, batches) in tables.items() if table.split_batches is None},
        part.schema,
        part.input_bytes,
        contents.functions,
        sources,
        tuple((one.name, one.stage, one.schema) for one in part.named),
        part.is_reduced,
    )
