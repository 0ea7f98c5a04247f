"""One attempt in a slot: run_task between the job's spec and its record. Nothing else of a cluster runs users' code."""

from __future__ import annotations

import os
import shutil
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.blockindex import job_folder
from kernelmill.cluster.data.packs import PackReader, PackWriter
from kernelmill.cluster.data.store import BlockGoneError, ClusterStore, ScratchPlace
from kernelmill.cluster.fields import (
    COUNT_NAMES_BYTES_MAX,
    AttemptKey,
    BlocksOutput,
    Consumed,
    Count,
    FilesOutput,
    OutputFile,
    Problem,
    TaskRecord,
    names_bytes,
)
from kernelmill.cluster.jobspec.opening import OpenJob
from kernelmill.cluster.roots import RootMissingError
from kernelmill.cluster.storage.layout import describe_file, staging_of, tail_of, write_parts, write_rejects
from kernelmill.cluster.tallies import folded
from kernelmill.cluster.worker.selection import RowNamed, SelectedBlocks, group_keys, key_hashes
from kernelmill.cluster.worker.slotcontext import SlotContext, Whereabouts
from kernelmill.cluster.worker.slotframes import RunTask, TaskDone, TaskFailed
from kernelmill.cluster.worker.usersown import users_own
from kernelmill.engine.compiling import for_run
from kernelmill.engine.durable import fsync_folders, output_error, output_errors
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.context import Scratch, TaskResult
from kernelmill.engine.exec.needs import kernels_of
from kernelmill.engine.exec.rowsums import kernels_of_rows
from kernelmill.engine.exec.task import run_task
from kernelmill.engine.grants import plan_grants
from kernelmill.engine.plan.physical import MapBatches, MapColumn, MapGroups
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.settings import Settings
from kernelmill.kernels import _jit

NAME_CHARACTERS_MAX, TEXT_CHARACTERS_MAX, KINDS_MAX = 256, 8000, 1024
PACKED_FROM = 32
"""Tasks of a job after which a slot puts small outputs into a pack: a job of few tasks has a file for each.

The processes in which an isolating slot tries an attempt again and again run fewer: what is made twice under one name
is never in a pack."""
_I63 = (1 << 63) - 1
_NO_THREAD = "can't start new thread"
"""What Python says of it, in a RuntimeError."""

_INPUT = "INPUT_CORRUPT"
_FAILURES: Mapping[Code, str] = {
    Code.CANCELLED: "CANCELLED",
    Code.DISK_FULL: "DISK_FULL",
    Code.CORRUPT_BLOCK: "CORRUPT_BLOCK",
    Code.CODE_REFUSED: "CODE_REFUSED",
    Code.INPUT_CHANGED: "INPUT_CHANGED",
    Code.INPUT_NOT_FOUND: "ROOT_MISSING",  # other workers may have it: its client had
    # what the same bytes will do again, wherever the task runs
    Code.FORMAT: _INPUT,
    Code.ENCODING: _INPUT,
    Code.TRUNCATED: _INPUT,
    Code.SCHEMA_CONFLICT: _INPUT,
    Code.CAST: _INPUT,
    Code.OVERFLOW: _INPUT,
    Code.RECORD_TOO_LONG: _INPUT,
    Code.REJECT_LIMIT: _INPUT,
}
"""What the master does about an error; all others are the task's: tried again, some times."""


_NOTHING = TaskRecord((), (), FilesOutput(()), ())


class _Discarded:
    """In a probe, in place of a user's sink."""

    def write(self, part: int, batches: Iterator[pa.RecordBatch]) -> bytes:
        for _ in batches:
            pass
        return b""


