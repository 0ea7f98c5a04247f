"""A planned job made ready to travel: parts, sheet and signature. In the client."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from kernelmill.cluster.fields import PART_BYTES_MAX, JobParts, Place, Policy, Sheet, SheetEdge, SheetStage
from kernelmill.cluster.jobspec.code import Contents, pack_code
from kernelmill.cluster.jobspec.likeness import likeness_of
from kernelmill.cluster.jobspec.parts import (
    CODE,
    INPUTS,
    PLAN,
    TABLE,
    VERSION,
    InputsPart,
    NamedPart,
    PlanPart,
    encode_inputs,
    encode_plan,
    part_of,
    spec_digest,
)
from kernelmill.cluster.jobspec.registered import pack_registered
from kernelmill.cluster.jobspec.tables import pack_tables
from kernelmill.cluster.keys.signing import EXPIRY_S, sign_spec
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.versions import versions_here
from kernelmill.engine.caching import CachedRows
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.codec import decode_pipeline, encode_pipeline
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.plan.stages import Stage, StageGraph
from kernelmill.engine.settings import Settings
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.sizes import format_bytes
from kernelmill.engine.splits import FileStamp, ParquetFilesSplit, ParquetSplit, Split, TextSplit

_PARTS_MAX = 1024
_LABEL_CHARACTERS_MAX = 64


class PackedJob(NamedTuple):
    """A job as a client submits it; `contents` are the bytes of its parts by SHA-256."""

    job: bytes
    sheet: Sheet
    parts: JobParts
    contents: dict[bytes, bytes]
    signature: bytes
    expires_s: int


def for_collecting(plan: JobPlan) -> JobPlan:
    """The job with files of Arrow rows at its end, instead of blocks that stay where they were made."""
    last = plan.pipelines[-1]
    pipeline = physical.Pipeline(last.source, last.steps, physical.ToArrow(last.schema), last.schema, last.branches)
    stage = msgspec.structs.replace(plan.graph.last, operators=encode_pipeline(pipeline), partitions=0)
    graph = StageGraph((*plan.graph.stages[:-1], stage))
    return msgspec.structs.replace(plan, graph=graph, pipelines=(*plan.pipelines[:-1], pipeline))


class UnsignedJob(NamedTuple):
    """A job that has no id and no signature yet; `contents` are the bytes of its parts by SHA-256."""

    sheet: Sheet
    parts: JobParts
    contents: dict[bytes, bytes]
    plan: PlanPart
    code: Contents

    def likeness(self) -> bytes:
        """A digest that is equal if a job would do the same, in whatever process it is planned. Raises KM0107."""
        plan = encode_plan(msgspec.structs.replace(self.plan, folder=""))
        same = [part.sha256 for part in self.parts if part.role in (INPUTS, TABLE)]
        return likeness_of(self.code, [plan, msgspec.msgpack.encode(self.sheet), *same])

    def sign(self, job: bytes, code_key: bytes, now_s: float) -> PackedJob:
        """Give it an id, and the signature over all of it; `now_s` counts from 1970."""
        expires_s = int(now_s) + EXPIRY_S
        signature = sign_spec(code_key, spec_digest(job, self.sheet, self.parts, expires_s), expires_s)
        return PackedJob(job, self.sheet, self.parts, self.contents, signature, expires_s)


def pack(
    plan: JobPlan,
    *,
    output: Place,
    mode: str,
    settings: Settings,
    roots: Roots,
    verify_output: str = "tail",
    code_policy: str = "signed",
    sink: HeldSink | None = None,
) -> UnsignedJob:
    """Make the parts of a job and its sheet.

    code_policy: functions travel "signed", as they are, or as the names under which workers have them "registered".

    verify_output: what is read of a part before it is published: its "tail", or all of it ("full").

    Raises KM0107 for inputs outside the roots, functions that cannot travel, and jobs too large to be sent; KM0609 for
    functions without a name that could be registered.
    """
    cached = {name: source for name, source in plan.sources.items() if isinstance(source, CachedRows)}
    others = {name: source for name, source in plan.sources.items() if name not in cached}
    tables, pieces = pack_tables(plan.tables, cached, settings.memory_bytes)
    files: dict[FileStamp, FileStamp] = {}  # a large file is in many splits
    splits = tuple(tuple(_placed(split, roots, files) for split in stage.splits) for stage in plan.graph.stages)
    named = tuple(NamedPart(name, stage, schema) for name, stage, schema in plan.named)
    bare = tuple(msgspec.structs.replace(stage, splits=()) for stage in plan.graph.stages)
    folder = _working_folder()
    told = PlanPart(VERSION, bare, plan.schema, plan.input_bytes, named, plan.is_reduced, tables, folder)
    code = Contents(plan.functions, others, sink)
    bodies = [
        (PLAN, encode_plan(told)),
        (INPUTS, encode_inputs(InputsPart(VERSION, splits))),
        *(
            ()
            if code.is_empty
            else ((CODE, pack_registered(code) if code_policy == "registered" else pack_code(code)),)
        ),
        *((TABLE, piece) for piece in pieces),
    ]
    for role, body in bodies:
        if len(body) > PART_BYTES_MAX:
            raise _too_large(f"its {role} takes {format_bytes(len(body))}", format_bytes(PART_BYTES_MAX, binary=True))
    if len(bodies) > _PARTS_MAX:
        raise _too_large(f"it is sent in {len(bodies)} parts", str(_PARTS_MAX))
    parts = tuple(part_of(role, body) for role, body in bodies)
    sheet = Sheet(
        tuple(map(_sheet_stage, plan.graph.stages)),
        output,
        _policy(settings, mode, verify_output, code_policy),
        versions_here(),
    )
    by_sum = {part.sha256: body for part, (_, body) in zip(parts, bodies, strict=True)}
    return UnsignedJob(sheet, parts, by_sum, told, code)


def _sheet_stage(stage: Stage) -> SheetStage:
    pipeline = decode_pipeline(stage.operators)
    partitions = (stage.partitions, *(branch.partitions for branch in pipeline.branches)) if stage.partitions else ()
    edges = tuple(SheetEdge(edge.source, edge.kind.value, edge.output) for edge in stage.inputs)
    return SheetStage(stage.label[:_LABEL_CHARACTERS_MAX], stage.tasks, partitions, edges)


def _policy(settings: Settings, mode: str, verify_output: str, code_policy: str) -> Policy:
    return Policy(
        on_bad="reject" if settings.on_bad == "reject" else "error",
        rejects_max=settings.max_rejects,
        mode="overwrite" if mode == "overwrite" else "error",
        code="registered" if code_policy == "registered" else "signed",
        verify_output="full" if verify_output == "full" else "tail",
        attempts_max=min(32, settings.max_attempts),
        fails_without_workers=False,
    )


def _placed(split: Split, roots: Roots, files: dict[FileStamp, FileStamp]) -> Split:
    """A split whose files are also named by root and parts."""
    match split:
        case TextSplit(ranges=ranges):
            moved = tuple(msgspec.structs.replace(one, file=_placed_file(one.file, roots, files)) for one in ranges)
            return TextSplit(moved)
        case ParquetSplit(file=file):
            return msgspec.structs.replace(split, file=_placed_file(file, roots, files))
        case ParquetFilesSplit(parts=parts):
            return ParquetFilesSplit(
                tuple(msgspec.structs.replace(one, file=_placed_file(one.file, roots, files)) for one in parts)
            )
        case _:
            return split


def _placed_file(file: FileStamp, roots: Roots, files: dict[FileStamp, FileStamp]) -> FileStamp:
    found = files.get(file)
    if found is None:
        place = roots.place_of(os.path.realpath(file.path))
        found = files[file] = msgspec.structs.replace(file, place=f"{place.root}:{'/'.join(place.parts)}")
    return found


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed: messages then name files by their last part
        return ""


def _too_large(what: str, allowed: str) -> Exception:
    hint = "read fewer files in one job, or put tables and side data into files that tasks read"
    return error(Code.BAD_SETTING, f"this job is too large to be sent: {what}, {allowed} are allowed", hint=hint)
