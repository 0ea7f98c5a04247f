"""What a frame and a runner say to each other about a job: how to sink it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from kernelmill.engine.events import Event
from kernelmill.engine.sizes import format_things


@dataclass(frozen=True)
class SinkOptions:
    """How an output is published: `mode` is error or overwrite; `on_event` hears the job's events, from any thread."""

    mode: str = "error"
    single_file: bool = False
    on_event: Callable[[Event], None] | None = None


@dataclass(frozen=True)
class JobResult:
    """A finished sink: where the output is and what it holds; `rejects` counts rejected records by reason.

    `bytes` are those of the data files, `seconds` the whole job's, kernels' compilation included.
    """

    path: str
    rows: int
    bytes: int
    files: tuple[str, ...]
    counters: Mapping[str, int] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        rejected = sum(self.rejects.values())
        tail = f" · {format_things(rejected, 'record')} rejected" if rejected else ""
        return f"wrote {self.path}: {format_things(len(self.files), 'file')}, {format_things(self.rows, 'row')}{tail}"


@dataclass(frozen=True)
class CollectSummary:
    """What a collected job leaves beside its rows: the value with which the iterator of its batches returns."""

    counters: Mapping[str, int] = field(default_factory=dict)
    rejects: pa.Table | None = None