class SlotJob:
    """The job of a slot, opened; runs its attempts one after the other in the calling thread.

    scratch: buffers and tables of jobs before, to be used again.
    """

    def __init__(
        self,
        job: OpenJob,
        place: ScratchPlace,
        memory_bytes: int,
        desk: BlockDesk,
        whereabouts: Whereabouts,
        scratch: Scratch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._place, self._desk, self._whereabouts, self._clock = job, place, desk, whereabouts, clock
        self._functions = tuple(map(for_run, job.plan.functions))
        settings = Settings(threads=1, memory_bytes=memory_bytes, progress="off")
        self._held_bytes = plan_grants(job.plan, settings).held_bytes_of_stage
        self._had_staging = os.path.isdir(staging_of(job.target, job.job))
        self._scratch = scratch or Scratch()
        self._stages_loaded: set[int] = set()
        self._pack = PackWriter(job_folder(place.scratch, place.worker, job.job))
        self._packs = PackReader()
        self._tasks_run = 0
        self._lock = threading.Lock()
        self._cancelled: set[AttemptKey] = set()
        self._running: AttemptKey | None = None

    def cancel(self, attempt: AttemptKey) -> None:
        """End this attempt, now or when it comes. By the reading thread."""
        with self._lock:
            self._cancelled.add(attempt)
            if self._running == attempt:
                self._desk.cancel()

    @property
    def sets_bad_rows_aside(self) -> bool:
        """Whether a row that cannot be processed is rejected, rather than the end of the job."""
        return self._job.on_bad == "reject"

    def calls_with_batches(self, stage: int) -> bool:
        """Whether tasks of a stage hand whole batches, or groups, to a user's function."""
        steps = self._job.plan.pipelines[stage].steps
        return any(isinstance(step, MapBatches | MapColumn | MapGroups) for step in steps)

    def users_own(self, stage: int) -> list[str]:
        """What tasks of a stage call that is a user's: functions, the read of a source, the write of a sink."""
        return users_own(self._job.plan.pipelines[stage], self._job.plan.sources)

    def distinct_keys(self, order: RunTask) -> list[int] | None:
        """The hashes of the keys of all groups that a task begins with, sorted; None if it does not begin with groups.

        No user's code runs.
        """
        keys = group_keys(self._job.plan.pipelines[order.task.stage])
        if not keys:
            return None
        self._desk.begin()
        task = self._job.task(order.task.stage, order.task.index)
        store = ClusterStore(
            self._place, order.task, order.attempt, task, self._desk, self._whereabouts, self._schema_of
        )
        found = np.empty(0, np.uint64)
        for ref in (ref for edge in task.inputs for ref in edge.blocks()):
            for batch in store.read(ref):
                found = np.union1d(found, key_hashes(batch, keys))
        return [int(one) for one in found]

    def run(self, order: RunTask) -> TaskDone | TaskFailed:
        """Run an attempt to its end, whatever that is."""
        began = self._clock()
        self._whereabouts.begin(order.attempt, is_own=not self.users_own(order.task.stage))
        with self._lock:
            self._desk.begin()
            self._running = order.attempt
            if order.attempt in self._cancelled:
                self._desk.cancel()
        try:
            record, consumed, rows, size = self._run(order)
            millis = max(0, int(1000 * (self._clock() - began)))
            return TaskDone(order.attempt, record, consumed, rows, size, millis)
        except BaseException as problem:  # whatever it is, the master must hear of it rather than wait for ever
            return self.failure(order, problem)
        finally:
            with self._lock:
                self._running = None
                self._cancelled.discard(order.attempt)
            self._whereabouts.end()

    def _run(self, order: RunTask) -> tuple[TaskRecord, tuple[Consumed, ...], int, int]:
        key, job = order.task, self._job
        task, pipeline = job.task(key.stage, key.index), job.plan.pipelines[key.stage]
        if key.stage not in self._stages_loaded:
            _jit.load(self._kernels_of(key.stage), lambda name: self._whereabouts.phase("compile"))
            self._stages_loaded.add(key.stage)
        files = _AttemptFolder(job, order.attempt, self._had_staging)
        is_probe = order.only is not None
        self._tasks_run += 1
        store = ClusterStore(
            self._place,
            key,
            order.attempt,
            task,
            self._desk,
            self._whereabouts,
            self._schema_of,
            pack=self._pack if self._tasks_run > PACKED_FROM else None,
            packs=self._packs,
        )
        if task.inputs:
            store.prefetch()
        context = SlotContext(
            self._whereabouts,
            order,
            group_keys(pipeline),
            scratch=self._scratch,
            part_path=self._part_path(key.stage, files, is_probe),
            is_cancelled=lambda: bool(self._cancelled) and order.attempt in self._cancelled,
            on_bad=job.on_bad,
            max_rejects=job.max_rejects,
            memory_bytes_max=self._held_bytes[key.stage],
            sink=_Discarded() if is_probe else job.sink,
        )
        blocks = SelectedBlocks(store, task, context.selection, is_probe, self._whereabouts.rows)
        plan = job.plan
        result = run_task(task, blocks, context, plan.tables, self._functions, plan.sources)
        if is_probe:
            return _NOTHING, (), 0, 0
        self._whereabouts.phase("write")
        record = self._record(key.stage, result, files, store)
        consumed = tuple(
            Consumed(
                each.maps, each.sums.rows, each.sums.sum.to_bytes(8, "little"), each.sums.xor.to_bytes(8, "little")
            )
            for each in store.consumed()
        )
        read = self._whereabouts.place
        rows = sum(each.rows for each in consumed) or read.first_row + read.rows
        return record, consumed, rows, read.size_bytes

    def _kernels_of(self, stage: int) -> list[Callable[..., Any]]:
        """What its tasks call, those that check the rows that it leaves among them."""
        pipeline = self._job.plan.pipelines[stage]
        made = () if self._job.writes_files(stage) else (pipeline.schema, *(each.schema for each in pipeline.branches))
        return [*kernels_of([pipeline]), *chain.from_iterable(map(kernels_of_rows, made))]

    def _schema_of(self, ref: BlockRef) -> pa.Schema:
        pipeline = self._job.plan.pipelines[ref.stage]
        return pipeline.branches[ref.output - 1].schema if ref.output else pipeline.schema

    def _part_path(self, stage: int, files: _AttemptFolder, is_probe: bool) -> str | None:
        if not self._job.writes_files(stage):
            return None
        if not is_probe:
            return files.path(self._job.part_name(stage))
        folder = os.path.join(self._place.scratch, self._place.worker, self._job.job.hex())
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"probe-{os.getpid()}")
        with suppress(FileNotFoundError):
            remove = shutil.rmtree if os.path.isdir(path) else os.unlink
            remove(path)
        return path

    def _record(self, stage: int, result: TaskResult, files: _AttemptFolder, store: ClusterStore) -> TaskRecord:
        output: BlocksOutput | FilesOutput = BlocksOutput(*store.made())
        if self._job.writes_files(stage):
            name = self._job.part_name(stage)
            if result.parts:
                made = write_parts(files.made(), result.parts)
            elif result.part is None:
                _write_receipt(files.path(name), result.receipt)
                made = describe_file(files.made(), name, result.rows)
            else:
                size, tail = tail_of(files.path(name))
                made = OutputFile(name, result.part.rows, size, bytes.fromhex(result.part.checksum), tail)
            output = FilesOutput((made,))
        rejected = (write_rejects(files.made(), result.rejects),) if result.rejects else ()
        files.finish()
        if not result.rejects and not result.counters:
            return TaskRecord((), (), output, ())
        reasons = Counter(_clipped(reject.reason, NAME_CHARACTERS_MAX) for reject in result.rejects)
        return TaskRecord(_counts(result.counters), folded(reasons), output, rejected)

    @property
    def folders(self) -> tuple[str, str]:
        """Where its attempts write: the scratch of this host's workers, and the job's staging."""
        return self._place.scratch, staging_of(self._job.target, self._job.job)

    def failure(self, order: RunTask, problem: BaseException) -> TaskFailed:
        """What the master is told of an attempt that ended so."""
        place = self._whereabouts.place
        batch = place.batch if place.phase in ("run", "engine") else None
        if isinstance(problem, RowNamed):
            named = Problem(Code.FUNCTION_CRASHED.value.wire, *_texts(problem.text, str(problem.place), ""))
            return TaskFailed(order.attempt, "POISON", "", named, None, (problem.origin,))
        told = as_typed(problem)
        if told.code is Code.INPUT_NOT_FOUND:
            told = self._not_found_here(told)
        code = _FAILURES.get(told.code, "USER_ERROR")
        if code == "CANCELLED":
            code = "USER_ERROR"  # nobody asked for it: code of the user's raised it
        if isinstance(problem, BlockGoneError):
            code = problem.failure
        if isinstance(problem, RootMissingError):
            code = "ROOT_MISSING"
        if order.attempt in self._cancelled:
            code = "CANCELLED"
        if code == "DISK_FULL" and told.where.startswith(staging_of(self._job.target, self._job.job)):
            code = "OUTPUT_FULL"
        if code == "USER_ERROR" and not isinstance(problem, KernelmillError | OSError):
            traceback.print_exception(problem)  # to the job's log: it is a bug, ours or a library's
        return TaskFailed(order.attempt, code, type(problem).__name__[:NAME_CHARACTERS_MAX], told_as(told), batch, ())

    def _not_found_here(self, problem: KernelmillError) -> KernelmillError:
        hint = f"{problem.hint}; or has this worker another folder under the root's name, or none mounted there?"
        what = f"{self._job.roots.whose}: {problem.what}"
        return error(problem.code, what, where=problem.where, hint=hint, reason=problem.reason)


