"""Operators and tasks as bytes: msgpack, the version first. What crosses between processes is this and nothing else.

    pipeline  = [version, Pipeline]        task = [version, Task]

Structs are maps with their tag under "type" (msgspec). Arrow values inside them are Arrow IPC streams: a schema is
its schema message; a type is the schema message of one unnamed field; a scalar is a stream of one row, one column.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Literal
from kernelmill.engine.plan.physical import Pipeline
from kernelmill.engine.plan.stages import Task

VERSION = 1

# msgspec evaluates annotations, and pyarrow's Scalar takes a parameter in its stubs only
Literal.__annotations__["value"] = pa.Scalar


def encode_pipeline(pipeline: Pipeline) -> bytes:
    """The bytes of a stage's operators; equal pipelines give equal bytes."""
    return _encoder.encode([VERSION, pipeline])


def decode_pipeline(data: bytes) -> Pipeline:
    """The operators behind `data`; KM0901 if another version or something else wrote them."""
    pipeline: Pipeline = _decode(data, _pipeline_decoder, "operators")
    return pipeline


def encode_task(task: Task) -> bytes:
    """The bytes of a task, its operators included as they are."""
    return _encoder.encode([VERSION, task])


def decode_task(data: bytes) -> Task:
    """The task behind `data`; KM0901 if another version or something else wrote it."""
    task: Task = _decode(data, _task_decoder, "a task")
    return task


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Any], what: str) -> Any:
    try:
        version, body = _envelope_decoder.decode(data)
    except msgspec.DecodeError as exc:
        raise error(Code.INTERNAL, f"these bytes are not {what}: {exc}") from exc
    if version != VERSION:
        hint = "run the same kernelmill in every process of a job"
        raise error(Code.INTERNAL, f"{what} in version {version}, this kernelmill reads {VERSION}", hint=hint)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, pa.ArrowException, OSError, ValueError, StopIteration) as exc:
        raise error(Code.INTERNAL, f"these bytes are not {what}: {exc}") from exc


def _enc_hook(value: Any) -> bytes:
    if isinstance(value, pa.Schema):
        return value.serialize().to_pybytes()
    if isinstance(value, pa.DataType):
        return pa.schema([pa.field("", value)]).serialize().to_pybytes()
    if isinstance(value, pa.Scalar):
        sink = pa.BufferOutputStream()
        repeated = pa.repeat(value, 1)  # type: ignore[call-overload]  # not as_py: it has no nanoseconds
        batch = pa.record_batch([repeated], names=[""])
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes()
    raise error(Code.INTERNAL, f"a plan holds a {type(value).__name__}, which has no encoding")


def _dec_hook(kind: type, data: Any) -> Any:
    if kind is pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(data))
    if kind is pa.DataType:
        return pa.ipc.read_schema(pa.py_buffer(data)).field(0).type
    if kind is pa.Scalar:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        return batch.column(0)[0]
    raise error(Code.INTERNAL, f"no encoding is known for {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_envelope_decoder = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_pipeline_decoder = msgspec.msgpack.Decoder(Pipeline, dec_hook=_dec_hook)
_task_decoder = msgspec.msgpack.Decoder(Task)
