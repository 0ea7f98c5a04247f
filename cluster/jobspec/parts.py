"""The parts of a job and their bytes. Parts are named by role and SHA-256; all of them are under the job's signature.

    plan    one    MessagePack of PlanPart: stages, columns, outputs, what is to be done about bad rows
    inputs  one    MessagePack of InputsPart: the splits of each stage; files as places below roots
    code    if any cloudpickle of Code: functions, sources, sink; opened in task processes alone
    table   many   Arrow IPC streams: pieces of tables that were in the client's memory, in order

A part has at most 64 MiB; what is larger is a plan error, but for tables, which are cut.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.cluster.fields import JobPart, JobParts, Sheet
from kernelmill.engine.commit import OUTPUT_NAME
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.stages import Stage
from kernelmill.engine.splits import Split

VERSION = 1
_SHOWN = 100
PLAN, INPUTS, CODE, TABLE = "plan", "inputs", "code", "table"


class NamedPart(msgspec.Struct, frozen=True, array_like=True):
    """A named output: the stage that writes it, and its columns."""

    name: str
    stage: int
    schema: pa.Schema


class TablePart(msgspec.Struct, frozen=True, array_like=True):
    """A table that splits name: so many parts of role table hold its batches, in order after those of the one before.

    `rows` are those of each batch. A source whose rows are cached in the client is a table too: `split_batches` says
    how many batches each split has.
    """

    name: str
    parts: int
    rows: tuple[int, ...]
    split_batches: tuple[int, ...] | None = None


class PlanPart(msgspec.Struct, frozen=True, array_like=True):
    """A JobPlan without its splits, tables and functions. `folder` is where the user is, as messages name lines."""

    version: int
    stages: tuple[Stage, ...]
    schema: pa.Schema
    input_bytes: int
    named: tuple[NamedPart, ...]
    is_reduced: bool
    tables: tuple[TablePart, ...]
    folder: str


class InputsPart(msgspec.Struct, frozen=True, array_like=True):
    """The splits of each stage. A file's `place` is "root:part/part"; a place is resolved when it is opened."""

    version: int
    splits: tuple[tuple[Split, ...], ...]


class SignedSpec(msgspec.Struct, frozen=True, array_like=True):
    """What a signature is over: all that a task process goes by, the contents of parts by their SHA-256."""

    version: int
    job: bytes
    sheet: Sheet
    parts: JobParts
    expires_s: int


def spec_digest(job: bytes, sheet: Sheet, parts: JobParts, expires_s: int) -> bytes:
    """The SHA-256 of a job's whole spec; equal specs give equal digests, in every process."""
    return hashlib.sha256(msgspec.msgpack.encode(SignedSpec(VERSION, job, sheet, parts, expires_s))).digest()


def part_of(role: Any, data: bytes) -> JobPart:
    """Name a part by its contents."""
    return JobPart(role, hashlib.sha256(data).digest(), len(data))


def encode_plan(part: PlanPart) -> bytes:
    """The bytes of a plan part."""
    return msgspec.msgpack.encode(part, enc_hook=_schema_bytes)


def decode_plan(data: bytes) -> PlanPart:
    """The plan part behind `data`; KM0607 for anything else. Nothing of it is code.

    Its named outputs are names of folders, each once: storage makes those, and moves files into them.
    """
    part: PlanPart = _decoded(_plan_decoder, data, PLAN)
    names = [one.name for one in part.named]
    bad = next((name for name in names if not OUTPUT_NAME.fullmatch(name) or names.count(name) > 1), None)
    if bad is not None:
        what = f"a job's {PLAN} has an output called {bad[:_SHOWN]!r}: it is no name of a folder, or is there twice"
        raise error(Code.PROTOCOL, what, hint="use up to 100 letters, digits, - and _, a letter or digit first")
    return part


def encode_inputs(part: InputsPart) -> bytes:
    """The bytes of an inputs part."""
    return msgspec.msgpack.encode(part)


def decode_inputs(data: bytes) -> InputsPart:
    """The inputs part behind `data`; KM0607 for anything else."""
    part: InputsPart = _decoded(_inputs_decoder, data, INPUTS)
    return part


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes, role: str) -> Any:
    try:
        part = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, pa.ArrowException, OSError, ValueError) as problem:
        raise error(Code.PROTOCOL, f"a job's part is not its {role}: {problem}") from problem
    if part.version != VERSION:
        what = f"a job's {role} has version {part.version}, this kernelmill reads {VERSION}"
        raise error(Code.PROTOCOL, what, hint="use the same version of kernelmill on all sides")
    return part


def _schema_bytes(value: Any) -> bytes:
    if isinstance(value, pa.Schema):
        return value.serialize().to_pybytes()
    raise error(Code.INTERNAL, f"a job holds a {type(value).__name__}, which has no encoding")


def _schema_of(kind: type, data: Any) -> Any:
    if kind is pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(data))
    raise error(Code.INTERNAL, f"no encoding is known for {kind.__name__}")


_plan_decoder = msgspec.msgpack.Decoder(PlanPart, dec_hook=_schema_of)
_inputs_decoder = msgspec.msgpack.Decoder(InputsPart)