class _AttemptFolder:
    """The attempt's folder in staging, made when it is first needed, with a plain mkdir: a zombie's fails.

    So does that of a worker that has another folder than the client under the root's name, and nobody can tell.
    """

    def __init__(self, job: OpenJob, attempt: AttemptKey, had_staging: bool) -> None:
        self._job, self._attempt, self._folder, self._had_staging = job, attempt, "", had_staging

    def made(self) -> str:
        """The folder, which is there. Raises KM0502 once the job is over."""
        if not self._folder:
            folder = self._job.attempt_folder(self._attempt)
            with output_errors("making the attempt's folder in the output's staging", folder):
                try:
                    os.mkdir(folder)
                except FileNotFoundError as problem:
                    raise self._no_staging(folder) from problem
            self._folder = folder
        return self._folder

    def _no_staging(self, folder: str) -> KernelmillError:
        place, staging = self._job.sheet.output, os.path.dirname(os.path.dirname(folder))
        if self._had_staging:
            what = "the staging of this job's output is gone: it was there when the job began on this worker"
            hint = "leave the output's folder and what is hidden in it alone while a job runs; run the job again"
            return error(Code.COMMIT, what, where=staging, hint=hint)
        what = (
            f"{self._job.roots.whose} finds no staging of this job in its root {place.root}, where its client made it"
        )
        hint = (
            f"root {place.root} must be the same folder for the client, the master and all workers; "
            "or was the output's folder removed while the job ran?"
        )
        return RootMissingError(Code.BAD_SETTING, what, where=staging, hint=hint)

    def path(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.made(), name)

    def finish(self) -> None:
        """Make the names durable."""
        if self._folder:
            with output_errors("making the attempt's files durable", self._folder):
                fsync_folders(self._folder, os.path.dirname(self._folder))


