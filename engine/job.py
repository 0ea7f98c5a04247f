"""What a frame and a runner say to each other about a job: how to sink it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from kernelmill.engine.events import Event
from kernelmill.engine.sizes import format_things


class SinkOptions(msgspec.Struct, frozen=True):
    """How an output is published: `mode` is error or overwrite; `on_event` hears the job's events, from any thread.

    job_id: what the user calls the job, on a cluster.
    """

    mode: str = "error"
    single_file: bool = False
    on_event: Callable[[Event], None] | None = None
    job_id: str | None = None


@dataclass(frozen=True)
class OutputResult:
    """A named output of a job with several: where it is and what it holds, as of JobResult."""

    path: str
    rows: int
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class JobResult:
    """A finished sink: where the output is and what it holds; `rejects` counts rejected records by reason.

    `bytes` are those of the data files, `seconds` the whole job's, kernels' compilation included. Where a job has
    several outputs, rows, bytes and files are the main one's, `outputs` has the named ones. `job_id`: what the cluster
    calls the job; "" here.
    """

    path: str
    rows: int
    bytes: int
    files: tuple[str, ...]
    counters: Mapping[str, int] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    outputs: Mapping[str, OutputResult] = field(default_factory=dict)
    job_id: str = field(default="", compare=False)

    def __str__(self) -> str:
        rejected = sum(self.rejects.values())
        tail = "".join(f" · {name}: {format_things(made.rows, 'row')}" for name, made in self.outputs.items())
        tail += f" · {format_things(rejected, 'record')} rejected" if rejected else ""
        return f"wrote {self.path}: {format_things(len(self.files), 'file')}, {format_things(self.rows, 'row')}{tail}"


class CollectSummary(msgspec.Struct, frozen=True):
    """What a collected job leaves beside its rows: the value with which the iterator of its batches returns."""

    counters: Mapping[str, int] = msgspec.field(default_factory=dict)
    rejects: pa.Table | None = None