def _of_worker(problem: KernelmillError) -> KernelmillError:
    """The same error, where a job's own memory= would do locally: on a cluster it is the worker that has more."""
    if problem.code is not Code.MEMORY_LIMIT or "memory=" not in problem.hint:
        return problem
    hint = problem.hint.replace("memory=", "kernelmill worker --memory, of which each slot has its part")
    return error(problem.code, problem.what, where=problem.where, hint=hint)


def as_typed(problem: BaseException) -> KernelmillError:
    """An error of ours for whatever was raised, as the local runner makes them."""
    if isinstance(problem, KernelmillError):
        return _of_worker(problem)
    if isinstance(problem, MemoryError):
        return error(Code.MEMORY_LIMIT, "the system has no more memory", hint="give the worker more, or fewer slots")
    if isinstance(problem, RuntimeError) and str(problem) == _NO_THREAD:
        hint = "look at the limits on threads and processes of the user and the container (ulimit -u), and at memory"
        return error(Code.MEMORY_LIMIT, "the system starts no more threads", hint=hint)
    if isinstance(problem, KeyboardInterrupt):
        return error(Code.CANCELLED, "the job was cancelled: a function raised KeyboardInterrupt")
    if isinstance(problem, OSError):
        return output_error(problem, "running a task", str(problem.filename or ""))
    hint = "report this with the command, the input's shape and the text above"
    return error(Code.INTERNAL, f"{type(problem).__name__}: {problem}", hint=hint)


def told_as(problem: KernelmillError) -> Problem:
    """The error as it travels."""
    return Problem(problem.code.value.wire, *_texts(problem.what, problem.where, problem.hint))


def _texts(*texts: str) -> list[str]:
    return [_clipped(text, TEXT_CHARACTERS_MAX) for text in texts]


def _clipped(text: str, characters_max: int) -> str:
    """A text that a message can carry: bounded, and without lone surrogates."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _counts(counts: Mapping[str, int]) -> tuple[Count, ...]:
    if len(counts) > KINDS_MAX:
        what, hint = f"{len(counts)} counters in one task; {KINDS_MAX} are allowed", "count by fewer names"
        raise error(Code.BAD_SETTING, what, hint=hint)
    for name, count in counts.items():
        if len(name) > NAME_CHARACTERS_MAX or abs(count) > _I63:
            what = f"the counter {name[:40]!r} has a name of {len(name)} characters and the value {count}"
            hint = f"names have up to {NAME_CHARACTERS_MAX} characters, values fit 64 bits"
            raise error(Code.BAD_SETTING, what, hint=hint)
    if (size := names_bytes(counts)) > COUNT_NAMES_BYTES_MAX:
        what = f"the names of the counters of one task have {size} bytes; {COUNT_NAMES_BYTES_MAX} are allowed"
        raise error(Code.BAD_SETTING, what, hint="count by fewer or shorter names")
    return tuple(Count(name, counts[name]) for name in sorted(counts))


def _write_receipt(path: str, receipt: bytes) -> None:
    with output_errors("writing a sink's receipt", path), open(path, "xb") as file:
        file.write(receipt)
        file.flush()
        os.fsync(file.fileno())
